from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from world import KEYS, SERVERS, service_of

from lvsd.config.model import TcpCheck, VirtualService
from lvsd.health.roster import NEVER_PROBED, Finding, Member, Roster, Target
from lvsd.health.verdict import Health, Verdict
from lvsd.model import Address, Instant, ServerKey

CHECK = TcpCheck(interval=2.0, fast_interval=0.5, timeout=1.0, rise=2, fall=2)
SLOWER = replace(CHECK, interval=20.0)
RS1, RS2 = SERVERS[:2]
UP, DOWN = Health(Verdict.UP), Health(Verdict.DOWN)
WWW = service_of("www", KEYS[0], {RS1: 1, RS2: 1}, CHECK)
MAIL = service_of("mail", KEYS[1], {RS1: 1, RS2: 1}, CHECK)
TARGET = Target(CHECK, RS1.address, RS1.port)


def at(moment: float) -> Instant:
    return Instant(moment, moment)


def roster_of(*services: VirtualService) -> Roster:
    roster = Roster()
    for service in services:
        roster.enter(service, {}, at(0))
    return roster


def edit(roster: Roster, service: VirtualService, now: float = 0) -> list[Target]:
    return roster.enter(service, roster.carried(service.name), at(now))


def find(roster: Roster, target: Target, health: Health) -> None:
    roster.learn(roster.watched[target], Finding(health, "seen", 0))


def verdict(roster: Roster, service: str, key: ServerKey = RS1) -> Verdict:
    finding = roster.finding(Member(service, key))
    assert finding is not None
    return finding.verdict


def test_the_same_probe_asked_for_by_many_services_runs_once() -> None:
    roster = Roster()
    assert len(roster.enter(WWW, {}, at(0))) == 2
    assert roster.enter(MAIL, {}, at(0)) == []
    assert list(roster.watched[TARGET].users) == [Member("www", RS1), Member("mail", RS1)]


def test_servers_are_told_apart_by_check_address_and_the_port_that_is_probed() -> None:
    roster = roster_of(
        WWW,
        replace(MAIL, check=SLOWER),
        service_of("other", KEYS[2], {RS1: 1, ServerKey(RS1.address, 81): 1}, replace(CHECK, port=8080)),
    )
    assert len(roster.watched) == 5


@pytest.mark.parametrize("count", [3, 10, 100, 1000])
def test_first_probes_are_spread_over_the_interval(count: int) -> None:
    servers = {ServerKey(Address(bytes([10, 0, i >> 8, i & 255])), 80): 1 for i in range(count)}
    roster = roster_of(service_of("www", KEYS[0], servers, CHECK))
    due = sorted(watched.due_at for watched in roster.watched.values())
    assert 0 <= due[0] <= due[-1] < CHECK.interval
    assert max(b - a for a, b in pairwise(due)) < 3 * CHECK.interval / count


def test_an_edit_that_leaves_the_check_as_it_is_leaves_the_probe_alone() -> None:
    roster = roster_of(WWW)
    find(roster, TARGET, DOWN)
    due_at = roster.watched[TARGET].due_at
    assert edit(roster, replace(WWW, key=KEYS[2]), now=1) == []
    assert roster.sweep() == []
    assert (verdict(roster, "www"), roster.watched[TARGET].due_at) == (Verdict.DOWN, due_at)


@pytest.mark.parametrize("health", [UP, DOWN, Health(Verdict.UP, dissent=1)])
def test_another_check_inherits_what_was_known(health: Health) -> None:
    roster = roster_of(WWW)
    find(roster, TARGET, health)
    edit(roster, replace(WWW, check=SLOWER))
    assert roster.watched[replace(TARGET, check=SLOWER)].finding == Finding(health, "seen", 0)


def test_a_check_that_is_changed_ever_again_does_not_put_the_probe_off() -> None:
    roster = roster_of(WWW)
    due_at = roster.watched[TARGET].due_at
    now = 0.0
    while now < due_at:
        now += 0.1
        edit(roster, replace(WWW, check=replace(CHECK, timeout=1 + now)), now)
        roster.sweep()
    assert min(watched.due_at for watched in roster.watched.values()) <= max(due_at, now)


def test_a_probe_that_others_use_already_keeps_its_own_finding() -> None:
    roster = roster_of(WWW, replace(MAIL, check=SLOWER))
    find(roster, TARGET, DOWN)
    edit(roster, replace(WWW, check=SLOWER))
    assert verdict(roster, "mail") is verdict(roster, "www") is Verdict.UNKNOWN


def test_a_server_never_probed_is_up_and_stays_so_since_when_it_was() -> None:
    roster = roster_of(replace(WWW, check=None))
    edit(roster, replace(WWW, check=None), now=5)
    assert roster.finding(Member("www", RS1)) == Finding(UP, NEVER_PROBED, 0)
    assert roster.watched == {}
    assert roster.carried("www") == {RS1: None, RS2: None}


def test_who_is_no_member_is_not_known() -> None:
    assert roster_of(WWW).finding(Member("mail", RS1)) is None
    assert roster_of(WWW).finding(Member("www", SERVERS[2])) is None


def test_what_nobody_uses_is_forgotten_when_swept() -> None:
    roster = roster_of(WWW, MAIL)
    roster.leave("www")
    assert roster.sweep() == []
    edit(roster, replace(MAIL, real_servers=MAIL.real_servers[:1]))
    assert roster.sweep() == [replace(TARGET, address=RS2.address)]
    roster.leave("mail")
    assert roster.sweep() == [TARGET]
    assert roster.watched == {}


def test_a_server_may_change_hands_before_the_sweep() -> None:
    roster = roster_of(WWW)
    find(roster, TARGET, DOWN)
    roster.leave("www")
    assert roster.enter(MAIL, {}, at(1)) == []
    assert roster.sweep() == []
    assert verdict(roster, "mail") is Verdict.DOWN


@pytest.mark.parametrize(
    ("out", "seen", "presumed"),
    [
        ({"www", "mail"}, Verdict.UNKNOWN, Verdict.DOWN),
        ({"www"}, Verdict.UNKNOWN, Verdict.UNKNOWN),
        ({"www", "mail"}, Verdict.UP, Verdict.UP),
    ],
)
def test_a_verdict_is_presumed_where_all_users_agree_and_no_probe_has_spoken(
    out: set[str], seen: Verdict, presumed: Verdict
) -> None:
    roster = roster_of(WWW, MAIL)
    find(roster, TARGET, Health(seen))
    roster.presume({Member(name, RS1) for name in out}, Finding(DOWN, "out", 0))
    assert verdict(roster, "www") is verdict(roster, "mail") is presumed


def test_those_up_are_counted_in_every_service() -> None:
    roster = roster_of(WWW, MAIL, replace(WWW, name="ftp", check=None))
    find(roster, TARGET, UP)
    assert (roster.up, roster.members) == (4, 6)
    roster.leave("mail")
    find(roster, TARGET, DOWN)
    assert (roster.up, roster.members) == (2, 4)
