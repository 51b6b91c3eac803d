"""VRRP instances, and the synchronisation of connections."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.config.load import load
from lvsd.config.model import (
    Command,
    DirectorAddress,
    Notify,
    Scope,
    SyncSettings,
    TrackedCommand,
    TrackedInterface,
    TrackedService,
    VrrpInstance,
)
from lvsd.edge.loader import Files
from lvsd.errors import ConfigError
from lvsd.model import Address
from lvsd.vrrp.virtual_mac import parse_name

if TYPE_CHECKING:
    from conftest import FakeNames, Loads

    from lvsd.config.model import Settings

GOOD = Path(__file__).parent / "good"
VIP = DirectorAddress(Address.parse("192.168.0.101"), 24, "eth0")
LEAST = "virtual_services: {}\nvrrp:\n  vip: {interface: eth0, virtual_router_id: 51, "


def only(loads: Loads, settings: str = "addresses: [192.168.0.101/24]") -> VrrpInstance:
    """Return the one instance that `settings` are added to."""
    config, _ = loads(f"{LEAST}{settings}}}\n")
    (instance,) = config.settings.vrrp
    return instance


@pytest.fixture
def whole(names: FakeNames) -> Settings:
    config, _ = load(str(GOOD / "vrrp.yaml"), Files(), names)
    return config.settings


def test_least_instance_has_the_defaults_of_the_contract(loads: Loads) -> None:
    assert only(loads) == VrrpInstance(
        name="vip",
        interface="eth0",
        vrid=51,
        version=3,
        family=4,
        priority=100,
        interval=1.0,
        password="",
        preempt=True,
        preempt_delay=0.0,
        addresses=(VIP,),
        excluded=(),
        peers=(),
        source=None,
        sync_group="",
        virtual_mac=False,
        track=(),
        notify=Notify(),
    )


def test_settings_of_an_instance_are_what_they_are_written_to_be(whole: Settings) -> None:
    user = "lvsd"
    assert whole.vrrp[0] == VrrpInstance(
        name="vip",
        interface="eth0",
        vrid=51,
        version=3,
        family=4,
        priority=150,
        interval=0.25,
        preempt_delay=300.0,
        addresses=(
            VIP,
            DirectorAddress(Address.parse("192.168.0.102"), 32, "eth1", "eth1:15-letters", Scope.LINK),
        ),
        excluded=(
            DirectorAddress(Address.parse("2001:db8::101"), 64, "eth0"),
            DirectorAddress(Address.parse("fe80::101"), 64, "eth1"),
            DirectorAddress(Address.parse("fe80::101"), 64, "eth0"),
        ),
        peers=(Address.parse("192.168.0.3"), Address.parse("192.168.0.2")),
        source=Address.parse("192.168.0.1"),
        sync_group="both",
        virtual_mac=True,
        track=(
            TrackedInterface("eth1"),
            TrackedInterface("eth2", 10),
            TrackedService("www"),
            TrackedService("telnet", 253),
            TrackedCommand("echo", Command(("/bin/echo", "a b", "c d")), 2.0, 2.0, 1, 1),
            TrackedCommand("again", Command(("/bin/true", "a b"), user), 5.0, 1.0, 2, 3, 20),
        ),
        notify=Notify(
            any=Command(("/bin/true", "any"), user),
            master=Command(("/bin/true", "master"), user),
            backup=Command(("/bin/true", "b"), user),
            fault=Command(("/bin/true", "f"), user),
            stop=Command(("/bin/true", "s"), user),
        ),
    )


def test_one_vrid_serves_both_ip_versions_and_several_interfaces(whole: Settings) -> None:
    assert [(each.vrid, each.family, each.interface) for each in whole.vrrp] == [
        (51, 4, "eth0"),
        (51, 6, "eth0"),
        (51, 4, "eth1"),
    ]


def test_peers_that_are_names_have_the_ip_version_of_the_instance(whole: Settings) -> None:
    assert [each.peers[:1] for each in whole.vrrp] == [
        (Address.parse("192.168.0.3"),),
        (Address.parse("2001:db8::5"),),
        (),
    ]


def test_a_password_goes_with_version_2_and_is_not_shown(whole: Settings) -> None:
    assert (whole.vrrp[2].password, whole.vrrp[2].version, whole.vrrp[2].interval) == ("8 chars!", 2, 255.0)
    assert "8 chars!" not in repr(whole)


@pytest.mark.parametrize("written", ["/bin/true everything", '[/bin/true, "a b"]'])
def test_a_notify_command_alone_is_for_every_state(loads: Loads, written: str) -> None:
    written = written.replace("/bin/true", "/etc/lvsd/notify.sh")
    notify = only(loads, f"addresses: [192.168.0.101/24], notify: {written}").notify
    assert notify.any is not None
    assert notify == Notify(any=notify.any)
    assert len(notify.any.argv) == 2


@pytest.mark.parametrize("interval", [f"{10 * count}ms" for count in range(1, 4096, 7)])
def test_each_centisecond_is_an_interval_of_version_3(loads: Loads, interval: str) -> None:
    settings = f"addresses: [192.168.0.101/24], advertisement_interval: {interval}"
    assert only(loads, settings).interval == pytest.approx(int(interval[:-2]) / 1000)


def test_an_instance_of_255_addresses_is_the_largest(loads: Loads) -> None:
    addresses = [f"192.168.{number // 200}.{number % 200 + 1}/16" for number in range(256)]
    assert len(only(loads, f"addresses: [{', '.join(addresses[:255])}]").addresses) == 255
    with pytest.raises(ConfigError) as caught:
        only(loads, f"addresses: [{', '.join(addresses)}]")
    (mistake,) = caught.value.mistakes
    assert (mistake.path, mistake.message) == (
        "vrrp.vip.addresses[255]",
        "an advertisement holds 255 addresses at most, not 256: put the others under excluded_addresses",
    )


@pytest.mark.parametrize(
    "name",
    ["vrrp.1", "vrrp.255", "vrrp6.51", "vrrp.0", "vrrp.051", "vrrp.1000", "vrrp.5a", "vrrp", "vrrp4.5"],
)
def test_the_interfaces_that_lvsd_makes_carry_no_instance_and_others_do(loads: Loads, name: str) -> None:
    text = f"{LEAST.replace('eth0', name)}addresses: [192.168.0.101/24]}}\n"
    if parse_name(name) is None:
        assert loads(text)[0].settings.vrrp[0].interface == name
        return
    with pytest.raises(ConfigError, match=f"vrrp.vip.interface: {re.escape(name)} is an interface that"):
        loads(text)


def test_instances_of_several_files_are_merged(loads: Loads) -> None:
    config, _ = loads(
        "include: more.yaml\nvirtual_services: {}\n"
        "vrrp: {a: {interface: eth0, virtual_router_id: 1, addresses: [192.0.2.1/24]}}\n",
        more="vrrp: {b: {interface: eth0, virtual_router_id: 2, addresses: [192.0.2.2/24]}}\n",
    )
    assert [instance.name for instance in config.settings.vrrp] == ["a", "b"]


def test_a_mistake_in_an_included_instance_has_that_files_place(loads: Loads) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(
            "include: more.yaml\nvirtual_services: {}\n"
            "vrrp: {a: {interface: eth0, virtual_router_id: 1, addresses: [192.0.2.1/24]}}\n",
            more="vrrp:\n  b: {interface: eth0, virtual_router_id: 1, addresses: [192.0.2.2/24]}\n",
        )
    assert str(caught.value) == (
        "more.yaml:2:43: vrrp.b.virtual_router_id: 1 is vrrp.a's on eth0 (IPv4) already, at lvsd.yaml:3:48"
    )


def test_names_under_vrrp_are_looked_up_together_with_the_others(loads: Loads, names: FakeNames) -> None:
    loads(
        "virtual_services: {a: {address: '192.168.0.101:80', real_servers: [rs1]}}\n"
        "vrrp:\n"
        "  a: {interface: eth0, virtual_router_id: 1, addresses: [rs2/24], unicast_peers: [rs3, 192.0.2.9]}\n"
        "  b: {interface: eth0, virtual_router_id: 1, addresses: ['2001:db8::1/64'], unicast_peers: [rs3],\n"
        "      excluded_addresses: [{address: rs4/24}], source_address: six}\n"
    )
    assert sorted(names.prefetched) == [
        ("rs1", 4),
        ("rs2", 4),
        ("rs3", 4),
        ("rs3", 6),
        ("rs4", 4),
        ("six", 6),
    ]
    assert set(names.asked) <= set(names.prefetched)


def test_an_instance_that_does_not_load_hides_no_other_mistake(loads: Loads) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(
            "virtual_services: {}\nipvs: {sync: {interface: eth0, instance: a}}\nvrrp:\n"
            "  a: {interface: eth0, virtual_router_id: 0, addresses: [192.0.2.1/24]}\n"
            "  b: {interface: eth0, virtual_router_id: 1, addresses: [192.0.2.2/24], priority: 0}\n"
            "  c: {interface: eth0, virtual_router_id: 1, addresses: [192.0.2.3/24]}\n"
        )
    assert [mistake.path for mistake in caught.value.mistakes] == [
        "vrrp.a.virtual_router_id",
        "vrrp.b.priority",
        "vrrp.c.virtual_router_id",
    ]


def test_synchronisation_goes_with_the_only_instance_and_its_vrid(loads: Loads) -> None:
    config, _ = loads(
        f"{LEAST}addresses: [192.168.0.101/24]}}\nipvs: {{sync: {{interface: eth1}}}}\n",
    )
    assert config.settings.ipvs.sync == SyncSettings("eth1", "vip", 51)


def test_synchronisation_is_what_it_is_written_to_be(whole: Settings) -> None:
    assert whole.ipvs.sync == SyncSettings(
        interface="eth2",
        instance="vip6",
        id=7,
        group=Address.parse("ff02::81"),
        port=8849,
        ttl=255,
        mtu=1400,
    )


def test_a_synchronisation_port_may_be_a_name(loads: Loads) -> None:
    config, _ = loads(
        f"{LEAST}addresses: [192.168.0.101/24]}}\nipvs: {{sync: {{interface: eth1, port: sip, id: 0}}}}\n"
    )
    assert config.settings.ipvs.sync == SyncSettings("eth1", "vip", 0, port=5060)
