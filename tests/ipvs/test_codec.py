"""Messages as bytes: what goes to the kernel, and what is understood of what it says."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvsd.ipvs import codec
from lvsd.ipvs.change import (
    AddServer,
    AddService,
    Change,
    EditServer,
    EditService,
    RemoveServer,
    RemoveService,
)
from lvsd.model import (
    Address,
    FirewallMark,
    Forwarding,
    Persistence,
    Protocol,
    Server,
    ServerKey,
    Service,
    ServiceKey,
    VirtualAddress,
)

FAMILY = 0x1D
NETLINK_HEADER, GENERIC_HEADER = 16, 4

WWW = VirtualAddress(Protocol.TCP, Address.parse("192.168.0.101"), 80)
RS1 = ServerKey(Address.parse("192.168.0.3"), 80)
RS6 = ServerKey(Address.parse("2001:db8::3"), 80)

v4 = st.binary(min_size=4, max_size=4).map(Address)
v6 = st.binary(min_size=16, max_size=16).map(Address)
ports = st.integers(0, 65535)
service_keys = st.builds(VirtualAddress, st.sampled_from(Protocol), v4 | v6, ports) | st.builds(
    FirewallMark, st.integers(1, 2**32 - 1), st.sampled_from([4, 6])
)
server_keys = st.builds(ServerKey, v4 | v6, ports)
servers = st.builds(Server, st.sampled_from(Forwarding), st.integers(0, 65535))
SCHEDULER_FLAGS = {
    "rr": ["ops", "flag-1", "flag-2", "flag-3"],
    "sh": ["ops", "sh-fallback", "sh-port"],
    "mh": ["ops", "mh-fallback", "mh-port", "flag-3"],
}


@st.composite
def services(draw: st.DrawFn) -> tuple[ServiceKey, Service]:
    key = draw(service_keys)
    scheduler = draw(st.sampled_from(sorted(SCHEDULER_FLAGS)))
    flags = draw(st.frozensets(st.sampled_from(SCHEDULER_FLAGS[scheduler])))
    prefixes = st.integers(0, 32) if key.version == 4 else st.integers(1, 128)
    persistence = st.builds(Persistence, st.integers(1, 2**32 - 1), prefixes, st.sampled_from(["", "sip"]))
    return key, Service(scheduler, flags, draw(st.none() | persistence))


def body(message: bytes) -> bytes:
    return message[NETLINK_HEADER:]


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return bytes(GENERIC_HEADER) + attribute(kind | 0x8000, b"".join(attributes))


def as_reported(message: bytes, connections: codec.Connections) -> bytes:
    """Return the server of a message as the kernel lists it: with counts, and with statistics."""
    service = GENERIC_HEADER + struct.unpack_from("=H", body(message), GENERIC_HEADER)[0]
    return nested(
        2,
        body(message)[service + 4 :],
        attribute(7, struct.pack("=I", connections.active)),
        attribute(8, struct.pack("=I", connections.inactive)),
        attribute(9, struct.pack("=I", connections.persistent)),
        attribute(10 | 0x8000, bytes(160)),
    )


@given(services())
def test_a_service_reads_as_it_was_written(service: tuple[ServiceKey, Service]) -> None:
    assert codec.decode_service(body(codec.encode(AddService(*service), FAMILY, 1))) == service


@given(services())
def test_the_kernels_own_flag_makes_no_difference(service: tuple[ServiceKey, Service]) -> None:
    written = bytearray(codec.encode(EditService(*service), FAMILY, 1))
    at = written.index(struct.pack("=HH", 12, 7)) + 4
    written[at] |= 0x2
    assert codec.decode_service(body(bytes(written))) == service


@given(service_keys, server_keys, servers)
def test_a_server_reads_as_it_was_written(service: ServiceKey, key: ServerKey, server: Server) -> None:
    counted = codec.Connections(active=3, inactive=2, persistent=1)
    for change in AddServer(service, key, server), EditServer(service, key, server):
        reported = as_reported(codec.encode(change, FAMILY, 1), counted)
        assert codec.decode_server(reported, service.version) == (key, server, counted)


def test_a_server_of_an_older_kernel_has_the_ip_version_of_its_service() -> None:
    row = nested(
        2,
        attribute(1, RS1.address + bytes(12)),
        attribute(2, b"\x00\x50"),
        *(
            attribute(kind, struct.pack("=I", value))
            for kind, value in ((3, 3), (4, 1), (7, 0), (8, 0), (9, 0))
        ),
    )
    decoded = codec.decode_server(row, 4)
    assert decoded is not None
    assert decoded.key == RS1


@pytest.mark.parametrize("method", [1, 4])
def test_the_kernels_own_forwarding_methods_count_as_direct_routing(method: int) -> None:
    message = codec.encode(AddServer(WWW, RS1, Server(Forwarding.DR, 1)), FAMILY, 1)
    reported = as_reported(message, codec.Connections(0, 0))
    written = attribute(3, struct.pack("=I", 3))
    decoded = codec.decode_server(reported.replace(written, attribute(3, struct.pack("=I", method))), 4)
    assert decoded is not None
    assert decoded.server.forwarding is Forwarding.DR


def test_flags_of_a_scheduler_without_names_for_them_have_numbers() -> None:
    written = codec.encode(AddService(WWW, Service("rr", frozenset({"sh-port"}))), FAMILY, 1)
    decoded = codec.decode_service(body(written))
    assert decoded is not None
    assert decoded[1].flags == {"flag-2"}


GOLDEN = {
    "add service": (
        AddService(WWW, Service("rr")),
        "680000001d00010007000000000000000101000054000180"
        "0600010002000000060002000600000014000300c0a8006500000000000000000000000006000400005000000700060072720000"
        "0c00070000000000ffffffff0800080000000000" + "08000900ffffffff",
    ),
    "remove service": (
        RemoveService(FirewallMark(7, 6)),
        "280000001d000100070000000000000003010000" + "14000180" + "060001000a000000" + "0800050007000000",
    ),
    "add server": (
        AddServer(WWW, RS1, Server(Forwarding.DR, 1)),
        "8c0000001d000100070000000000000005010000" + "30000180"
        "0600010002000000060002000600000014000300c0a80065000000000000000000000000" + "0600040000500000"
        "48000280" + "14000100c0a80003000000000000000000000000" + "0600020000500000" + "0800030003000000"
        "0800040001000000" + "0800050000000000" + "0800060000000000" + "06000b0002000000",
    ),
    "remove server": (
        RemoveServer(WWW, RS6),
        "6c0000001d000100070000000000000007010000" + "30000180"
        "0600010002000000060002000600000014000300c0a80065000000000000000000000000" + "0600040000500000"
        "28000280" + "1400010020010db8000000000000000000000003" + "0600020000500000" + "06000b000a000000",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "golden"), GOLDEN.values(), ids=GOLDEN)
def test_a_change_is_these_bytes(change: Change, golden: str) -> None:
    encoded = codec.encode(change, FAMILY, 7)
    assert len(encoded) == struct.unpack_from("=I", encoded)[0]
    assert encoded.hex() == golden


def test_only_an_acknowledged_change_asks_for_an_answer() -> None:
    silent = codec.encode(RemoveService(WWW), FAMILY, 7)
    acknowledged = codec.encode(RemoveService(WWW), FAMILY, 7, acknowledged=True)
    assert [struct.unpack_from("=H", message, 6)[0] for message in (silent, acknowledged)] == [1, 5]


def test_answers_of_one_datagram_come_apart() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 5, 99, -17) + bytes(0)
    row = codec.encode(AddService(WWW, Service("rr")), FAMILY, 6)
    end = struct.pack("=IHHIIi", 20, 3, 0, 6, 99, 0)
    assert [(a.sequence, a.error, a.last) for a in codec.answers(refusal + row + end)] == [
        (5, 17, True),
        (6, 0, False),
        (6, 0, True),
    ]


@given(st.binary(max_size=300))
def test_no_bytes_are_too_odd_to_decode(datagram: bytes) -> None:
    for answer in codec.answers(datagram):
        assert answer.body in datagram
    codec.decode_service(datagram)
    codec.decode_server(datagram, 4)


@given(services(), st.data())
def test_a_row_cut_short_or_spoilt_is_a_row_or_none(
    service: tuple[ServiceKey, Service], data: st.DataObject
) -> None:
    row = bytearray(body(codec.encode(AddService(*service), FAMILY, 1)))
    row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.integers(0, 255))
    codec.decode_service(bytes(row[: data.draw(st.integers(0, len(row)))]))
