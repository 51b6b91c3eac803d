from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvsd.ipvs.change import apply, image
from lvsd.ipvs.plan import first_steps, plan, plan_service
from lvsd.model import (
    Address,
    Forwarding,
    Protocol,
    Rows,
    Server,
    ServerKey,
    Service,
    ServiceKey,
    VirtualAddress,
)

VIP = VirtualAddress(Protocol.TCP, Address.parse("192.168.0.101"), 80)
OTHER = VirtualAddress(Protocol.UDP, Address.parse("2001:db8::1"), 53)
RR, WLC = Service("rr"), Service("wlc", frozenset({"ops"}))
T = "-t 192.168.0.101:80"


def key(last: int) -> ServerKey:
    return ServerKey(Address.parse(f"192.168.0.{last}"), 80)


def rows(service: Service = RR, **weights: int) -> Rows:
    """Return a service's rows, the servers as in `rs3=1`: its last number and its weight."""
    return Rows(service, {key(int(name[2:])): Server(Forwarding.DR, each) for name, each in weights.items()})


@pytest.mark.parametrize(
    ("actual", "wanted", "changes"),
    [
        (None, None, []),
        (rows(rs3=1), rows(rs3=1), []),
        (None, rows(), [f"-A {T} -s rr"]),
        (
            None,
            rows(rs4=2, rs3=1),
            [f"-A {T} -s rr", f"-a {T} -r 192.168.0.3:80 -g -w 1", f"-a {T} -r 192.168.0.4:80 -g -w 2"],
        ),
        (rows(rs3=1), None, [f"-D {T}"]),
        (rows(rs3=1), rows(WLC, rs3=1), [f"-E {T} -s wlc -o"]),
        (rows(rs3=1), rows(rs3=0), [f"-e {T} -r 192.168.0.3:80 -g -w 0"]),
        (rows(rs3=1), rows(rs4=1), [f"-a {T} -r 192.168.0.4:80 -g -w 1", f"-d {T} -r 192.168.0.3:80"]),
        (
            rows(rs3=1, rs4=0, rs5=1),
            rows(rs3=0, rs4=1, rs6=1),
            [
                f"-a {T} -r 192.168.0.6:80 -g -w 1",
                f"-e {T} -r 192.168.0.4:80 -g -w 1",
                f"-e {T} -r 192.168.0.3:80 -g -w 0",
                f"-d {T} -r 192.168.0.5:80",
            ],
        ),
    ],
)
def test_what_brings_capacity_comes_before_what_takes_it(
    actual: Rows | None, wanted: Rows | None, changes: list[str]
) -> None:
    assert [str(change) for change in plan_service(VIP, actual, wanted)] == changes


servers = st.dictionaries(
    st.integers(3, 7).map(key),
    st.builds(Server, st.sampled_from(Forwarding), st.integers(0, 2)),
)
tables = st.dictionaries(st.sampled_from([VIP, OTHER]), st.builds(Rows, st.sampled_from([RR, WLC]), servers))


@given(tables, tables)
def test_a_plan_applied_to_the_actual_table_gives_the_wanted_one(
    actual: dict[ServiceKey, Rows], wanted: dict[ServiceKey, Rows]
) -> None:
    table = image(actual)
    for change in plan(actual, wanted):
        apply(table, change)
    assert table == wanted


def test_nothing_is_planned_where_nothing_differs() -> None:
    assert list(plan({VIP: rows(rs3=1)}, {VIP: rows(rs3=1)})) == []


def live(table: Rows) -> bool:
    return any(server.weight > 0 for server in table.servers.values())


@given(st.builds(Rows, st.just(RR), servers), st.builds(Rows, st.just(RR), servers), st.data())
def test_the_first_steps_leave_a_live_server_whatever_of_them_the_kernel_refuses(
    actual: Rows, wanted: Rows, data: st.DataObject
) -> None:
    steps = first_steps(list(plan_service(VIP, actual, wanted)), actual, ())
    accepted = [step for step in steps if data.draw(st.booleans())]
    table = image({VIP: actual})
    for change in accepted:
        apply(table, change)
        assert live(table[VIP]) or not live(actual) or not live(wanted)


@given(st.builds(Rows, st.just(RR), servers), st.builds(Rows, st.just(RR), servers))
def test_steps_taken_again_and_again_reach_what_is_wanted(actual: Rows, wanted: Rows) -> None:
    table = image({VIP: actual})
    for _ in range(2):
        for change in first_steps(list(plan_service(VIP, table[VIP], wanted)), table[VIP], ()):
            apply(table, change)
    assert table[VIP] == wanted


@pytest.mark.parametrize(
    ("actual", "wanted", "dead", "postponed"),
    [
        (rows(rs3=1), rows(rs4=1), "", ["-d rs3"]),
        (rows(rs3=1), rows(rs4=1, rs3=0), "", ["-e rs3"]),
        (rows(rs3=1), rows(rs4=1), "rs3", []),
        (rows(rs3=1, rs5=1), rows(rs4=1), "rs3", ["-d rs5"]),
        (rows(rs3=1, rs5=1), rows(rs4=1, rs5=1), "", []),
        (rows(rs3=1), rows(rs4=0), "", []),
        (rows(rs3=1), rows(), "", []),
        (rows(rs3=0), rows(rs4=1), "", []),
    ],
)
def test_only_what_would_take_the_last_live_server_waits(
    actual: Rows, wanted: Rows, dead: str, postponed: list[str]
) -> None:
    changes = list(plan_service(VIP, actual, wanted))
    steps = first_steps(changes, actual, [key(int(dead[2:]))] if dead else [])
    waiting = [str(change).split() for change in changes if change not in steps]
    shown = [f"{words[0]} rs{words[4].removeprefix('192.168.0.').removesuffix(':80')}" for words in waiting]
    assert shown == postponed
