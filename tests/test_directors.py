from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lan import VIP, Lan, Node, instance

from lvsd.config.model import (
    Command,
    DirectorAddress,
    TrackedCommand,
    TrackedInterface,
    TrackedService,
    VrrpInstance,
)
from lvsd.events import (
    AddressContested,
    VrrpChanged,
    VrrpContested,
    VrrpDiffers,
    VrrpMaster,
    VrrpRejected,
    VrrpTracked,
    VrrpWaiting,
)
from lvsd.failover import Failover, Link
from lvsd.model import Address
from lvsd.vrrp.admission import MOST_TROUBLES, Limiter
from lvsd.vrrp.packet import GROUP_V4, RESIGNED, Advertisement, encode
from lvsd.vrrp.reception import Packet
from lvsd.vrrp.tenure import HAND_OVER, LINGER

PEER = Address.parse("192.0.2.9")
BOUND_100 = 3 + 156 / 256
"""The master-down interval at priority 100 and one second."""


@pytest.fixture
def lan() -> Lan:
    return Lan()


@pytest.fixture
def pair(lan: Lan) -> tuple[Node, Node]:
    """Two directors, of which vs1 is master."""
    nodes = lan.add("vs1", instance(priority=150)), lan.add("vs2", instance(priority=100))
    lan.run(10)
    assert lan.masters() == lan.owners() == ["vs1"]
    return nodes


def said(priority: int, **settings: object) -> Packet:
    """Return what the instance's master might advertise, were it at PEER."""
    told: dict[str, object] = {
        "version": 3, "vrid": 51, "interval": 1.0, "addresses": (VIP.address,), "source": PEER,
    }  # fmt: skip
    advertisement = Advertisement(priority=priority, **told | settings)  # type: ignore[arg-type]
    return Packet("eth0", PEER, GROUP_V4, 255, encode(advertisement, GROUP_V4))


def test_of_directors_that_start_together_the_one_of_highest_priority_is_master(lan: Lan) -> None:
    for name, priority in (("vs1", 100), ("vs2", 200), ("vs3", 150)):
        lan.add(name, instance(priority=priority))
    lan.run(10)
    assert lan.masters() == lan.owners() == ["vs2"]


def test_of_equal_priorities_the_highest_address_wins_and_stays(lan: Lan) -> None:
    for name in "vs1", "vs2", "vs3":
        lan.add(name, instance())
    lan.run(30)
    assert lan.masters() == lan.owners() == ["vs3"]
    assert lan.nodes["vs3"].changes() == ["backup", "master"]


def test_nobody_is_master_before_it_serves(lan: Lan) -> None:
    node = lan.add("vs1", instance(priority=255), serving=False)
    lan.run(60)
    assert lan.masters() == []
    assert [type(event) for _, event in node.events] == [VrrpWaiting]
    lan.serve(node)
    lan.run(0.1)
    assert lan.masters() == ["vs1"]


def test_who_comes_back_takes_over_when_it_serves_and_not_before(lan: Lan, pair: tuple[Node, Node]) -> None:
    pair[0].dead = True
    lan.run(10)
    assert lan.masters() == ["vs2"]
    back = lan.add("vs1 again", instance(priority=150), serving=False)
    lan.run(60)
    assert lan.masters() == ["vs2"]
    assert back.changes() == []
    lan.serve(back)
    lan.run(10)
    assert lan.masters() == ["vs1 again"]


