from __future__ import annotations

import pytest

from lvsd.ipvs.change import AddServer, AddService, Change, RemoveServer
from lvsd.ipvs.refusals import Refusals
from lvsd.model import Address, Forwarding, Instant, Protocol, Server, ServerKey, Service, VirtualAddress

VIP = VirtualAddress(Protocol.TCP, Address.parse("192.168.0.101"), 80)
RS1 = ServerKey(Address.parse("192.168.0.3"), 80)
ADD: Change = AddServer(VIP, RS1, Server(Forwarding.DR, 1))
REMOVE: Change = RemoveServer(VIP, RS1)


def at(moment: float) -> Instant:
    return Instant(moment, 0)


def test_the_same_change_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    refusals = Refusals()
    waits = [refusals.add((VIP, RS1), ADD, "no", at(0)).wait for _ in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_another_change_of_the_same_row_begins_anew() -> None:
    refusals = Refusals()
    refusals.add((VIP, RS1), ADD, "no", at(0))
    refusals.add((VIP, RS1), ADD, "no", at(1))
    assert refusals.add((VIP, RS1), REMOVE, "no", at(3)).wait == 1


def test_a_refused_change_waits_and_another_for_its_row_does_not() -> None:
    refusals = Refusals()
    refusals.add((VIP, RS1), ADD, "no", at(0))
    assert refusals.waiting(VIP, {RS1: ADD}, at(0.9)) == {RS1}
    assert refusals.waiting(VIP, {RS1: REMOVE}, at(0.9)) == set()
    assert refusals.waiting(VIP, {RS1: ADD}, at(1.0)) == set()


def test_what_is_planned_no_more_is_forgotten() -> None:
    refusals = Refusals()
    refusals.add((VIP, RS1), ADD, "no", at(0))
    assert refusals.waiting(VIP, {}, at(0)) == set()
    assert refusals.add((VIP, RS1), ADD, "no", at(0)).wait == 1


def test_the_next_to_be_tried_wakes_first() -> None:
    refusals = Refusals()
    assert refusals.next_at is None
    refusals.add((VIP, RS1), ADD, "no", at(5))
    refusals.add((VIP, None), AddService(VIP, Service("rr")), "no", at(2))
    assert refusals.next_at == 3
    assert refusals.due(at(3)) == [VIP]
    assert refusals.next_at == 6
    assert refusals.due(at(6)) == [VIP]
    assert refusals.next_at is None


@pytest.mark.parametrize("moment", [1.0, 1.5, 100.0])
def test_a_timer_that_fired_is_not_set_to_the_past_again(moment: float) -> None:
    refusals = Refusals()
    refusals.add((VIP, RS1), ADD, "no", at(0))
    refusals.due(at(moment))
    assert refusals.next_at is None


def test_what_was_accepted_is_forgotten() -> None:
    refusals = Refusals()
    refusals.add((VIP, RS1), ADD, "no", at(0))
    refusals.forget((VIP, RS1))
    refusals.forget((VIP, RS1))
    assert refusals.due(at(1)) == []
