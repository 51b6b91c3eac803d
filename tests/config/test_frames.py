"""A configuration through the pipe between child and daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lvsd.config.frames import Broken, FrameReader, frames, mistake_frames, pack
from lvsd.errors import ConfigError, Mistake, Place

if TYPE_CHECKING:
    from conftest import Loads

    from lvsd.config.model import Settings

TEXT = """\
checks:
  web: {type: http, headers: {X-A: b}, bind: 192.0.2.1}
virtual_services:
  a: {address: "192.168.0.101:80", check: web, real_servers: [rs1, rs2], sorry_server: rs3}
  b: {address: "[2001:db8::1]:80", scheduler: mh, scheduler_flags: [FLAGS], real_servers: [rs3]}
  c: {fwmark: 7, check: {type: tcp, port: 80}, persistence: 5m, real_servers: [rs1]}
  d: {address: "192.168.0.101:23", real_servers: [rs1]}
director: {addresses: [{address: 192.168.0.101/24, interface: eth0}]}
ipvs: {sync: {interface: eth0, group: 224.0.0.81}}
vrrp:
  vip:
    interface: eth0
    virtual_router_id: 51
    version: 2
    password: secret
    addresses: [192.168.0.102/24]
    unicast_peers: [rs1]
    track:
      interfaces: [eth1]
      services: [{service: a, weight: 9}]
      commands: [{command: /etc/lvsd/notify.sh}]
    notify: {master: /etc/lvsd/notify.sh up, user: lvsd}
""".replace("FLAGS", "mh-port, mh-fallback")


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_what_comes_out_is_what_went_in(loads: Loads, piece: int) -> None:
    config, notes = loads(TEXT)
    stream = b"".join(frames(config, notes))
    reader = FrameReader()
    for at in range(0, len(stream), piece):
        reader.feed(stream[at : at + piece])
    loaded = reader.loaded()
    assert loaded.config() == config
    assert loaded.notes == notes
    assert list(loaded.services) == ["a", "b", "c", "d"]


def test_equal_settings_are_equal_after_the_way_and_differ_where_they_differ(loads: Loads) -> None:
    def sent(text: str) -> Settings:
        reader = FrameReader()
        reader.feed(b"".join(frames(*loads(text))))
        return reader.loaded().settings

    one, other = sent(TEXT), sent(TEXT.replace("virtual_router_id: 51", "virtual_router_id: 0051"))
    assert one == other
    assert hash(one) == hash(other)
    assert one != sent(TEXT.replace("up, user", "down, user"))


def test_equal_services_give_equal_bytes_whatever_they_share(loads: Loads) -> None:
    one, _ = loads(TEXT)
    other, _ = loads(
        TEXT.replace("mh-port, mh-fallback", "mh-fallback, mh-port").replace("check: web", "check: web")
    )
    assert [pack(service) for service in one.services] == [pack(service) for service in other.services]


def test_a_service_that_differs_has_another_digest(loads: Loads) -> None:
    one, _ = loads(TEXT)
    other, _ = loads(TEXT.replace("[rs1, rs2]", "[rs1, {address: rs2, weight: 2}]"))
    differing = [
        service.name
        for service, changed in zip(one.services, other.services, strict=True)
        if pack(service).digest != pack(changed).digest
    ]
    assert differing == ["a"]


def test_mistakes_come_out_as_they_went_in() -> None:
    mistakes = (Mistake(Place("f", 1, 2), "a.b", "is wrong"), Mistake(Place("f"), "", "is empty"))
    reader = FrameReader()
    reader.feed(b"".join(mistake_frames(mistakes)))
    with pytest.raises(ConfigError) as caught:
        reader.loaded()
    assert caught.value.mistakes == mistakes


def test_stream_that_ends_early_is_no_configuration(loads: Loads) -> None:
    stream = b"".join(frames(*loads(TEXT)))
    for length in range(len(stream)):
        reader = FrameReader()
        reader.feed(stream[:length])
        with pytest.raises(Broken):
            reader.loaded()
