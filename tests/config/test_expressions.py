from __future__ import annotations

import pytest

from lvsd.config.expressions import MAX_STEPS, compiled


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        ("I am real server", "<p>I am real server 1</p>", True),
        ("^SSH", "SSH-2.0", True),
        ("^SSH", "220 ftp\nSSH", False),
        ("(?m)^SSH", "220 ftp\nSSH", True),
        ("(?i)ok", "It is OK", True),
        ("^OK$", "OK", True),
        ("^OK$", "OK\n", True),
        ("^OK$", "OK\n\n", False),
        ("^OK$", "OK\nnot\n", False),
        ("a.c", "aéc", True),
        ("[é-ü]", "ö", True),
        ("", "anything", True),
    ],
)
def test_expression_is_searched_as_python_does(expression: str, text: str, found: bool) -> None:  # noqa: FBT001
    assert compiled(expression).found_in(text.encode()) is found


@pytest.mark.parametrize("text", [r"(a)\1", "(?=a)b", "(?<!a)b", "(?>a)", "a++", "(?P<x>a)(?P=x)"])
def test_what_only_a_backtracking_search_can_do_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither look-around nor back-references: "):
        compiled(text)


@pytest.mark.parametrize("text", ["x" * MAX_STEPS, ".{200}", "(?:a{1,30}b){1,30}"])
def test_expression_that_would_make_a_search_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"is too large an expression: .* steps, at most {MAX_STEPS}"):
        compiled(text)


def test_what_is_no_letter_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        compiled("\ud800")
