from __future__ import annotations

from dataclasses import replace

import pytest
from world import KEYS, SERVERS, SORRY, service_of

from lvsd.config.model import OnFailure
from lvsd.health.verdict import Verdict
from lvsd.ipvs.desired import Standing, desired
from lvsd.model import Forwarding, Server, ServerKey

RS1, RS2 = SERVERS[:2]
FULL = Server(Forwarding.DR, 5)
OTHERWISE = Server(Forwarding.NAT, 3)
QUIESCED = Server(Forwarding.DR, 0)
SORRY_ROW = Server(Forwarding.DR, 1)
UP, DOWN, UNKNOWN = Standing(Verdict.UP), Standing(Verdict.DOWN), Standing(Verdict.UNKNOWN)
NEW = Standing(Verdict.UNKNOWN, admitted=True)
LETTERS = {"U": UP, "D": DOWN, "?": UNKNOWN, "n": NEW}


@pytest.mark.parametrize(
    ("standing", "on_failure", "present", "row"),
    [
        (UP, OnFailure.REMOVE, None, FULL),
        (UP, OnFailure.REMOVE, OTHERWISE, FULL),
        (DOWN, OnFailure.REMOVE, None, None),
        (DOWN, OnFailure.REMOVE, FULL, None),
        (DOWN, OnFailure.QUIESCE, None, QUIESCED),
        (DOWN, OnFailure.QUIESCE, OTHERWISE, QUIESCED),
        (UNKNOWN, OnFailure.REMOVE, None, None),
        (UNKNOWN, OnFailure.QUIESCE, None, None),
        (UNKNOWN, OnFailure.REMOVE, OTHERWISE, OTHERWISE),
        (UNKNOWN, OnFailure.QUIESCE, QUIESCED, QUIESCED),
        (NEW, OnFailure.REMOVE, None, FULL),
        (NEW, OnFailure.REMOVE, OTHERWISE, OTHERWISE),
    ],
)
def test_a_row_follows_the_verdict_and_stays_as_it_is_without_one(
    standing: Standing, on_failure: OnFailure, present: Server | None, row: Server | None
) -> None:
    service = service_of("www", KEYS[0], {RS1: 5}, on_failure=on_failure)
    wanted = desired(service, {RS1: standing}, {} if present is None else {RS1: present})
    assert wanted.servers == ({} if row is None else {RS1: row})
    assert wanted.service == service.service


@pytest.mark.parametrize(
    ("verdicts", "weights", "present", "sorry"),
    [
        ("", (), {}, True),
        ("DD", (1, 1), {}, True),
        ("DD", (1, 1), {SORRY: SORRY_ROW}, True),
        ("UD", (1, 1), {SORRY: SORRY_ROW}, False),
        ("UD", (0, 1), {SORRY: SORRY_ROW}, False),
        ("?D", (1, 1), {}, False),
        ("?D", (1, 1), {SORRY: SORRY_ROW}, True),
        ("?D", (1, 1), {SORRY: SORRY_ROW, RS1: FULL}, False),
        ("?D", (1, 1), {SORRY: SORRY_ROW, RS1: QUIESCED}, True),
        ("nD", (1, 1), {SORRY: SORRY_ROW}, False),
    ],
)
def test_the_sorry_server_serves_while_nothing_else_does(
    verdicts: str, weights: tuple[int, ...], present: dict[ServerKey, Server], *, sorry: bool
) -> None:
    service = service_of("www", KEYS[0], dict(zip(SERVERS, weights, strict=False)), sorry=True)
    standings = {server: LETTERS[verdict] for server, verdict in zip(SERVERS, verdicts, strict=False)}
    wanted = desired(service, standings, present)
    assert wanted.servers.get(SORRY) == (SORRY_ROW if sorry else None)


def test_the_sorry_server_has_the_forwarding_of_its_service() -> None:
    service = service_of("www", KEYS[0], {RS1: 1}, sorry=True, forwarding=Forwarding.NAT)
    assert desired(service, {RS1: DOWN}, {}).servers == {SORRY: Server(Forwarding.NAT, 1)}


def test_the_sorry_server_has_its_own_weight() -> None:
    service = service_of("www", KEYS[0], {RS1: 1}, sorry=True)
    assert service.sorry_server is not None
    service = replace(service, sorry_server=replace(service.sorry_server, weight=7))
    assert desired(service, {RS1: DOWN}, {}).servers == {SORRY: Server(Forwarding.DR, 7)}


def test_a_sorry_server_of_before_is_wanted_no_more() -> None:
    service = replace(service_of("www", KEYS[0], {RS1: 5}), sorry_server=None)
    assert desired(service, {RS1: UP}, {SORRY: SORRY_ROW}).servers == {RS1: FULL}


@pytest.mark.parametrize(
    ("standings", "present", "wanted"),
    [
        ({RS1: UNKNOWN}, {RS2: FULL}, {RS2: FULL}),
        ({RS1: UP}, {RS2: FULL}, {RS1: FULL}),
        ({RS1: DOWN}, {RS2: FULL}, {}),
        ({RS1: NEW}, {RS2: FULL}, {RS1: FULL}),
        ({RS1: UNKNOWN}, {RS1: FULL, RS2: FULL}, {RS1: FULL}),
        ({RS1: UNKNOWN}, {RS2: QUIESCED}, {}),
        ({}, {RS2: FULL}, {}),
    ],
)
def test_who_is_configured_no_more_serves_until_those_to_come_have_a_verdict(
    standings: dict[ServerKey, Standing], present: dict[ServerKey, Server], wanted: dict[ServerKey, Server]
) -> None:
    service = service_of("www", KEYS[0], dict.fromkeys(standings, 5))
    assert desired(service, standings, present).servers == wanted


def test_rows_stand_in_the_order_of_the_table_not_of_the_configuration() -> None:
    service = service_of("www", KEYS[0], {RS2: 1, RS1: 1}, sorry=True)
    assert list(desired(service, {RS1: UP, RS2: UP}, {}).servers) == [RS1, RS2]
