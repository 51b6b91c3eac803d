from __future__ import annotations

from dataclasses import replace

import pytest

from lvsd.config.model import DirectorAddress, Scope
from lvsd.effects import AddAddress, Effect, Remember, RemoveAddress, Report
from lvsd.events import AddressAdded, AddressRefused, AddressRemoved
from lvsd.model import Address
from lvsd.vips import Vips

VIP = DirectorAddress(Address.parse("192.168.0.101"), 24, "eth0", "eth0:101")
OTHER = DirectorAddress(Address.parse("2001:db8::1"), 64, "eth0")
AT = VIP.address, VIP.interface


def told(effects: list[Effect]) -> list[str]:
    """Return effects in short: what is told, and what is to be done."""
    short = []
    for effect in effects:
        match effect:
            case Report(AddressAdded(address=address, cause=cause)):
                short.append(f"added {address} {cause}")
            case Report(AddressRemoved(address=address, cause=cause)):
                short.append(f"removed {address} {cause}")
            case Report(AddressRefused(reason=reason)):
                short.append(f"refused {reason}")
            case AddAddress(address):
                short.append(f"add {address}")
            case RemoveAddress(address):
                short.append(f"remove {address}")
            case Remember():
                short.append("remember")
            case _:
                raise AssertionError(effect)
    return short


@pytest.fixture
def vips() -> Vips:
    vips = Vips([])
    vips.want([VIP])
    return vips


@pytest.fixture
def held(vips: Vips) -> Vips:
    vips.see([], "config")
    vips.added(VIP, "")
    return vips


def test_what_is_wanted_is_written_down_before_it_is_added() -> None:
    vips = Vips([])
    assert told(vips.want([VIP])) == ["remember"]
    assert list(vips.owned.values()) == [VIP]


def test_a_vip_that_is_missing_is_added(vips: Vips) -> None:
    assert told(vips.see([], "config")) == ["add 192.168.0.101/24"]
    assert told(vips.added(VIP, "")) == ["added 192.168.0.101/24 config"]
    assert told(vips.see([AT], "config")) == []


def test_a_vip_that_is_there_is_adopted(vips: Vips) -> None:
    assert told(vips.see([AT], "config")) == ["added 192.168.0.101/24 adopted"]
    assert list(vips.held.values()) == [VIP]


def test_a_vip_that_vanished_is_told_and_put_back(held: Vips) -> None:
    assert told(held.see([], "config")) == ["removed 192.168.0.101/24 drift", "add 192.168.0.101/24"]
    assert told(held.added(VIP, "")) == ["added 192.168.0.101/24 mended"]


def test_one_that_is_mended_does_not_lend_its_cause_to_another(held: Vips) -> None:
    held.want([VIP, OTHER])
    held.see([], "config")
    assert told(held.added(OTHER, "")) == ["added 2001:db8::1/64 config"]
    assert told(held.added(VIP, "")) == ["added 192.168.0.101/24 mended"]


def test_a_vip_that_is_no_longer_wanted_is_removed_and_forgotten(held: Vips) -> None:
    held.want([])
    assert told(held.see([AT], "config")) == ["remove 192.168.0.101/24"]
    assert told(held.removed(VIP, "", "config")) == ["removed 192.168.0.101/24 config", "remember"]
    assert held.owned == held.held == {}
    assert held.concerned == []


def test_what_an_earlier_run_left_is_removed() -> None:
    vips = Vips([VIP])
    vips.want([])
    assert told(vips.see([AT], "config")) == ["added 192.168.0.101/24 adopted", "remove 192.168.0.101/24"]


def test_what_an_earlier_run_wrote_down_but_is_gone_is_forgotten() -> None:
    vips = Vips([VIP, OTHER])
    vips.want([])
    assert told(vips.see([], "config")) == ["remember"]
    assert vips.owned == {}


def test_addresses_that_are_not_lvsds_do_not_matter(vips: Vips) -> None:
    assert told(vips.see([AT, (OTHER.address, "eth0")], "config")) == ["added 192.168.0.101/24 adopted"]
    assert vips.concerned == [VIP]


@pytest.mark.parametrize("change", [{"prefix": 32}, {"label": "eth0:1"}, {"scope": Scope.LINK}])
def test_a_vip_with_another_prefix_label_or_scope_is_replaced(held: Vips, change: dict[str, object]) -> None:
    fresh = replace(VIP, **change)  # type: ignore[arg-type]
    held.want([fresh])
    assert told(held.see([AT], "config")) == [f"remove {VIP}", f"add {fresh}"]
    held.removed(VIP, "", "config")
    held.added(fresh, "")
    assert list(held.owned.values()) == list(held.held.values()) == [fresh]
    assert told(held.see([AT], "config")) == []


def test_a_vip_that_an_earlier_run_made_otherwise_is_replaced() -> None:
    fresh = replace(VIP, prefix=32)
    vips = Vips([VIP])
    vips.want([fresh])
    assert told(vips.see([AT], "config")) == [f"added {VIP} adopted", f"remove {VIP}", f"add {fresh}"]
    vips.removed(VIP, "", "config")
    vips.added(fresh, "")
    assert told(vips.see([AT], "config")) == []
    assert told(vips.see([], "config")) == [f"removed {fresh} drift", f"add {fresh}"]
    vips.added(fresh, "")
    assert list(vips.owned.values()) == list(vips.held.values()) == [fresh]


def test_a_refusal_is_told_once_until_it_changes_or_ends(vips: Vips) -> None:
    answers = []
    for error in ("no such device", "no such device", "permission denied", "", "no such device"):
        vips.see([], "config")
        answers += told(vips.added(VIP, error))
    assert answers == [
        "refused no such device",
        "refused permission denied",
        "added 192.168.0.101/24 config",
        "refused no such device",
    ]


def test_a_reload_lets_a_refusal_be_told_again(vips: Vips) -> None:
    vips.see([], "config")
    vips.added(VIP, "no such device")
    vips.want([VIP])
    assert told(vips.added(VIP, "no such device")) == ["refused no such device"]


def test_a_vip_that_cannot_be_removed_stays_held(held: Vips) -> None:
    held.want([])
    assert told(held.removed(VIP, "permission denied", "config")) == ["refused permission denied"]
    assert told(held.see([AT], "config")) == ["remove 192.168.0.101/24"]
