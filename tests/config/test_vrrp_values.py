"""Single settings of VRRP instances."""

from __future__ import annotations

import re

import pytest

from lvsd.config import vrrp_values
from lvsd.model import Address


@pytest.mark.parametrize("text", ["a", "8 chars!", "~" * 8])
def test_a_password_has_1_to_8_printable_characters(text: str) -> None:
    assert vrrp_values.password(text) == text


@pytest.mark.parametrize("text", ["", "9 letters", "a\tb", "\x7f", "é"])
def test_what_a_packet_has_no_room_for_is_no_password_and_is_not_shown(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^must (have 1 to 8 characters, not [09]|be printable ASCII)"
    ) as caught:
        vrrp_values.password(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("text", ["224.0.0.81", "239.255.255.255", "ff02::81", "ffff::1"])
def test_a_group_is_a_multicast_address(text: str) -> None:
    assert vrrp_values.multicast_group(text) == Address.parse(text)


@pytest.mark.parametrize(
    "text", ["223.0.0.1", "240.0.0.1", "255.255.255.255", "fe80::1", "all", "224.0.0", ""]
)
def test_anything_else_is_no_group(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a multicast address"):
        vrrp_values.multicast_group(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/bin/a", ("/bin/a",)),
        ("  /bin/a  b ", ("/bin/a", "b")),
        ("/bin/a 'b c' \"d e\" f\\ g ''", ("/bin/a", "b c", "d e", "f g", "")),
        ("/bin/a $HOME `b` *; c > d # e", ("/bin/a", "$HOME", "`b`", "*;", "c", ">", "d", "#", "e")),
    ],
)
def test_a_command_is_split_into_words_and_nothing_in_them_means_more(
    text: str, words: tuple[str, ...]
) -> None:
    assert vrrp_values.command(text) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5ms", "must be 10ms to 40.95s, in version 2 whole seconds from 1s to 255s, not '5ms'"),
        ("often", "must be a duration such as 2s, 200ms, 5m or 1h, not 'often'"),
    ],
)
def test_an_interval_that_no_version_knows_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        vrrp_values.advertisement_interval(text)
