from __future__ import annotations

import pytest

from lvsd.config.model import DirectorAddress
from lvsd.edge.addresses import FoundAddress
from lvsd.edge.vip_keeper import misplaced
from lvsd.effects import Report
from lvsd.events import AddressMisplaced
from lvsd.model import Address


def vip(text: str) -> DirectorAddress:
    address, _, prefix = text.partition("/")
    return DirectorAddress(Address.parse(address), int(prefix), "eth0")


def own(text: str) -> FoundAddress:
    address, _, prefix = text.partition("/")
    return FoundAddress(Address.parse(address), int(prefix), "eth0", "")


@pytest.mark.parametrize(
    ("address", "there", "wrong"),
    [
        ("192.168.0.101/24", ["192.168.0.1/24"], False),
        ("192.168.0.101/24", ["192.168.1.1/24"], True),
        ("192.168.0.101/24", ["192.168.1.1/24", "192.168.0.1/16"], False),
        ("192.168.0.101/32", ["10.0.0.1/8"], False),
        ("192.168.0.101/24", [], False),
        ("2001:db8::101/64", ["2001:db8:1::1/64", "fe80::1/64"], True),
        ("2001:db8::101/128", ["2001:db8:1::1/64"], False),
        ("2001:db8::101/64", ["fe80::1/64"], False),
    ],
)
def test_a_vip_in_no_network_of_its_interface_is_told(address: str, there: list[str], *, wrong: bool) -> None:
    told = misplaced(vip(address), map(own, there))
    expected = AddressMisplaced(address=address, interface="eth0", networks=there)
    assert told == ([Report(expected)] if wrong else [])
