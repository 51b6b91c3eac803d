"""Frames of ARP and neighbour discovery, byte for byte; the checksums were summed up by other means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvsd.model import Address
from lvsd.vrrp.neighbours import Claim, announcement, parse_advertisement, parse_arp, probe

MAC = bytes.fromhex("020000000001")
VIP, VIP6 = Address.parse("192.168.0.101"), Address.parse("fd00:0:0:1::101")

ARP = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001"
TO_ALL_NODES = "333300000001 020000000001 86dd"
ADVERTISED = "6000 0000 0020 3a ff fd000000000000010000000000000101 ff020000000000000000000000000001"
OWN_OPTION = "fd000000000000010000000000000101 0201020000000001"

ETHERNET_HEADER, IPV6_HEADER = 14, 40


@pytest.mark.parametrize("router", [True, False])
def test_an_ipv4_address_is_announced_by_a_gratuitous_arp_request(router: bool) -> None:  # noqa: FBT001
    frame = announcement(VIP, MAC, router=router)
    assert frame == bytes.fromhex(f"{ARP} 020000000001 c0a80065 020000000001 c0a80065")


@pytest.mark.parametrize(
    ("router", "message"),
    [
        pytest.param(False, "88 00 5899 20000000", id="a host overrides"),
        pytest.param(True, "88 00 d898 a0000000", id="a router says so, too"),
    ],
)
def test_an_ipv6_address_is_announced_by_an_unsolicited_advertisement(
    router: bool,  # noqa: FBT001
    message: str,
) -> None:
    frame = announcement(VIP6, MAC, router=router)
    assert frame == bytes.fromhex(f"{TO_ALL_NODES} {ADVERTISED} {message} {OWN_OPTION}")


def test_an_ipv4_address_is_asked_for_without_a_sender() -> None:
    assert probe(VIP, MAC) == bytes.fromhex(f"{ARP} 020000000001 00000000 000000000000 c0a80065")


def test_an_ipv4_address_is_asked_for_by_another() -> None:
    asked = probe(VIP, MAC, Address.parse("192.168.0.1"))
    assert asked == bytes.fromhex(f"{ARP} 020000000001 c0a80001 000000000000 c0a80065")


def test_an_ipv6_address_is_asked_for_without_a_sender() -> None:
    assert probe(VIP6, MAC) == bytes.fromhex(
        "3333ff000101 020000000001 86dd"
        "6000 0000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000101"
        "87 00 7ba4 00000000 fd000000000000010000000000000101"
    )


def addresses(length: int) -> st.SearchStrategy[Address]:
    return st.binary(min_size=length, max_size=length).filter(any).map(Address)


MACS = st.binary(min_size=6, max_size=6).filter(any)


@given(addresses(4), MACS)
def test_an_announced_ipv4_address_is_claimed(address: Address, mac: bytes) -> None:
    assert parse_arp(announcement(address, mac, router=False)) == Claim(address, mac)


@given(addresses(16).filter(lambda address: address[0] != 0xFF), MACS, st.booleans())
def test_an_announced_ipv6_address_is_claimed(address: Address, mac: bytes, router: bool) -> None:  # noqa: FBT001
    frame = announcement(address, mac, router=router)
    assert parse_advertisement(frame[ETHERNET_HEADER + IPV6_HEADER :]) == Claim(address, mac)


@given(addresses(4), MACS)
def test_who_asks_for_an_address_claims_nothing(address: Address, mac: bytes) -> None:
    assert parse_arp(probe(address, mac)) is None
    asked = probe(Address(bytes(12) + address), mac)
    assert parse_advertisement(asked[ETHERNET_HEADER + IPV6_HEADER :]) is None


@pytest.mark.parametrize(
    "arp",
    [
        pytest.param("0806 0001 0800 06 04 0002", id="a reply"),
        pytest.param("0806 0001 0800 06 04 0001", id="a request"),
    ],
)
def test_whoever_sends_as_an_address_claims_it(arp: str) -> None:
    frame = f"020000000002 020000000001 {arp} 020000000001 c0a80065 020000000002 c0a80002"
    assert parse_arp(bytes.fromhex(frame) + bytes(18)) == Claim(VIP, MAC)


@pytest.mark.parametrize(
    "arp",
    [
        pytest.param("0800 0001 0800 06 04 0001 020000000001 c0a80065", id="no ARP"),
        pytest.param("0806 0006 0800 06 04 0001 020000000001 c0a80065", id="not over Ethernet"),
        pytest.param("0806 0001 86dd 06 04 0001 020000000001 c0a80065", id="not for IPv4"),
        pytest.param("0806 0001 0800 08 04 0001 020000000001 c0a80065", id="a MAC address of 8 bytes"),
        pytest.param("0806 0001 0800 06 10 0001 020000000001 c0a80065", id="an address of 16 bytes"),
        pytest.param("0806 0001 0800 06 04 0003 020000000001 c0a80065", id="a reverse request"),
        pytest.param("0806 0001 0800 06 04 0001 000000000000 c0a80065", id="no MAC address"),
        pytest.param("0806 0001 0800 06 04 0001 020000000001 00000000", id="no address"),
    ],
)
def test_other_frames_claim_nothing(arp: str) -> None:
    assert parse_arp(bytes.fromhex(f"ffffffffffff 020000000001 {arp} 000000000000 c0a80065")) is None


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(f"87 00 0000 20000000 {OWN_OPTION}", id="no advertisement"),
        pytest.param(f"88 01 0000 20000000 {OWN_OPTION}", id="another code"),
        pytest.param("88 00 0000 20000000 ff020000000000000000000000000001 0201020000000001", id="a group"),
        pytest.param("88 00 0000 20000000 fd000000000000010000000000000101", id="no MAC address"),
        pytest.param(f"88 00 0000 20000000 {OWN_OPTION} 00", id="half an option"),
        pytest.param(f"88 00 0000 20000000 {OWN_OPTION} 0e00000000000000", id="an option without a length"),
        pytest.param(f"88 00 0000 20000000 {OWN_OPTION} 0e02000000000000", id="an option cut short"),
        pytest.param(
            "88 00 0000 20000000 fd000000000000010000000000000101 0101020000000001", id="its source"
        ),
        pytest.param(
            "88 00 0000 20000000 fd000000000000010000000000000101 0201000000000000", id="a MAC of 0"
        ),
    ],
)
def test_other_messages_claim_nothing(message: str) -> None:
    assert parse_advertisement(bytes.fromhex(message)) is None


def test_options_that_nobody_knows_are_passed_over() -> None:
    message = "88 00 0000 20000000 fd000000000000010000000000000101 0e01000000000000 0201020000000001"
    assert parse_advertisement(bytes.fromhex(message)) == Claim(VIP6, MAC)


@given(st.binary(max_size=80), st.sampled_from([b"", bytes.fromhex(ARP), bytes.fromhex("8800000020000000")]))
def test_any_bytes_are_a_claim_or_nothing(raw: bytes, begin: bytes) -> None:
    for claim, length in (parse_arp(begin + raw), 4), (parse_advertisement(begin + raw), 16):
        assert claim is None or (len(claim.address) == length and len(claim.mac) == 6)


@given(st.data())
def test_nothing_cut_short_is_a_claim(data: st.DataObject) -> None:
    arp, advertised = announcement(VIP, MAC, router=False), announcement(VIP6, MAC, router=False)
    message = advertised[ETHERNET_HEADER + IPV6_HEADER :]
    assert parse_arp(arp[: data.draw(st.integers(0, len(arp) - 1))]) is None
    assert parse_advertisement(message[: data.draw(st.integers(0, len(message) - 1))]) is None
