"""Which lines of a log count: each once, and one director's."""

from __future__ import annotations

import pytest

from lvsd.edge.excerpt import NoLogError
from lvsd.edge.succession import Succession


def admitted(lines: str, wanted: str = "") -> tuple[str, int]:
    """Return which lines such as `a1=vs1` (run, seq, perhaps the director) count, and how many are late."""
    succession = Succession(wanted)
    counted = []
    for at, line in enumerate(lines.split()):
        name, _, director = line.partition("=")
        event = "snapshot.begin" if director else "health.changed"
        record = {"run": name[0], "seq": int(name[1:]), "event": event, "director": director}
        if succession.admits(record, at):
            counted.append(name)
    return " ".join(counted), succession.late


@pytest.mark.parametrize(
    ("lines", "counted", "late"),
    [
        ("a1=vs1 a2 a3", "a1 a2 a3", 0),
        ("a1 a2 a2 a3 a1", "a1 a2 a3", 2),
        ("a1 a3 a2 a4", "a1 a3 a4", 1),
        ("a1=vs1 a2 b1=vs1 a3 b2", "a1 a2 b1 b2", 1),
        ("a1=vs1 a2 b1=vs1 b2 a1 a2 b1 b2 b3", "a1 a2 b1 b2 b3", 4),
        ("a7 a8 b1=vs1", "a7 a8 b1", 0),
        ("a1=old a2 b1=new b2", "a1 a2 b1 b2", 0),
    ],
)
def test_each_line_counts_once_and_runs_follow_one_another(lines: str, counted: str, late: int) -> None:
    assert admitted(lines) == (counted, late)


@pytest.mark.parametrize("lines", ["a1=vs1 b1=vs2 a2", "a1 b1=vs2 a2 a3=vs1 b2"])
def test_two_directors_at_once_are_refused(lines: str) -> None:
    with pytest.raises(NoLogError, match=r"name one with --director: vs1, vs2$"):
        admitted(lines)


def test_the_lines_of_the_director_asked_for_count() -> None:
    assert admitted("a1=vs1 b1=vs2 a2 b2 c1=vs1 b3 a3", "vs1") == ("a1 a2 c1", 1)
    assert admitted("a1=vs1 b1=vs2 a2 b2 c1=vs1 b3 a3", "vs2") == ("b1 b2 b3", 0)


def test_two_files_of_two_directors_one_after_the_other_are_two_at_once() -> None:
    succession = Succession("")
    for at, run, director in [(0, "a", "vs1"), (100, "a", "vs1")]:
        succession.admits({"run": run, "seq": at + 1, "event": "snapshot.begin", "director": director}, at)
    with pytest.raises(NoLogError, match="vs1, vs2"):
        succession.admits({"run": "b", "seq": 1, "event": "director.started", "director": "vs2"}, 50)
