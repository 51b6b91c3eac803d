"""lvs.conf, and what it comes to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.config.convert import convert
from lvsd.config.load import load
from lvsd.config.model import DirectorAddress, HttpCheck, Initial, TcpCheck, TelnetCheck
from lvsd.edge.loader import Files
from lvsd.errors import ConfigError
from lvsd.model import Address, Forwarding

if TYPE_CHECKING:
    from conftest import FakeNames, Loads

    from lvsd.config.model import Config

SAMPLES = Path(__file__).parent.parent / "samples"
HEAD = "LVS_TYPE=VS_DR\nVIP=eth0:101 192.168.0.101 255.255.255.0 192.168.0.255\n"


def service_names(config: Config) -> list[str]:
    return [service.name for service in config.services]


def test_classic_file_is_the_classic_cluster(names: FakeNames) -> None:
    config, notes = load(str(SAMPLES / "lvs_dr.conf"), Files(), names)
    assert config.format == "lvs.conf"
    assert config.settings.addresses == (
        DirectorAddress(Address.parse("192.168.0.101"), 24, "eth0", "eth0:101"),
    )
    telnet, www = config.services
    assert (telnet.name, str(telnet.key), type(telnet.check)) == (
        "telnet",
        "tcp 192.168.0.101:23",
        TelnetCheck,
    )
    assert (www.name, str(www.key), type(www.check)) == ("www", "tcp 192.168.0.101:80", HttpCheck)
    for service in config.services:
        assert service.service.scheduler == "rr"
        assert service.forwarding is Forwarding.DR
        assert service.initial is Initial.UP
        assert [server.host.name for server in service.real_servers] == ["rs1", "rs2"]
        assert [server.weight for server in service.real_servers] == [1, 1]
    assert [note.path for note in notes] == ["DIRECTOR_INSIDEIP", "SERVER_VIP_DEVICE", "SERVER_NET_DEVICE"]


def test_printed_copy_with_its_blanks_is_the_same_configuration(names: FakeNames) -> None:
    classic, _ = load(str(SAMPLES / "lvs_dr.conf"), Files(), names)
    printed, _ = load(str(SAMPLES / "lvs_dr.conf.as-printed"), Files(), names)
    assert replace(printed, files=()) == replace(classic, files=())


@pytest.mark.parametrize(
    ("lvs_type", "forwarding"),
    [("VS_DR", Forwarding.DR), ("VS_NAT", Forwarding.NAT), ("VS_TUN", Forwarding.TUN)],
)
def test_type_is_how_every_service_forwards(loads: Loads, lvs_type: str, forwarding: Forwarding) -> None:
    text = HEAD.replace("VS_DR", lvs_type)
    config, _ = loads(f"{text}SERVICE=t www rr rs1\nSERVICE=t 8080 rr rs1\n")
    assert [service.forwarding for service in config.services] == [forwarding, forwarding]


def test_nat_may_change_ports(loads: Loads) -> None:
    config, _ = loads(f"{HEAD.replace('VS_DR', 'VS_NAT')}SERVICE=t www rr rs1:8080\n")
    assert config.services[0].real_servers[0].port == 8080


@pytest.mark.parametrize(
    ("line", "initial"),
    [("INITIAL_STATE=on\n", Initial.UP), ("INITIAL_STATE=off\n", Initial.PROBE), ("", Initial.PROBE)],
)
def test_initial_state_says_whether_servers_start_in_the_table(
    loads: Loads, line: str, initial: Initial
) -> None:
    config, _ = loads(f"{HEAD}{line}SERVICE=t www rr rs1\n")
    assert config.services[0].initial is initial


def test_services_are_named_by_their_ports(loads: Loads) -> None:
    config, _ = loads(f"{HEAD}SERVICE=t domain rr rs1\nSERVICE=u domain rr rs1\nSERVICE=t 8080 rr rs1\n")
    assert service_names(config) == ["domain", "domain-udp", "8080-tcp"]
    assert [type(service.check) for service in config.services] == [TcpCheck, type(None), TcpCheck]


def test_each_vip_offers_every_service(loads: Loads) -> None:
    config, notes = loads(
        f"{HEAD}VIP=eth1 192.168.1.1 255.255.255.255 192.168.1.1\n"
        "SERVICE=t www rr rs1\nSERVICE=t telnet rr rs1\n"
    )
    assert service_names(config) == ["www", "telnet", "www-192.168.1.1", "telnet-192.168.1.1"]
    assert [str(address) for address in config.settings.addresses] == ["192.168.0.101/24", "192.168.1.1/32"]
    assert [address.label for address in config.settings.addresses] == ["eth0:101", ""]
    assert str(notes[0]).startswith("lvsd.yaml:3:1: VIP: note: every SERVICE is offered on each VIP")


def test_gateways_are_accepted_with_a_note(loads: Loads) -> None:
    lines = "DIRECTOR_DEFAULT_GW=192.168.0.254\nDIRECTOR_GW=a b\nSERVER_GW=192.168.0.254\n"
    _, notes = loads(f"{HEAD}{lines}SERVICE=t www rr rs1\n")
    assert [(note.path, note.place.line) for note in notes] == [
        ("DIRECTOR_DEFAULT_GW", 3),
        ("DIRECTOR_GW", 4),
        ("SERVER_GW", 5),
    ]


def test_comments_and_blank_lines_are_nothing(loads: Loads) -> None:
    config, _ = loads(f"\n# a comment\n{HEAD}  SERVICE = t www rr rs1 # rs2\n#---end---\n")
    assert len(config.services[0].real_servers) == 1


@pytest.mark.parametrize("name", ["lvs_dr.conf", "lvs_dr.conf.as-printed"])
def test_converted_file_is_the_same_configuration(name: str, names: FakeNames, loads: Loads) -> None:
    original, _ = load(str(SAMPLES / name), Files(), names)
    text, notes = convert(str(SAMPLES / name), Files())
    converted, _ = loads(text)
    assert (converted.settings, converted.services) == (original.settings, original.services)
    assert converted.format == "lvsd"
    for note in notes:
        assert f"# line {note.place.line}, {note.path}: " in text


def test_converting_lvsds_own_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="is lvsd's own YAML already"):
        convert(str(SAMPLES.parent.parent / "etc/lvsd.yaml"), Files())


def test_converting_looks_nothing_up_but_tells_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "lvs.conf"
    path.write_text(f"{HEAD}SERVICE=t nonesuch rr nobody\n")
    assert "- nobody\n" in convert(str(path), Files())[0]
    path.write_text(f"{HEAD}SERVICE=t www rrr rs1\n")
    with pytest.raises(ConfigError, match="did you mean 'rr'"):
        convert(str(path), Files())
