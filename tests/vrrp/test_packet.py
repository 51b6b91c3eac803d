"""Packets as they are on the wire; the bytes were summed up by other means than lvsd's, or seen on a wire."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lvsd.errors import PacketError
from lvsd.model import Address
from lvsd.vrrp.packet import (
    GROUP_V4,
    GROUP_V6,
    OWNER,
    PASSWORD_LENGTH,
    PROTOCOL,
    RESIGNED,
    Advertisement,
    decode,
    encode,
)

VS1, VS2 = Address.parse("192.168.0.1"), Address.parse("192.168.0.2")
VIP, SECOND = Address.parse("192.168.0.101"), Address.parse("192.168.0.102")
LINK_LOCAL = Address.parse("fe80::1")

SAID = Advertisement(
    version=3, vrid=51, priority=150, interval=1.0, addresses=(VIP,), source=VS1, covers_addresses=False
)
V2 = replace(SAID, version=2, priority=100)
V6 = Advertisement(
    version=3,
    vrid=51,
    priority=OWNER,
    interval=40.95,
    addresses=(Address.parse("fe80::51"), Address.parse("fd00:0:0:1::101")),
    source=LINK_LOCAL,
)

WIRE = [
    pytest.param(SAID, GROUP_V4, "3133 9601 0064 7759 c0a80065", id="version 3"),
    pytest.param(
        replace(SAID, covers_addresses=True),
        GROUP_V4,
        "3133 9601 0064 d620 c0a80065",
        id="version 3 with a pseudo-header",
    ),
    pytest.param(
        replace(SAID, covers_addresses=True),
        VS2,
        "3133 9601 0064 f588 c0a80065",
        id="version 3 with a pseudo-header, unicast",
    ),
    pytest.param(
        replace(SAID, priority=RESIGNED, interval=0.01, covers_addresses=True),
        GROUP_V4,
        "3133 0001 0001 6c84 c0a80065",
        id="the end of a master",
    ),
    pytest.param(V2, GROUP_V4, "2133 6401 0001 b9bc c0a80065 00000000 00000000", id="version 2"),
    pytest.param(
        replace(V2, priority=150, addresses=(VIP, SECOND), password=b"geheim"),
        GROUP_V4,
        "2133 9602 0101 8c74 c0a80065 c0a80066 67656865 696d0000",
        id="version 2 with a password",
    ),
    pytest.param(
        V6,
        GROUP_V6,
        "3133 ff02 0fff c4c6 fe800000 00000000 00000000 00000051 fd000000 00000001 00000000 00000101",
        id="IPv6",
    ),
]


@pytest.mark.parametrize(("said", "destination", "wire"), WIRE)
def test_what_is_said_is_written_as_the_rfcs_have_it(
    said: Advertisement, destination: Address, wire: str
) -> None:
    assert encode(said, destination) == bytes.fromhex(wire)


@pytest.mark.parametrize(("said", "destination", "wire"), WIRE)
def test_what_is_written_as_the_rfcs_have_it_is_understood(
    said: Advertisement, destination: Address, wire: str
) -> None:
    assert decode(bytes.fromhex(wire), said.source, destination) == said


def test_reserved_bits_are_ignored_and_what_follows_a_packet_too() -> None:
    wire = with_checksum("3133 9601 f064 0000 c0a80065") + b"padding"
    assert decode(wire, VS1, GROUP_V4) == SAID


def test_the_authentication_of_a_packet_without_any_is_ignored() -> None:
    wire = with_checksum("2133 6401 0001 0000 c0a80065 67656865 696d0000")
    assert decode(wire, VS1, GROUP_V4) == V2


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        ("", "it has 0 bytes, less than the 8 of a header"),
        ("3133 9601 0064 77", "it has 7 bytes, less than the 8 of a header"),
        ("1133 9601 0064 0000 c0a80065", "it is of version 1"),
        ("4133 9601 0064 0000 c0a80065", "it is of version 4"),
        ("3033 9601 0064 0000 c0a80065", "it is of type 0, which is no advertisement"),
        ("3233 9601 0064 0000 c0a80065", "it is of type 2, which is no advertisement"),
        ("3133 9602 0064 0000 c0a80065", "it has 12 bytes, but with 2 addresses it takes 16"),
        ("3133 96ff 0064 0000 c0a80065", "it has 12 bytes, but with 255 addresses it takes 1028"),
        ("2133 6401 0001 0000 c0a80065", "it has 12 bytes, but with 1 addresses it takes 20"),
        ("3100 9601 0064 0000 c0a80065", "its virtual router id is 0"),
        ("3133 9600 0064 0000", "its number of addresses is 0"),
        ("3133 9601 0000 0000 c0a80065", "its interval is 0"),
        ("3133 9601 f000 0000 c0a80065", "its interval is 0"),
        ("2133 6401 0000 0000 c0a80065 00000000 00000000", "its interval is 0"),
        (
            "2133 6401 0201 0000 c0a80065 00000000 00000000",
            "its authentication is of type 2; lvsd knows none (0) and a password (1)",
        ),
        ("2133 6401 0101 0000 c0a80065 00000000 00000000", "its password is empty"),
    ],
)
def test_what_no_peer_should_send_is_refused(wire: str, why: str) -> None:
    with pytest.raises(PacketError) as refused:
        decode(with_checksum(wire), VS1, GROUP_V4)
    assert str(refused.value) == why


def test_ipv6_has_no_version_2() -> None:
    with pytest.raises(PacketError, match="it is of version 2, which IPv6 does not have"):
        decode(encode(V2, GROUP_V4), LINK_LOCAL, GROUP_V6)


@pytest.mark.parametrize(
    ("wire", "source", "destination"),
    [
        pytest.param("3133 9601 0064 7759 c0a80066", VS1, GROUP_V4, id="another address"),
        pytest.param("2133 6401 0001 187c c0a80065 00000000 00000000", VS1, GROUP_V4, id="version 2 with a"
                     " pseudo-header"),
        pytest.param("3133 9601 0064 d620 c0a80065", VS2, GROUP_V4, id="another source"),
        pytest.param("3133 9601 0064 d620 c0a80065", VS1, VS2, id="another destination"),
        pytest.param(
            "3133 ff02 0fff c2f5 fe800000 00000000 00000000 00000051 fd000000 00000001 00000000 00000101",
            LINK_LOCAL, GROUP_V6, id="IPv6 without a pseudo-header",
        ),
        pytest.param("3133 0001 0000 ffff c0a80065", VS1, GROUP_V4, id="whatever else is wrong"),
    ],
)  # fmt: skip
def test_a_wrong_checksum_is_refused(wire: str, source: Address, destination: Address) -> None:
    with pytest.raises(PacketError, match=r"^its checksum is wrong$"):
        decode(bytes.fromhex(wire), source, destination)


def addresses(version: int) -> st.SearchStrategy[Address]:
    length = 4 if version == 4 else 16
    return st.binary(min_size=length, max_size=length).map(Address)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Advertisement, Address]:
    """Return something a master may say, and to whom."""
    version, ip_version = draw(st.sampled_from([(2, 4), (3, 4), (3, 6)]))
    passwords = st.binary(max_size=PASSWORD_LENGTH).map(lambda password: password.rstrip(b"\0"))
    said = Advertisement(
        version=version,
        vrid=draw(st.integers(1, 255)),
        priority=draw(st.integers(RESIGNED, OWNER)),
        interval=draw(st.integers(1, 255) if version == 2 else st.integers(1, 4095).map(hundredths)),
        addresses=tuple(draw(st.lists(addresses(ip_version), min_size=1, max_size=255))),
        source=draw(addresses(ip_version)),
        password=draw(passwords) if version == 2 else b"",
        covers_addresses=version == 3 and (ip_version == 6 or draw(st.booleans())),
    )
    return said, draw(addresses(ip_version))


def hundredths(number: int) -> float:
    return float(f"{number // 100}.{number % 100:02}")


@given(exchanges())
def test_what_is_written_is_understood(exchange: tuple[Advertisement, Address]) -> None:
    said, destination = exchange
    wire = encode(said, destination)
    # Over one pair of addresses in 65,535, the sum is the same with a pseudo-header and without.
    assume(said.covers_addresses or sum_of(said.source + destination) + PROTOCOL + len(wire) != 0xFFFF)
    assert decode(wire, said.source, destination) == said


@pytest.mark.parametrize(("said", "destination", "wire"), WIRE)
def test_no_packet_cut_short_is_understood(said: Advertisement, destination: Address, wire: str) -> None:
    whole = bytes.fromhex(wire)
    for end in range(len(whole)):
        with pytest.raises(PacketError, match=r"^it has "):
            decode(whole[:end], said.source, destination)


@pytest.mark.parametrize(("said", "destination", "wire"), WIRE)
def test_no_packet_with_a_wrong_bit_is_understood(
    said: Advertisement, destination: Address, wire: str
) -> None:
    for bit in range(8 * len(bytes.fromhex(wire))):
        flipped = bytearray.fromhex(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PacketError):
            decode(bytes(flipped), said.source, destination)


@given(st.data())
def test_of_any_bytes_there_is_an_advertisement_or_a_reason(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from([4, 6]))
    source, destination = data.draw(addresses(version)), data.draw(addresses(version))
    begin = data.draw(st.sampled_from([b"", b"\x21", b"\x31"]))
    is_understood_or_refused(begin + data.draw(st.binary(max_size=80)), source, destination)


@given(exchanges(), st.data())
def test_of_a_packet_with_wrong_bytes_there_is_an_advertisement_or_a_reason(
    exchange: tuple[Advertisement, Address], data: st.DataObject
) -> None:
    said, destination = exchange
    wire = encode(said, destination)
    begin = data.draw(st.integers(0, len(wire)))
    end = data.draw(st.integers(begin, len(wire)))
    wire = wire[:begin] + data.draw(st.binary(max_size=8)) + wire[end:]
    # As if whoever sent it had summed it up.
    is_understood_or_refused(with_checksum(wire.hex()), said.source, destination)


def is_understood_or_refused(wire: bytes, source: Address, destination: Address) -> None:
    try:
        said = decode(wire, source, destination)
    except PacketError:
        return
    assert 1 <= said.vrid <= 255
    assert said.interval > 0
    assert {address.version for address in said.addresses} == {source.version}


def with_checksum(wire: str) -> bytes:
    """Return the bytes with a checksum over them alone in the place of theirs."""
    packet = bytes.fromhex(wire)
    if len(packet) < 8:
        return packet
    without = packet[:6] + bytes(2) + packet[8:]
    return packet[:6] + (0xFFFF - sum_of(without)).to_bytes(2) + packet[8:]


def sum_of(packet: bytes) -> int:
    """Return the one's complement sum: the rest that the bytes, as one number, leave after all ones."""
    return (int.from_bytes(packet + bytes(len(packet) % 2)) - 1) % 0xFFFF + 1