def test_a_master_that_dies_is_followed_within_the_protocols_bound(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    vs1.dead = True
    died_at = lan.now
    lan.run(10)
    taken_at = next(at for at, event in vs2.events[::-1] if getattr(event, "new", "") == "master")
    assert 2 < taken_at - died_at <= BOUND_100 + 0.01


def test_a_master_that_stops_keeps_the_vip_until_another_has_it(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    nobody: list[float] = []
    both: list[float] = []

    def watch() -> None:
        (nobody if not lan.owners() else both if len(lan.owners()) > 1 else []).append(lan.now)

    stopped_at = lan.now
    lan.do(vs1, vs1.failover.stop)
    lan.run(5, watch=watch)
    assert lan.owners() == ["vs2"]
    assert not nobody
    assert both[-1] - both[0] < 0.1
    assert both[0] - stopped_at < 0.62  # the skew
    assert vs1.notices[-1] == ("vip", "stop")
    assert vs2.notices[-1] == ("vip", "master")


def test_connections_are_handed_over_before_during_and_at_the_end_of_a_move(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, vs2 = pair
    stopped_at = lan.now
    lan.do(vs1, vs1.failover.stop)
    lan.run(5)
    heard_at = next(at for at, event in vs2.events[::-1] if getattr(event, "new", "") == "master")
    moments = sorted([0.0, *HAND_OVER, LINGER])
    expected = [stopped_at, *(heard_at + delay for delay in moments)]
    assert vs1.handed_over == pytest.approx(expected, abs=0.005)

    lan.add("vs1 again", instance(priority=150))
    came_at = lan.now
    lan.run(10)
    yielded_at = next(at for at, event in vs2.events[::-1] if getattr(event, "new", "") == "backup")
    assert yielded_at > came_at
    assert vs2.handed_over == pytest.approx([yielded_at + delay for delay in moments], abs=0.005)
    assert vs2.took_in == []


def test_the_winner_of_two_masters_takes_in_what_the_other_has_to_tell(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, vs2 = pair
    vs1.heard = vs2.heard = False
    lan.run(10)
    assert lan.masters() == ["vs1", "vs2"]
    vs1.heard = vs2.heard = True
    lan.run(10)
    assert lan.masters() == ["vs1"]
    assert vs1.took_in
    assert vs1.took_in[0] < vs2.handed_over[1]
    assert vs1.handed_over == []


def test_the_winner_that_is_heard_first_takes_in_what_the_other_has_to_tell(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, vs2 = pair
    vs1.heard = vs2.heard = False
    lan.run(10)
    while next_of(vs1) > next_of(vs2):  # it is vs1 who speaks first
        lan.run(0.01)
    vs1.heard = vs2.heard = True
    lan.run(1)
    assert lan.masters() == ["vs1"]
    assert vs1.of(VrrpContested) == []
    assert vs1.took_in
    assert vs1.took_in[0] < vs2.handed_over[-1]


def next_of(node: Node) -> float:
    """Return when a director that has something to do does it."""
    assert node.failover.next_timer is not None
    return node.failover.next_timer


@pytest.mark.parametrize(("virtual_mac", "together"), [(False, 0.05), (True, 0.3)])
def test_a_master_that_yields_holds_until_the_next_has_its_interface(
    lan: Lan, *, virtual_mac: bool, together: float
) -> None:
    lan.add("vs2", replace(instance(), virtual_mac=virtual_mac))
    lan.run(10)
    lan.add("vs1", replace(instance(priority=150), virtual_mac=virtual_mac))
    owners: list[tuple[float, list[str]]] = []
    lan.run(10, watch=lambda: owners.append((lan.now, lan.owners())))
    assert lan.owners() == ["vs1"]
    began_at = next(at for at, names in owners if len(names) > 1)
    ended_at = next(at for at, names in owners if names == ["vs1"])
    assert ended_at - began_at == pytest.approx(together, abs=0.01)


def test_a_director_alone_that_stops_leaves_no_vip_behind(lan: Lan) -> None:
    node = lan.add("vs1", instance())
    lan.run(10)
    lan.do(node, node.failover.stop)
    lan.run(1.5)
    assert lan.owners() == []


def test_a_fail_back_leaves_no_moment_without_the_vip(lan: Lan, pair: tuple[Node, Node]) -> None:
    pair[0].dead, pair[0].holds = True, set()
    lan.run(10)
    nobody: list[float] = []
    lan.add("vs1 again", instance(priority=150))
    lan.run(10, watch=lambda: None if lan.owners() else nobody.append(lan.now))
    assert lan.owners() == ["vs1 again"]
    assert not nobody


def test_a_cut_heals_to_one_master_who_tells_the_neighbours(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    vs1.hears = vs1.heard = False
    lan.run(10)
    assert lan.masters() == ["vs1", "vs2"]
    vs1.hears = vs1.heard = True
    healed_at = lan.now
    lan.run(7)
    assert lan.masters() == lan.owners() == ["vs1"]
    assert len([at for at in vs1.announced if at > healed_at]) >= 5
    (told,) = vs1.of(VrrpContested)
    assert (told.peer, told.yields) == (str(vs2.source), "peer")


@pytest.mark.parametrize("wait", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_after_a_cut_the_winner_tells_the_neighbours_whoever_is_heard_first(
    lan: Lan, pair: tuple[Node, Node], wait: float
) -> None:
    vs1, vs2 = pair
    vs1.hears = vs1.heard = False
    lan.run(10 + wait)
    vs1.hears = vs1.heard = True
    lan.run(3)
    yielded_at = next(at for at, event in vs2.events[::-1] if getattr(event, "new", "") == "backup")
    assert any(yielded_at < at < yielded_at + 0.1 for at in vs1.announced)


@pytest.mark.parametrize("seed", range(20))
def test_after_a_cut_the_winner_tells_the_neighbours_though_packets_are_lost(
    lan: Lan, pair: tuple[Node, Node], seed: int
) -> None:
    vs1, vs2 = pair
    vs1.hears = vs1.heard = False
    lan.run(10 + seed / 20)
    vs1.hears = vs1.heard = True
    lan.loss = 0.3
    lan.run(10)
    yielded_at = next(at for at, event in vs2.events[::-1] if getattr(event, "new", "") == "backup")
    assert any(yielded_at < at < yielded_at + 0.5 for at in vs1.announced)


def test_a_master_tells_the_neighbours_every_minute(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    lan.run(20)
    told = len(vs1.announced)
    lan.run(180)
    assert len(vs1.announced) == told + 3
    assert not vs2.announced


@pytest.mark.parametrize("direction", ["hears", "heard"])
def test_a_one_way_cut_ends_as_the_rules_say(lan: Lan, pair: tuple[Node, Node], direction: str) -> None:
    vs1, _ = pair
    setattr(vs1, direction, False)
    lan.run(30)
    # Who is heard by the other and outranks it stays alone; who is not is master beside it.
    assert lan.masters() == (["vs1"] if direction == "hears" else ["vs1", "vs2"])
    setattr(vs1, direction, True)
    lan.run(3)
    assert lan.masters() == ["vs1"]


@pytest.mark.parametrize("seed", range(20))
def test_a_third_of_the_packets_lost_moves_nothing(seed: int) -> None:
    lan = Lan(loss=0.3, seed=seed)
    vs1, vs2 = lan.add("vs1", instance(priority=150)), lan.add("vs2", instance(priority=100))
    lan.run(15)
    before = vs1.changes(), vs2.changes()
    lan.run(60)
    assert (vs1.changes(), vs2.changes()) == before
    assert lan.masters() == ["vs1"]


def test_without_loss_nobody_asks(lan: Lan, pair: tuple[Node, Node]) -> None:
    lan.run(60)
    assert not pair[1].sent
    assert {send.advertisement.priority for _, send in pair[0].sent} == {150}


@pytest.mark.parametrize("jitter", [0.0, 0.19])
def test_late_and_reordered_packets_move_nothing(jitter: float) -> None:
    lan = Lan(delay=0.2, jitter=jitter)
    nodes = lan.add("vs1", instance(priority=150)), lan.add("vs2", instance(priority=100))
    lan.run(15)
    before = [node.changes() for node in nodes]
    lan.run(120)
    assert [node.changes() for node in nodes] == before
    assert lan.masters() == ["vs1"]


def test_a_master_whose_process_stood_still_yields_at_once(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    lan.pause(vs1, 10)
    assert vs2.changes()[-1] == "master"
    assert lan.masters() == ["vs2"]
    lan.run(0.1)
    assert lan.owners() == ["vs2"]
    lan.run(10)
    assert lan.owners() == ["vs1"]


def test_sync_groups_move_together(lan: Lan) -> None:
    def two(priority: int) -> list:
        return [
            instance("outer", priority=priority, sync_group="g"),
            instance(
                "inner", priority=priority, vrid=52, sync_group="g",
                addresses=(replace(VIP, address=Address.parse("192.0.2.102")),),
            ),
        ]  # fmt: skip

    vs1, vs2 = lan.add("vs1", *two(150)), lan.add("vs2", *two(100))
    lan.run(10)
    vs1.instances[0] = replace(vs1.instances[0], track=(TrackedInterface("eth1"),))
    lan.do(vs1, lambda now: vs1.failover.configure(vs1.instances, now))
    lan.do(vs1, lambda now: vs1.failover.link("eth1", Link(fault="eth1 is down"), now))
    assert (vs1.changes("outer")[-1], vs1.changes("inner")[-1]) == ("fault", "fault")
    lan.run(3)
    assert lan.masters("outer") == lan.masters("inner") == ["vs2"]
    lan.do(vs1, lambda now: vs1.failover.link("eth1", Link(), now))
    lan.run(10)
    assert lan.masters("outer") == lan.masters("inner") == ["vs1"]
    assert vs2.changes("inner")[-1] == "backup"


def test_a_tracked_service_that_is_lost_lowers_the_priority(lan: Lan) -> None:
    track = (TrackedService("www", 60),)
    vs1 = lan.add("vs1", instance(priority=150, track=track))
    lan.add("vs2", instance(priority=100))
    lan.run(10)
    lan.do(vs1, lambda now: vs1.failover.find("service www", False, "all its 2 real servers are down", now))  # noqa: FBT003
    (told,) = vs1.of(VrrpTracked)
    assert (told.tracked, told.well, told.priority) == ("service www", False, 90)
    lan.run(10)
    assert lan.masters() == ["vs2"]
    lan.do(vs1, lambda now: vs1.failover.find("service www", True, "", now))  # noqa: FBT003
    lan.run(10)
    assert lan.masters() == ["vs1"]


def test_an_interface_that_fails_is_a_fault_and_the_vip_goes_at_once(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, _ = pair
    vs1.hears = vs1.heard = False
    lan.do(vs1, lambda now: vs1.failover.link("eth0", Link((vs1.source,), "eth0 is down"), now))
    assert vs1.changes()[-1] == "fault"
    assert lan.owners() == []
    lan.run(5)
    assert lan.owners() == ["vs2"]
    vs1.hears = vs1.heard = True
    lan.do(vs1, lambda now: vs1.failover.link("eth0", Link((vs1.source,)), now))
    lan.run(5)
    assert lan.owners() == ["vs1"]


def test_a_reload_changes_vips_and_priority_without_leaving_master(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, _ = pair
    other = DirectorAddress(Address.parse("192.0.2.110"), 24, "eth0")
    changed = instance(priority=120, interval=0.5, addresses=(VIP, other))
    lan.do(vs1, lambda now: vs1.failover.configure([changed], now))
    assert vs1.holds == {VIP.address, other.address}
    lan.run(20)
    assert vs1.changes() == ["backup", "master"]
    assert lan.masters() == ["vs1"]
    lan.do(vs1, lambda now: vs1.failover.configure([], now))
    lan.run(2)
    assert lan.owners() == ["vs2"]


def test_a_director_that_was_killed_goes_on_where_nobody_took_over(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    vs1.dead = True
    lan.run(1)
    again = killed_and_back(lan, vs1)
    lan.do(again, lambda _: again.failover.resume([VIP], {"vip": lan.now + 2}))
    assert [vip for each in again.failover.holding for vip in each.vips] == [VIP]
    lan.do(again, lambda now: again.failover.serve(now, adopted=True, serving=False))
    assert again.changes() == ["master"]
    lan.run(10)
    assert vs2.changes() == ["backup"]


def test_a_director_that_is_stopped_before_it_has_resumed_resigns(lan: Lan, pair: tuple[Node, Node]) -> None:
    again = killed_and_back(lan, pair[0])
    lan.do(again, lambda _: again.failover.resume([VIP], {}))
    lan.run(0.1)
    lan.do(again, again.failover.stop)
    nobody: list[float] = []
    lan.run(0.62 + LINGER, watch=lambda: nobody.append(lan.now) if not lan.owners() else None)  # the skew
    assert [effect.advertisement.priority for _, effect in again.sent] == [RESIGNED]
    assert lan.owners() == ["vs2"]
    assert not nobody


def killed_and_back(lan: Lan, node: Node) -> Node:
    """Return a director in its next run, which has done nothing yet."""
    again = lan.nodes[node.name] = Node(node.name, node.source, Failover(), node.instances)
    lan.do(again, lambda now: again.failover.link("eth0", Link((again.source,)), now))
    lan.do(again, lambda now: again.failover.configure(again.instances, now))
    return again


def test_a_director_that_cannot_put_its_vip_in_place_leaves_it_to_one_that_can(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, vs2 = pair
    refused_at = lan.now
    lan.do(vs1, lambda now: vs1.failover.place(VIP, "IPv6 is disabled there", now))
    lan.run(1)
    assert lan.masters() == ["vs2"]
    lan.run(30)
    assert lan.masters() == lan.owners() == ["vs2"]
    assert vs1.changes()[-1] == "backup"
    told = vs1.of(VrrpTracked)
    assert [(each.tracked, each.well, each.priority) for each in told] == [
        (f"address {VIP.address}", False, 1)
    ]

    # Refused as well, the other is of one priority with it: the VIP is back, and stays.
    lan.do(vs2, lambda now: vs2.failover.place(VIP, "IPv6 is disabled there", now))
    lan.run(30)
    assert len(lan.masters()) == 1
    settled = vs1.changes(), vs2.changes()
    for node in pair:
        lan.do(node, lambda now, node=node: node.failover.place(VIP, "IPv6 is disabled there", now))  # type: ignore[misc]
    lan.run(30)
    assert (vs1.changes(), vs2.changes()) == settled

    # What is on the interface changes: of the other IP version nothing follows, else it is tried anew.
    settled = vs1.changes(), vs2.changes()
    for node in pair:
        link = Link((node.source, Address.parse("fe80::1")))
        lan.do(node, lambda now, node=node, link=link: node.failover.link("eth0", link, now))  # type: ignore[misc]
    lan.run(30)
    assert (vs1.changes(), vs2.changes()) == settled
    for node in pair:
        for link in (Link((), "eth0 is down"), Link((node.source,))):
            lan.do(node, lambda now, node=node, link=link: node.failover.link("eth0", link, now))  # type: ignore[misc]
    lan.run(30)
    assert lan.masters() == lan.owners() == ["vs1"]
    assert vs1.of(VrrpTracked)[-1].well
    assert refused_at < lan.now


REFUSAL = "IPv6 is disabled there"


@pytest.fixture
def refused(lan: Lan, pair: tuple[Node, Node]) -> tuple[Node, Node]:
    """Two directors, of which vs1 cannot have the VIP, and vs2 is master for that."""
    lan.do(pair[0], lambda now: pair[0].failover.place(VIP, REFUSAL, now))
    lan.run(10)
    assert lan.masters() == lan.owners() == ["vs2"]
    return pair


def test_a_refused_vip_stays_with_the_other_through_reloads_and_other_addresses(
    lan: Lan, refused: tuple[Node, Node]
) -> None:
    vs1, vs2 = refused
    before = vs1.changes(), vs2.changes()
    for number in range(3):
        lan.do(vs1, lambda now: vs1.failover.configure(vs1.instances, now))
        own = (vs1.source, Address.parse(f"192.0.2.{20 + number}"))
        lan.do(vs1, lambda now, own=own: vs1.failover.link("eth0", Link(own), now))  # type: ignore[misc]
        for made in ("", "vrrp.51 is down"):
            lan.do(vs1, lambda now, made=made: vs1.failover.link("vrrp.51", Link((), made), now))  # type: ignore[misc]
        lan.run(10)
    assert (vs1.changes(), vs2.changes()) == before


def test_a_refused_vip_that_a_reload_places_otherwise_is_tried_anew(
    lan: Lan, refused: tuple[Node, Node]
) -> None:
    vs1, _ = refused
    other = replace(vs1.instances[0], addresses=(replace(VIP, prefix=32),))
    lan.do(vs1, lambda now: vs1.failover.configure([other], now))
    lan.run(10)
    assert lan.masters() == ["vs1"]
    assert vs1.of(VrrpTracked)[-1].priority == 150


@pytest.mark.parametrize("settings", [{"priority": 255}, {"preempt": False}], ids=str)
def test_whoever_has_no_vip_is_not_master_beside_one_that_can_have_it(
    lan: Lan, settings: dict[str, object]
) -> None:
    vs1 = lan.add("vs1", instance(**{"priority": 150} | settings))
    lan.run(10)
    lan.add("vs2", instance(**{"priority": 100} | settings | {"priority": 100}))
    lan.run(10)
    assert lan.masters() == ["vs1"]
    for _ in range(20):
        lan.do(vs1, lambda now: vs1.failover.place(VIP, REFUSAL, now))
        lan.run(1)
    assert lan.masters() == lan.owners() == ["vs2"]
    assert vs1.changes()[-1] == "backup"


@pytest.mark.parametrize("refused", [0, 1])
def test_a_lone_director_that_resigns_for_a_refused_vip_keeps_the_others_meanwhile(
    lan: Lan, refused: int
) -> None:
    more = replace(VIP, address=Address.parse("192.0.2.102"))
    vips = (VIP, more)
    vs1 = lan.add("vs1", instance(addresses=vips, preempt=False))
    lan.run(10)
    nobody: list[float] = []
    lan.do(vs1, lambda now: vs1.failover.place(vips[refused], REFUSAL, now))
    lan.run(20, watch=lambda: nobody.append(lan.now) if not vs1.holds else None)
    assert vs1.changes() == ["backup", "master", "backup", "master"]
    assert not nobody


def test_an_owner_that_can_have_its_vip_again_takes_it_whatever_preempt_says(lan: Lan) -> None:
    vs1 = lan.add("vs1", instance(priority=255, preempt=False))
    lan.run(5)
    lan.add("vs2", instance(priority=100, preempt=False))
    lan.do(vs1, lambda now: vs1.failover.place(VIP, REFUSAL, now))
    lan.run(10)
    assert lan.masters() == ["vs2"]
    lan.do(vs1, lambda now: vs1.failover.place(VIP, "", now))
    lan.run(10)
    assert lan.masters() == lan.owners() == ["vs1"]


def test_a_group_gives_up_a_refused_vip_though_one_of_it_does_not_preempt(lan: Lan) -> None:
    other = replace(VIP, address=Address.parse("192.0.2.102"))
    more = replace(VIP, address=Address.parse("192.0.2.103"))

    def group(priority: int) -> tuple[VrrpInstance, VrrpInstance]:
        both = {"priority": priority, "sync_group": "g"}
        return (
            instance("g0", preempt=False, **both),
            instance("g1", vrid=52, addresses=(other, more), **both),
        )

    vs1 = lan.add("vs1", *group(150))
    lan.run(10)
    vs2 = lan.add("vs2", *group(100))
    lan.run(10)
    assert vs1.failover.masters == {"g0", "g1"}
    lan.do(vs1, lambda now: vs1.failover.place(more, REFUSAL, now))
    lan.run(20)
    assert vs2.failover.masters == {"g0", "g1"}
    assert vs1.failover.masters == set()


def test_a_group_that_resumes_gives_all_up_where_one_was_taken(lan: Lan) -> None:
    other = replace(VIP, address=Address.parse("192.0.2.102"))
    members = instance("g0", sync_group="g"), instance("g1", vrid=52, addresses=(other,), sync_group="g")
    vs1 = lan.add("vs1", *members, serving=False)
    lan.do(vs1, lambda _: vs1.failover.resume([VIP, other], {}))
    assert vs1.holds == {VIP.address, other.address}
    lan.do(vs1, lambda now: vs1.failover.claimed("eth0", other.address, "02:00:00:00:00:09", now))
    assert vs1.holds == set()


def test_a_director_that_is_in_fault_before_it_has_resumed_resigns(lan: Lan, pair: tuple[Node, Node]) -> None:
    tracking = instance(priority=150, track=(TrackedInterface("eth1", 0),))
    again = killed_and_back(lan, pair[0])
    lan.do(again, lambda now: again.failover.configure([tracking], now))
    lan.do(again, lambda _: again.failover.resume([VIP], {}))
    lan.do(again, lambda now: again.failover.link("eth1", Link((), "eth1 is down"), now))
    lan.run(0.62 + LINGER)  # the skew
    assert [effect.advertisement.priority for _, effect in again.sent] == [RESIGNED]
    assert lan.owners() == ["vs2"]


def test_a_preempt_delay_that_a_reload_shortens_is_over_sooner(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, _ = pair
    vs1.dead = True
    lan.run(10)
    slow = instance(priority=150, preempt_delay=300.0)
    again = lan.add("vs1 again", slow)
    lan.run(60)
    assert lan.masters() == ["vs2"]
    lan.do(again, lambda now: again.failover.configure([replace(slow, preempt_delay=70.0)], now))
    lan.run(5)
    assert lan.masters() == ["vs2"]
    lan.run(15)
    assert lan.masters() == ["vs1 again"]


def test_one_vip_of_two_that_is_refused_costs_the_priority_and_nothing_at_once(lan: Lan) -> None:
    more = replace(VIP, address=Address.parse("192.0.2.102"))
    both = instance(priority=150, addresses=(VIP, more))
    vs1 = lan.add("vs1", both)
    lan.run(10)
    lan.do(vs1, lambda now: vs1.failover.place(more, "no", now))
    lan.run(10)
    assert vs1.changes() == ["backup", "master"]
    assert [event.priority for event in vs1.of(VrrpTracked)] == [1]
    lan.do(vs1, lambda now: vs1.failover.place(more, "", now))
    assert [event.priority for event in vs1.of(VrrpTracked)] == [1, 150]


def test_a_director_that_was_killed_drops_the_vip_where_somebody_took_over(lan: Lan) -> None:
    node = lan.add("vs1", instance(priority=150), serving=False)
    lan.do(node, lambda _: node.failover.resume([VIP], {"vip": lan.now - 97}))
    node.holds = {VIP.address}
    lan.run(0.5)
    lan.inject(node, said(100))
    assert lan.owners() == []
    assert lan.masters() == []


def test_a_neighbour_that_has_the_vip_ends_what_an_earlier_run_left(lan: Lan) -> None:
    node = lan.add("vs1", instance(priority=150), serving=False)
    lan.do(node, lambda _: node.failover.resume([VIP], {"vip": lan.now - 97}))
    node.holds = {VIP.address}
    lan.do(node, lambda now: node.failover.claimed("eth0", VIP.address, "02:00:00:00:00:09", now))
    assert lan.owners() == []


def test_another_host_that_answers_for_the_vip_is_told_once_a_minute(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, vs2 = pair
    for _ in range(100):
        lan.do(vs1, lambda now: vs1.failover.claimed("eth0", VIP.address, "02:00:00:00:00:09", now))
        lan.do(vs2, lambda now: vs2.failover.claimed("eth0", VIP.address, "02:00:00:00:00:01", now))
        lan.run(1)
    assert [event.mac for event in vs1.of(AddressContested)] == ["02:00:00:00:00:09"] * 2
    assert vs2.of(AddressContested) == []
    assert len([at for at in vs1.inquired if at < lan.now]) >= 2


@pytest.mark.parametrize(
    ("settings", "packet", "reason"),
    [
        (
            {"version": 2, "password": "secret"},
            said(200, version=2, password=b"other"),
            "password is another",
        ),
        ({"version": 2, "password": "secret"}, said(200, version=2), "it has no password"),
        ({"version": 2}, said(200), "it is of version 3, and this director's of version 2"),
        ({"version": 2}, said(200, version=2, interval=2.0), "its interval is 2 s, not 1 s"),
        ({"peers": (Address.parse("192.0.2.2"),)}, said(200), "none of this director's unicast_peers"),
    ],
)
def test_what_cannot_be_heeded_is_told_and_changes_nothing(
    lan: Lan, settings: dict[str, object], packet: Packet, reason: str
) -> None:
    node = lan.add("vs1", instance(**settings))
    lan.run(10)
    for _ in range(90):
        lan.inject(node, packet)
        lan.run(1)
    assert node.changes() == ["backup", "master"]
    first, second = node.of(VrrpRejected)
    assert reason in first.reason
    assert (first.instance, first.count, second.count) == ("vip", 1, 60)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (said(200, addresses=(PEER,)), "it advertises 192.0.2.9, this director 192.0.2.101"),
        (said(200, interval=2.0), "its interval is 2 s, this director's 1 s"),
        (said(200, covers_addresses=False), "v3_checksum_as_v2"),
    ],
)
def test_what_differs_is_heeded_and_told(lan: Lan, packet: Packet, reason: str) -> None:
    node = lan.add("vs1", instance())
    lan.run(10)
    for _ in range(10):
        lan.inject(node, packet)
    assert node.changes()[-1] == "backup"
    (told,) = node.of(VrrpDiffers)
    assert reason in told.reason


def test_a_peer_whose_checksum_leaves_out_the_addresses_is_answered_likewise(lan: Lan) -> None:
    node = lan.add("vs1", instance())
    lan.run(10)
    lan.inject(node, said(50, covers_addresses=False))
    assert node.sent[-1][1].advertisement.covers_addresses is False


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=64), min_size=50, max_size=200), st.integers(0, 255))
def test_thousands_of_malformed_packets_make_one_line(payloads: list[bytes], hop_limit: int) -> None:
    lan = Lan()
    node = lan.add("vs1", instance())
    lan.run(10)
    before, sent = node.changes(), len(node.sent)
    good = said(200).payload
    for payload in [
        *payloads,
        good[:-1],
        good[:7],
        bytes([*good[:3], 255, *good[4:]]),
        bytes([*good[:-1], 9]),
    ]:
        lan.inject(node, Packet("eth0", PEER, GROUP_V4, 255, payload))
    lan.inject(node, Packet("eth0", PEER, GROUP_V4, min(hop_limit, 254), good))
    assert node.changes() == before
    assert len(node.sent) == sent
    assert len(node.of(VrrpRejected)) == 1


def test_an_instance_of_another_id_is_nobodys_business(lan: Lan, pair: tuple[Node, Node]) -> None:
    told = len(pair[0].events)
    for _ in range(100):
        lan.inject(pair[0], said(255, vrid=99))
    assert len(pair[0].events) == told


def members(*priorities: int, track: tuple[TrackedService, ...] = ()) -> list[VrrpInstance]:
    """Return instances of one sync group, the first of which may track something."""
    return [
        instance(
            f"m{n}",
            vrid=60 + n,
            priority=priority,
            sync_group="g",
            addresses=(replace(VIP, address=Address.parse(f"192.0.2.{110 + n}")),),
            track=track if n == 0 else (),
        )
        for n, priority in enumerate(priorities)
    ]


def moves(node: Node) -> int:
    return sum(isinstance(event, VrrpChanged) for _, event in node.events)


def test_a_sync_group_has_one_priority_and_comes_to_rest(lan: Lan) -> None:
    track = (TrackedService("www", 60),)
    vs1, vs2 = lan.add("vs1", *members(150, 150, track=track)), lan.add("vs2", *members(100, 100))
    lan.run(10)
    lan.do(vs1, lambda now: vs1.failover.find("service www", False, "lost", now))  # noqa: FBT003
    lan.run(10)
    before = moves(vs1), moves(vs2)
    assert lan.masters("m0") == lan.masters("m1") == ["vs2"]
    lan.run(120)
    assert (moves(vs1), moves(vs2)) == before


@pytest.mark.parametrize(
    "priorities", [((100, 100), (100, 100)), ((255, 150), (200, 200)), ((150, 50), (100, 100))]
)
def test_sync_groups_of_whatever_priorities_come_to_rest(
    lan: Lan, priorities: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    nodes = [lan.add(f"vs{n}", *members(*mine)) for n, mine in enumerate(priorities, 1)]
    lan.run(20)
    before = [moves(node) for node in nodes]
    lan.run(120)
    assert [moves(node) for node in nodes] == before
    assert lan.masters("m0") == lan.masters("m1")
    assert len(lan.masters("m0")) == 1


def test_a_member_that_only_one_director_has_moves_nothing(lan: Lan) -> None:
    vs1, vs2 = lan.add("vs1", *members(150, 150)), lan.add("vs2", *members(100, 100))
    lan.run(10)
    lan.do(vs2, lambda now: vs2.failover.configure(members(100, 100, 100), now))
    before = moves(vs1)
    lan.run(60)
    assert moves(vs1) == before
    assert lan.masters("m0") == lan.masters("m1") == ["vs1"]


def test_an_owner_has_the_vip_as_master_only(lan: Lan) -> None:
    lan.add("vs2", instance(priority=100))
    lan.run(10)
    vs1 = lan.add("vs1", instance(priority=255), serving=False)
    lan.run(10)
    assert lan.owners() == ["vs2"]
    lan.serve(vs1)
    lan.run(5)
    assert lan.owners() == ["vs1"]
    lan.do(vs1, vs1.failover.stop)
    lan.run(5)
    assert lan.owners() == ["vs2"]


def test_who_serves_in_part_relieves_nobody_but_takes_over_from_the_dead(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, vs2 = pair
    vs1.dead, vs1.holds = True, set()
    lan.run(10)
    back = lan.add("vs1 again", instance(priority=150), serving=False)
    lan.do(back, lambda now: back.failover.serve(now, adopted=True, serving=True, impaired=True))
    lan.run(20)
    assert lan.masters() == ["vs2"]
    vs2.dead = True
    lan.run(5)
    assert lan.masters() == ["vs1 again"]


def test_nothing_is_resumed_in_fault(lan: Lan) -> None:
    node = lan.add("vs1", instance(), serving=False)
    lan.do(node, lambda now: node.failover.link("eth0", Link(fault="eth0 is down"), now))
    lan.do(node, lambda _: node.failover.resume([VIP], {"vip": lan.now + 2}))
    assert lan.owners() == []
    assert node.failover.next_timer is None
    lan.do(node, lambda now: node.failover.serve(now, adopted=True, serving=False))
    lan.do(node, lambda now: node.failover.link("eth0", Link((node.source,)), now))
    lan.run(10)
    assert lan.masters() == []


def test_before_the_table_is_adopted_nothing_waits_for_a_timer(lan: Lan) -> None:
    node = lan.add("vs1", instance(), serving=False)
    lan.do(node, lambda _: node.failover.resume([VIP], {"vip": lan.now - 50}))
    assert node.failover.next_timer is None


def test_a_tracked_command_is_waited_for_also_when_a_reload_brings_it(lan: Lan) -> None:
    command = TrackedCommand("c", Command(("/bin/true",)), 2.0, 2.0, 1, 1)
    node = lan.add("vs1", instance(track=(command,)))
    lan.run(20)
    assert lan.masters() == []
    lan.do(node, lambda now: node.failover.find("command c", True, "", now))  # noqa: FBT003
    lan.run(5)
    assert lan.masters() == ["vs1"]
    lan.do(node, lambda now: node.failover.find("command c", False, "status 1", now))  # noqa: FBT003
    assert node.changes()[-1] == "fault"
    lan.do(node, lambda now: node.failover.configure([instance()], now))
    lan.run(5)
    lan.do(node, lambda now: node.failover.configure([instance(track=(command,))], now))
    lan.run(1)
    assert lan.masters() == ["vs1"]


def test_a_backup_tells_who_is_master(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    (told,) = vs2.of(VrrpMaster)
    assert (told.master, told.priority) == (str(vs1.source), 150)
    lan.run(30)
    assert len(vs2.of(VrrpMaster)) == 1


def test_a_stranger_that_shouts_louder_than_nobody_fills_no_log(lan: Lan, pair: tuple[Node, Node]) -> None:
    _, vs2 = pair
    for _ in range(100):
        lan.inject(vs2, said(50))
        lan.run(0.3)
    assert len(vs2.of(VrrpMaster)) == 1


def test_a_question_that_comes_too_late_is_no_resignation(lan: Lan, pair: tuple[Node, Node]) -> None:
    vs1, vs2 = pair
    lan.do(vs1, lambda now: vs1.failover.find("nothing", True, "", now))  # noqa: FBT003
    asked = replace(said(0), destination=vs2.source)
    lan.inject(vs2, asked)
    lan.run(0.8)
    assert lan.masters() == ["vs1"]
    assert vs2.changes() == ["backup"]


def test_an_instance_that_is_no_longer_configured_keeps_the_vip_until_another_has_it(
    lan: Lan, pair: tuple[Node, Node]
) -> None:
    vs1, _ = pair
    nobody: list[float] = []
    both: list[float] = []
    lan.do(vs1, lambda now: vs1.failover.configure([], now))

    def watch() -> None:
        (nobody if not lan.owners() else both if len(lan.owners()) > 1 else []).append(lan.now)

    lan.run(5, watch=watch)
    assert lan.owners() == ["vs2"]
    assert not nobody
    assert both[-1] - both[0] < LINGER + 0.01
    assert vs1.failover.present == []


def test_troubles_made_up_by_thousands_fill_neither_log_nor_memory() -> None:
    limiter = Limiter()
    told = sum(bool(limiter.admits(("source", n), 0.001 * n)) for n in range(20_000))
    assert told <= MOST_TROUBLES
    assert limiter.admits(("source", 1), 200.0) == 1


CALAMITIES = ["kill", "cut", "heal", "deaf", "stop", "pause", "fault", "mend", "lossy", "calm"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CALAMITIES), st.integers(0, 2), st.floats(0.1, 6)), max_size=12),
    st.integers(0, 1000),
    st.sampled_from([0.1, 1.0]),
)
def test_whatever_happened_one_director_has_the_vip_in_the_end(
    calamities: list[tuple[str, int, float]], seed: int, interval: float
) -> None:
    lan = Lan(seed=seed)
    nodes = [lan.add(f"vs{n}", instance(priority=100 + 10 * n, interval=interval)) for n in (1, 2, 3)]
    for what, number, seconds in calamities:
        strike(lan, nodes[number], what, seconds)
    lan.loss = 0.0
    for node in nodes:
        node.hears = node.heard = True
        if not node.dead:
            lan.do(node, lambda now, node=node: node.failover.link("eth0", Link((node.source,)), now))
    lan.run(40 * interval + 5)
    alive = [node.name for node in nodes if not node.dead]
    assert lan.masters() == alive[-1:]
    assert [name for name in lan.owners() if name in alive] == alive[-1:]


def strike(lan: Lan, node: Node, what: str, seconds: float) -> None:
    match what:
        case "kill":
            node.dead = True
        case "cut" | "heal":
            node.hears = node.heard = what == "heal"
        case "deaf":
            node.hears = False
        case "stop" if not node.dead:
            lan.do(node, node.failover.stop)
            lan.run(2)
            node.dead = True
        case "pause" if not node.dead:
            lan.pause(node, seconds)
        case "fault" | "mend" if not node.dead:
            link = Link((node.source,), "eth0 is down" if what == "fault" else "")
            lan.do(node, lambda now: node.failover.link("eth0", link, now))
        case "lossy" | "calm":
            lan.loss = 0.5 if what == "lossy" else 0.0
    lan.run(seconds)
