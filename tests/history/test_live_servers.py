"""What a virtual service's real servers come to."""

from __future__ import annotations

import pytest

from lvsd.history.course import Status
from lvsd.history.live_servers import LiveServers


def live(*servers: str) -> LiveServers:
    """Return real servers given as `up 1`, `down -`, or `sorry 1`, called a, b and so on."""
    made = LiveServers()
    for name, told in zip("abcdefgh", servers, strict=False):
        state, weight = told.split()
        number = None if weight == "-" else int(weight)
        if state == "sorry":
            made.stand_by(name, name, number)
        else:
            made.put(name, name, Status(state, "", number))
    return made


@pytest.mark.parametrize(
    ("servers", "state", "reason"),
    [
        (["up 1", "up 1"], "up", "2 of 2 servers live"),
        (["up 1", "down -"], "up", "1 of 2 servers live, without b"),
        (["up 1", "up 0", "up -"], "up", "1 of 3 servers live, without b, c"),
        (["up 1", *["down -"] * 5], "up", "1 of 6 servers live, without b, c, d and 2 more"),
        (["up 1", "unknown 1"], "up", "1 of 2 servers live, without b"),
        (["unknown 1", "down -"], "unknown", "1 in the table without a verdict yet, 0 of 2 servers live"),
        (["unknown -"], "down", "0 of 1 servers live"),
        (["down 1", "down 0"], "down", "0 of 2 servers live"),
        (["down -", "sorry 1"], "down", "0 of 1 servers live, the sorry server in their place"),
        (["up 1", "sorry -"], "up", "1 of 1 servers live"),
        ([], "down", "0 of 0 servers live"),
    ],
)
def test_a_service_is_up_while_a_server_is_live(servers: list[str], state: str, reason: str) -> None:
    assert live(*servers).status(in_table=True) == Status(state, reason)


def test_a_service_without_a_row_is_down() -> None:
    assert live("down -").status(in_table=False) == Status("down", "not in the table, 0 of 1 servers live")


def test_it_says_whether_something_changed() -> None:
    two = live("up 1", "up 1")
    assert not two.put("a", "a", Status("up", "another reason", 5))
    assert two.put("a", "a", Status("down", "", 5))
    assert not two.put("a", "a", Status("down", "", None))
    assert two.put("a", "renamed", Status("down", "", None))
    two.drop("a")
    assert two.status(in_table=True).reason == "1 of 1 servers live"
