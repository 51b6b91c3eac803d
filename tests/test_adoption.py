from __future__ import annotations

import pytest
from world import KEYS, SERVERS, service_of

from lvsd.adoption import adopt, finding
from lvsd.config.model import OnFailure
from lvsd.health.verdict import Verdict
from lvsd.model import Forwarding, Instant, Rows, Server, Service

RS1, RS2, RS3 = SERVERS[:3]
FULL, QUIESCED = Server(Forwarding.DR, 1), Server(Forwarding.DR, 0)
IN = {RS1: FULL}
REMOVE, QUIESCE = OnFailure.REMOVE, OnFailure.QUIESCE


def rows(**servers: Server) -> Rows:
    return Rows(Service("rr"), {SERVERS[int(name[2:]) - 1]: row for name, row in servers.items()})


@pytest.mark.parametrize(
    ("found", "recorded", "on_failure", "out", "known"),
    [
        # Nothing is known of an earlier run: where the service is there, what is missing may be dead.
        (None, None, REMOVE, "", ""),
        (rows(), None, REMOVE, "", "12"),
        (rows(rs1=FULL), None, REMOVE, "", "12"),
        # An earlier run had them: what is missing was taken out.
        (rows(rs1=FULL, rs2=FULL), "12", REMOVE, "", "12"),
        (rows(rs1=FULL), "12", REMOVE, "2", "12"),
        (rows(), "12", REMOVE, "12", "12"),
        (rows(rs1=QUIESCED, rs2=FULL), "12", QUIESCE, "1", "12"),
        (rows(rs1=QUIESCED, rs2=FULL), "12", REMOVE, "", "12"),
        # It had not had the second: that one is new.
        (rows(rs1=FULL), "1", REMOVE, "", "1"),
        (rows(), "1", REMOVE, "1", "1"),
        (rows(), "3", REMOVE, "", ""),
        # Somebody emptied the table meanwhile: it says nothing, but they are not new.
        (None, "12", REMOVE, "", "12"),
        (None, "", REMOVE, "", ""),
    ],
)
def test_what_was_taken_out_stays_out_and_what_was_there_is_not_new(
    found: Rows | None, recorded: str | None, on_failure: OnFailure, out: str, known: str
) -> None:
    service = service_of("www", KEYS[0], {RS1: 1, RS2: 1}, on_failure=on_failure)
    hosts = None if recorded is None else [SERVERS[int(number) - 1] for number in recorded]
    adopted = adopt(service, found, hosts)
    assert adopted.out == {SERVERS[int(number) - 1] for number in out}
    assert adopted.known == {SERVERS[int(number) - 1] for number in known}


@pytest.mark.parametrize("found", [rows(rs1=QUIESCED), rows()])
def test_a_server_of_weight_0_is_not_taken_for_dead(found: Rows) -> None:
    service = service_of("www", KEYS[0], {RS1: 0}, on_failure=QUIESCE)
    assert adopt(service, found, [RS1]).out == frozenset()


def test_a_server_found_out_is_down_until_a_probe_says_otherwise() -> None:
    found = finding(Instant(1, 2))
    assert (found.verdict, found.since) == (Verdict.DOWN, 2)
    assert "when lvsd started" in found.reason
