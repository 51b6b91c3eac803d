from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvsd.health.telnet import DO, DONT, IAC, SB, SE, WILL, WONT, Heard, Telnet

TTYPE = 24


@pytest.mark.parametrize(
    ("said", "text", "replies"),
    [
        pytest.param(b"login: ", "login: ", b"", id="plain text"),
        pytest.param(b"a\xff\xffb", "a\xffb", b"", id="an escaped 255 is text"),
        pytest.param(b"\xff\xfd\x18", "", b"\xff\xfc\x18", id="DO is refused by WONT"),
        pytest.param(b"\xff\xfb\x01", "", b"\xff\xfe\x01", id="WILL is refused by DONT"),
        pytest.param(b"\xff\xfc\x01\xff\xfe\x18", "", b"", id="WONT and DONT get no answer"),
        pytest.param(b"\xff\xfd\x18\xff\xfd\x18", "", b"\xff\xfc\x18", id="an option is refused once"),
        pytest.param(b"\xff\xfd\x01\xff\xfb\x01", "", b"\xff\xfc\x01\xff\xfe\x01", id="once each way"),
        pytest.param(b"\xff\xfd\xff!", "!", b"\xff\xfc\xff", id="an option may be 255"),
        pytest.param(b"a\xff\xf1b\xff\xf9c", "abc", b"", id="commands are no text"),
        pytest.param(b"a\xff\xfa\x18\x01vt100\xff\xf0b", "ab", b"", id="nor are parameters"),
        pytest.param(b"a\xff\xfa\x18\xff\xff\xff\xf0b", "ab", b"", id="with an escaped 255 in them"),
        pytest.param(b"a\xff\xfa\x18\xff\xfb\x01\xff\xf0b", "ab", b"", id="or a command out of place"),
        pytest.param(b"a\xff\xfa\x18never ended", "a", b"", id="parameters without an end"),
        pytest.param(b"a\r\x00b", "a\rb", b"", id="NUL is no operation"),
        pytest.param(b"\xff", "", b"", id="half a command"),
        pytest.param(b"", "", b"", id="nothing"),
    ],
)
def test_what_is_said_becomes_text_and_refusals(said: bytes, text: str, replies: bytes) -> None:
    assert Telnet().hear(said) == Heard(text, replies)


PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([bytes((IAC, verb, TTYPE)) for verb in (WILL, WONT, DO, DONT)]),
    st.builds(lambda inside: bytes((IAC, SB, TTYPE)) + inside + bytes((IAC, SE)), st.binary(max_size=8)),
    st.just(bytes((IAC, IAC))),
)
TALK = st.lists(PIECES, max_size=12).map(b"".join)


@given(TALK, st.data())
def test_any_split_is_heard_the_same(talk: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(talk)), max_size=6)))
    telnet = Telnet()
    heard = [telnet.hear(talk[start:end]) for start, end in zip([0, *cuts], [*cuts, len(talk)], strict=True)]
    together = Heard("".join(part.text for part in heard), b"".join(part.replies for part in heard))
    assert together == Telnet().hear(talk)


@given(TALK)
def test_two_ends_never_answer_each_other_for_ever(talk: bytes) -> None:
    here, there = Telnet(), Telnet()
    replies = here.hear(talk).replies
    assert there.hear(replies).replies == b""


@given(TALK)
def test_replies_are_whole_refusals_each_of_them_once(talk: bytes) -> None:
    replies = Telnet().hear(talk).replies
    refusals = [replies[start : start + 3] for start in range(0, len(replies), 3)]
    assert all(refusal[0] == IAC and refusal[1] in (DONT, WONT) for refusal in refusals)
    assert len(set(refusals)) == len(refusals)
    assert len(replies) % 3 == 0
