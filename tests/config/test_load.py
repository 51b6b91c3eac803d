"""What a configuration in lvsd's YAML comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lvsd.config.document import MOST_MISTAKES, MOST_NOTES
from lvsd.config.load import load
from lvsd.config.model import (
    DirectorAddress,
    Host,
    HttpCheck,
    Initial,
    IpvsSettings,
    Level,
    LogFormat,
    LogSettings,
    OnFailure,
    OnStop,
    RealServer,
    TcpCheck,
    TelnetCheck,
    VirtualService,
)
from lvsd.config.source import Program, Unreadable
from lvsd.errors import ConfigError
from lvsd.model import (
    Address,
    FirewallMark,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    VirtualAddress,
)

if TYPE_CHECKING:
    from conftest import FakeNames, Loads

VIP = Address.parse("192.168.0.101")
SERVICE = "virtual_services:\n  www: {address: '192.168.0.101:www', real_servers: [rs1], "


class NoFiles:
    def read(self, path: str) -> bytes:  # noqa: ARG002 - as the real one
        message = "does not exist"
        raise Unreadable(message)

    def glob(self, pattern: str) -> list[str]:  # noqa: ARG002 - as the real one
        return []

    def program(self, path: str) -> Program:
        raise Unreadable(path)


def only(loads: Loads, settings: str) -> VirtualService:
    """Return the one service that `settings` are added to."""
    config, _ = loads(f"{SERVICE}{settings}}}\n")
    (service,) = config.services
    return service


def test_least_configuration_has_the_defaults_of_the_contract(loads: Loads) -> None:
    config, notes = loads("virtual_services: {}\n")
    assert config.format == "lvsd"
    assert config.files == ("lvsd.yaml",)
    assert config.settings.director == "vs1"
    assert config.settings.log == LogSettings(LogFormat.AUTO, "", Level.INFO)
    assert config.settings.ipvs == IpvsSettings(10.0, OnStop.KEEP)
    assert config.settings.addresses == ()
    assert config.settings.vrrp == ()
    assert config.services == ()
    assert notes == ()


def test_least_service_has_the_defaults_of_the_contract(loads: Loads) -> None:
    service = only(loads, "")
    assert service == VirtualService(
        name="www",
        key=VirtualAddress(Protocol.TCP, VIP, 80),
        vip=Host("192.168.0.101", VIP),
        service=Service("wlc"),
        forwarding=Forwarding.DR,
        check=service.check,
        initial=Initial.PROBE,
        on_failure=OnFailure.REMOVE,
        sorry_server=None,
        real_servers=(RealServer(Host("rs1", Address.parse("192.168.0.3")), 80, 1),),
    )


def test_least_http_check_has_the_defaults_of_the_contract(loads: Loads) -> None:
    assert only(loads, "check: {type: http}").check == HttpCheck(
        interval=2.0,
        fast_interval=0.2,
        timeout=1.0,
        rise=2,
        fall=2,
        path="/",
        method="GET",
        host="",
        headers=(),
        status=((200, 299),),
        expect="",
        follow_redirects=False,
        body_limit=64 * 1024,
    )


def test_fast_interval_is_never_longer_than_the_interval(loads: Loads) -> None:
    check = only(loads, "check: {type: tcp, interval: 50ms}").check
    assert check is not None
    assert check.fast_interval == 0.05


def test_settings_are_what_they_are_written_to_be(loads: Loads) -> None:
    check = only(
        loads,
        "check: {type: http, path: /t, method: HEAD, host: a.example, headers: {X-A: b}, body_limit: 1MiB,"
        " status: [200, 301-308], follow_redirects: yes, timeout: 500ms, rise: 3, fall: 1, port: 8080,"
        " bind: 192.0.2.1}",
    ).check
    assert check == HttpCheck(
        interval=2.0,
        fast_interval=0.2,
        timeout=0.5,
        rise=3,
        fall=1,
        port=8080,
        bind=Address.parse("192.0.2.1"),
        path="/t",
        method="HEAD",
        host="a.example",
        headers=(("X-A", "b"),),
        status=((200, 200), (301, 308)),
        expect="",
        follow_redirects=True,
        body_limit=1024 * 1024,
    )


def test_values_get_their_type_from_the_schema_not_from_their_look(loads: Loads) -> None:
    config, _ = loads(
        "checks:\n  on: {type: tcp, expect: 22:22, send: 1e3}\n"
        "virtual_services:\n  22: {address: 192.168.0.101:22, check: on, real_servers: [rs1]}\n",
    )
    (service,) = config.services
    assert service.name == "22"
    assert isinstance(service.check, TcpCheck)
    assert (service.check.expect, service.check.send) == ("22:22", b"1e3")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.168.0.101:80", HttpCheck),
        ("192.168.0.101:telnet", TelnetCheck),
        ("192.168.0.101:8080", TcpCheck),
        ("[2001:db8::1]:80", HttpCheck),
    ],
)
def test_probe_is_the_one_the_port_suggests(loads: Loads, address: str, expected: type) -> None:
    config, notes = loads(f"virtual_services: {{a: {{address: '{address}', real_servers: []}}}}\n")
    assert type(config.services[0].check) is expected
    assert notes == ()


@pytest.mark.parametrize("protocol", ["udp", "sctp"])
def test_udp_and_sctp_are_not_probed_unless_asked_for_and_a_note_says_so(loads: Loads, protocol: str) -> None:
    config, notes = loads(f"{SERVICE}protocol: {protocol}}}\n")
    assert config.services[0].check is None
    (note,) = notes
    assert str(note) == (
        f"lvsd.yaml:2:3: virtual_services.www: note: {protocol} servers are not probed unless a check is "
        "given: they count as up"
    )
    _, notes = loads(f"{SERVICE}protocol: {protocol}, check: none}}\n")
    assert notes == ()


def test_weights_that_the_scheduler_ignores_are_noted(loads: Loads) -> None:
    text = (
        "virtual_services:\n  www:\n    address: 192.168.0.101:80\n    scheduler: rr\n"
        "    real_servers: [rs1, {address: rs2, weight: 2}]\n"
    )
    _, (note,) = loads(text)
    assert str(note).startswith("lvsd.yaml:4:16: virtual_services.www.scheduler: note: rr does not look at")


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("rs1", "192.168.0.3", 80),
        ("rs1:http", "192.168.0.3", 80),
        ("192.0.2.7", "192.0.2.7", 80),
        ("{address: rs1, weight: 0}", "192.168.0.3", 80),
    ],
)
def test_real_server_may_be_a_name_or_an_address_with_a_port_or_without(
    loads: Loads, written: str, host: str, port: int
) -> None:
    config, _ = loads(
        f"virtual_services: {{www: {{address: '192.168.0.101:80', real_servers: [{written}]}}}}\n"
    )
    (server,) = config.services[0].real_servers
    assert (str(server.host.address), server.port) == (host, port)


def test_host_keeps_the_name_it_was_written_as(loads: Loads) -> None:
    config, _ = loads(
        "virtual_services: {a: {address: '[2001:DB8:0::1]:80', real_servers: [rs3, 2001:DB8::7]}}\n"
    )
    service = config.services[0]
    assert service.vip == Host("2001:db8::1", Address.parse("2001:db8::1"))
    assert [server.host.name for server in service.real_servers] == ["rs3", "2001:db8::7"]
    assert str(service.real_servers[0].host.address) == "2001:db8::5"


def test_tunnelled_servers_may_have_the_other_ip_version(loads: Loads) -> None:
    config, _ = loads(
        "virtual_services: {a: {address: '192.168.0.101:80', forward: tun, real_servers: [six]}}\n"
    )
    assert config.services[0].real_servers[0].host.address.version == 6


def test_firewall_mark_is_a_key_for_each_ip_version(loads: Loads) -> None:
    config, _ = loads(
        "virtual_services:\n"
        "  a: {fwmark: 7, check: {type: tcp, port: 80}, real_servers: [rs3]}\n"
        "  b: {fwmark: 0x7, family: ipv6, check: none, real_servers: ['rs3:80']}\n",
    )
    assert [service.key for service in config.services] == [FirewallMark(7, 4), FirewallMark(7, 6)]
    assert [service.vip for service in config.services] == [None, None]
    assert [str(service.real_servers[0].key) for service in config.services] == [
        "192.168.0.5:0",
        "[2001:db8::5]:80",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("5m", Persistence(300, 32)),
        ("90", Persistence(90, 32)),
        ("{}", Persistence(300, 32)),
        ("{timeout: 1h, netmask: 255.255.255.0}", Persistence(3600, 24)),
        ("{prefix: 16}", Persistence(300, 16)),
        ("null", None),
    ],
)
def test_persistence_is_a_time_or_a_mapping(loads: Loads, written: str, expected: Persistence | None) -> None:
    assert only(loads, f"persistence: {written}").service.persistence == expected


def test_sip_engine_and_one_packet_scheduling_go_with_udp(loads: Loads) -> None:
    service = only(loads, "protocol: udp, ops: true, persistence: {engine: sip}")
    assert service.service == Service("wlc", frozenset({"ops"}), Persistence(300, 32, "sip"))


def test_flags_are_those_of_the_scheduler(loads: Loads) -> None:
    service = only(loads, "scheduler: mh, scheduler_flags: [mh-port, mh-fallback]")
    assert service.service.flags == {"mh-port", "mh-fallback"}


def test_sorry_server_takes_the_services_port(loads: Loads) -> None:
    service = only(loads, "sorry_server: rs2")
    assert service.sorry_server == RealServer(Host("rs2", Address.parse("192.168.0.4")), 80, 1)


def test_director_brings_up_its_addresses(loads: Loads) -> None:
    config, _ = loads(
        "director:\n  name: left\n  addresses:\n"
        "    - {address: 192.168.0.101/24, interface: eth0, label: eth0:101}\n"
        "    - {address: 2001:db8::101/64, interface: eth0.5}\n"
        "virtual_services: {}\n",
    )
    assert config.settings.director == "left"
    assert config.settings.addresses == (
        DirectorAddress(VIP, 24, "eth0", "eth0:101"),
        DirectorAddress(Address.parse("2001:db8::101"), 64, "eth0.5"),
    )


def test_equal_checks_in_place_are_equal_values(loads: Loads) -> None:
    config, _ = loads(
        "virtual_services:\n"
        "  a: {address: '192.168.0.101:1', check: {type: tcp, rise: 3}, real_servers: [rs1]}\n"
        "  b: {address: '192.168.0.101:2', check: {rise: 3, type: tcp}, real_servers: [rs1]}\n",
    )
    assert config.services[0].check == config.services[1].check
    assert hash(config.services[0].check) == hash(config.services[1].check)


def test_sections_that_are_empty_count_as_left_out(loads: Loads) -> None:
    config, _ = loads("director:\nlog:\nipvs:\nchecks:\ninclude:\nvirtual_services: {}\n")
    assert config.settings.ipvs.reconcile == 10.0


def test_aliases_and_merge_keys_work(loads: Loads) -> None:
    config, _ = loads(
        "virtual_services:\n"
        "  a: &base {address: '192.168.0.101:1', scheduler: sed, real_servers: &servers [rs1, rs2]}\n"
        "  b: {<<: *base, address: '192.168.0.101:2'}\n"
        "  c: {<<: [{scheduler: nq}, *base], address: '192.168.0.101:3'}\n"
        "  d: {address: '192.168.0.101:4', real_servers: *servers}\n",
    )
    assert [service.service.scheduler for service in config.services] == ["sed", "sed", "nq", "wlc"]
    assert [len(service.real_servers) for service in config.services] == [2, 2, 2, 2]


def test_literal_addresses_are_never_asked_for_and_names_are_prefetched_once(
    loads: Loads, names: FakeNames
) -> None:
    loads(
        "virtual_services:\n"
        "  a: {address: '192.168.0.101:80', real_servers: [rs1, 192.0.2.1], sorry_server: rs2}\n"
        "  b: {address: '[2001:db8::1]:80', real_servers: [rs3, 2001:db8::9]}\n",
    )
    assert names.prefetched == [("rs1", 4), ("rs2", 4), ("rs3", 6)]
    assert sorted(names.asked) == [("rs1", 4), ("rs2", 4), ("rs3", 6)]


def test_included_files_are_merged(loads: Loads) -> None:
    config, _ = loads(
        "include: ['more*.yaml', last.yaml, nothing*.yaml, last.yaml]\n"
        "virtual_services: {a: {address: '192.168.0.101:1', check: c, real_servers: [rs1]}}\n",
        more1="checks: {c: {type: tcp, rise: 5}}\n"
        "virtual_services: {b: {address: '192.168.0.101:2', real_servers: []}}\n",
        more2="log: {level: debug}\n",
        last="virtual_services:\n  z: {address: '192.168.0.101:3', real_servers: []}\n",
    )
    assert config.files == ("lvsd.yaml", "more1.yaml", "more2.yaml", "last.yaml")
    assert [service.name for service in config.services] == ["a", "b", "z"]
    assert config.services[0].check is not None
    assert config.services[0].check.rise == 5
    assert config.settings.log.level is Level.DEBUG


def test_includes_nested_too_deep_are_refused_with_the_chain(loads: Loads) -> None:
    files = {f"f{number}": f"include: f{number + 1}.yaml\n" for number in range(20)}
    with pytest.raises(
        ConfigError, match=r"f7.yaml:1:10: include: is nested more than 8 deep: lvsd.yaml -> f0"
    ):
        loads("include: f0.yaml\nvirtual_services: {}\n", **files)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "lvsd.yaml: is empty: there is nothing to configure from"),
        (b" \n\t\n", "lvsd.yaml: is empty: there is nothing to configure from"),
        (b"\x7fELF\x02\x01\x00", "lvsd.yaml:1:1: is not text: control character U+007F"),
        (b"log:\n  file: \x00\n", "lvsd.yaml:2:9: is not text: control character U+0000"),
        (b"log:\n  file: caf\xe9\n", "lvsd.yaml:2:12: is not UTF-8 text: byte 0xe9 cannot stand here"),
        ("log: {}".encode("utf-16"), "lvsd.yaml:1:1: is not UTF-8 text: byte 0xff cannot stand here"),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(loads: Loads, raw: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(raw)
    assert str(caught.value) == message


def test_byte_order_mark_and_windows_line_ends_are_fine(loads: Loads) -> None:
    config, _ = loads(b"\xef\xbb\xbflog: {level: debug}\r\nvirtual_services: {}\r\n")
    assert config.settings.log.level is Level.DEBUG


def test_missing_file_is_a_mistake(names: FakeNames) -> None:
    with pytest.raises(ConfigError) as caught:
        load("/etc/lvsd/lvsd.yaml", NoFiles(), names)
    assert str(caught.value) == "/etc/lvsd/lvsd.yaml: does not exist"


def test_thousands_of_mistakes_end_the_search(loads: Loads) -> None:
    lines = "".join(f"  s{number}: {{address: x, real_servers: []}}\n" for number in range(2000))
    with pytest.raises(ConfigError) as caught:
        loads(f"virtual_services:\n{lines}")
    assert len(caught.value.mistakes) == MOST_MISTAKES + 1
    assert str(caught.value.mistakes[-1]) == "lvsd.yaml: and many more mistakes"


def test_hundreds_of_mistakes_are_cut_and_counted(loads: Loads) -> None:
    lines = "".join(f"  s{number}: {{address: x, real_servers: []}}\n" for number in range(700))
    with pytest.raises(ConfigError, match=r"\nlvsd.yaml: and 200 more mistakes$"):
        loads(f"virtual_services:\n{lines}")


def test_thousands_of_notes_are_cut(loads: Loads) -> None:
    lines = "".join(
        f"  s{number}: {{address: '192.0.2.1:{number}', protocol: udp, real_servers: [rs1]}}\n"
        for number in range(1, 2000)
    )
    _, notes = loads(f"virtual_services:\n{lines}")
    assert len(notes) == MOST_NOTES


def test_a_directors_name_of_255_letters_is_the_longest(loads: Loads) -> None:
    text = "director: {{name: {}}}\nvirtual_services: {{}}\n"
    config, _ = loads(text.format("ä" * 255))
    assert config.settings.director == "ä" * 255
    with pytest.raises(ConfigError) as caught:
        loads(text.format("v" * 200_000))
    assert str(caught.value) == "lvsd.yaml:1:18: director.name: must have at most 255 letters, not 200,000"


def test_link_local_addresses_of_ipv4_need_no_interface(loads: Loads) -> None:
    text = "virtual_services: {a: {address: '169.254.0.1:80', real_servers: [169.254.0.2]}}\n"
    config, _ = loads(text)
    assert config.services[0].real_servers[0].host.address == Address.parse("169.254.0.2")
