"""What goes wrong is told in one line, fit for a terminal."""

from __future__ import annotations

import pytest

from lvsd.config.model import Note
from lvsd.errors import ConfigError, LvsdError, Mistake, Place, printable


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain words, é and 漢 …", "plain words, é and 漢 …"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\tb\nc\rd\x00\x7f", "a\\tb\\nc\\rd\\x00\\x7f"),
        ("\x9b1m", "\\x9b1m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, told: str) -> None:
    assert printable(text) == told


def test_a_mistake_is_one_line_whatever_it_quotes() -> None:
    place = Place("\x1b.yaml", 3, 5)
    assert str(Mistake(place, "log.\x9b", "not \n")) == "\\x1b.yaml:3:5: log.\\x9b: not \\n"
    assert str(Note(place, "log.\x9b", "not \n")) == "\\x1b.yaml:3:5: log.\\x9b: note: not \\n"


def test_a_mistake_of_the_whole_file_has_no_line_and_no_column() -> None:
    assert str(Mistake(Place("lvsd.yaml"), "", "does not exist")) == "lvsd.yaml: does not exist"


def test_an_error_keeps_its_lines() -> None:
    mistakes = [Mistake(Place("a", 1, 1), "", "\x1b"), Mistake(Place("a", 2, 1), "", "two")]
    assert str(ConfigError(mistakes)) == "a:1:1: \\x1b\na:2:1: two"
    assert str(LvsdError("/\x1b/log: No such file")) == "/\\x1b/log: No such file"
