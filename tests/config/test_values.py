"""Single values: what a text means, and what is refused."""

from __future__ import annotations

import pytest

from lvsd.config import values
from lvsd.model import Address


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2.0), ("200ms", 0.2), ("5m", 300.0), ("1h", 3600.0), ("1d", 86400.0), ("2", 2.0), ("0.5", 0.5)],
)
def test_duration_is_a_number_with_a_unit_or_bare_seconds(text: str, seconds: float) -> None:
    assert values.duration(text, 0.2, 86400.0) == seconds
    assert values.duration(values.spelled(seconds), 0.2, 86400.0) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1s",
        "2 s",
        "1e3",
        "1m30s",
        "s",
        "inf",
        "nan",
        "9" * 400,
        "\u0662s",
        "2S",
        " 2s",
        "2s\n",
    ],
)
def test_duration_refuses_all_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be "):
        values.duration(text, 0.0, 86400.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "10ms"), (0.1, "100ms"), (1.0, "1s"), (90.0, "90s"), (600.0, "10m"), (31 * 86400.0, "31d")],
)
def test_duration_is_spelled_in_the_largest_unit_that_is_whole(seconds: float, text: str) -> None:
    assert values.spelled(seconds) == text


@pytest.mark.parametrize("text", ["9.999ms", "0.001ms", "0", "1.001s", "1m"])
def test_duration_has_bounds_that_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be 10ms to 1s, not "):
        values.duration(text, 0.01, 1.0)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("rs1", "rs1", ""),
        ("rs1:www", "rs1", "www"),
        ("rs-1.example.com.:80", "rs-1.example.com.", "80"),
        ("192.168.0.3:80", "192.168.0.3", "80"),
        ("2001:db8::3", "2001:db8::3", ""),
        ("[2001:0DB8::3]", "2001:db8::3", ""),
        ("[2001:db8::3]:80", "2001:db8::3", "80"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", ""),
    ],
)
def test_endpoint_is_a_host_and_perhaps_a_port(text: str, host: str, port: str) -> None:
    written = values.endpoint(text)
    assert (written.host.removeprefix("::ffff:"), written.port) == (host.removeprefix("::ffff:"), port) or (
        written.address == Address.parse(host)
    )


@pytest.mark.parametrize(
    "text",
    [
        "", ":", ":80", "rs1:", "rs 1", "-rs1", "rs1:80:90", "192.168.0", "192.168.0.3.4", "192.168.0.256",
        "192.168.0.03", "[2001:db8::3", "[2001:db8::3]80", "[rs1]:", "[]", "fe80::1%eth0", "2001:db8::3::4",
        "rs1:-1", "rs1:65536", "rs1:w w", "a" * 300, "\u0661.2.3.4", "1" * 5000 + ".1.1.1", "rs1\n",
    ],
)  # fmt: skip
def test_endpoint_refuses_all_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.endpoint(text)


@pytest.mark.parametrize(
    ("mask", "prefix"), [("255.255.255.0", 24), ("255.255.255.255", 32), ("128.0.0.0", 1), ("254.0.0.0", 7)]
)
def test_netmask_is_a_prefix(mask: str, prefix: int) -> None:
    assert values.netmask(mask) == prefix


@pytest.mark.parametrize("mask", ["255.0.255.0", "0.0.0.255", "255.255.255", "24", "::", ""])
def test_netmask_with_holes_is_refused(mask: str) -> None:
    with pytest.raises(ValueError, match="netmask"):
        values.netmask(mask)


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("64KiB", 65536), ("1MiB", 1048576), ("512B", 512)])
def test_size_is_bytes(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "0", "17MiB", "1GB", "64kb", "-1", "1.5MiB"])
def test_size_refuses_all_else(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        values.size(text)


@pytest.mark.parametrize("text", ["(", "[a", "*", "a{2,1}", "(?P<n", "(?<=a+)b", "(" * 10_000])
def test_expression_that_does_not_compile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no regular expression"):
        values.expression(text)


def test_mark_may_be_hexadecimal_as_iptables_prints_it() -> None:
    assert (values.mark("7"), values.mark("0x7"), values.mark("0xffffffff")) == (7, 7, 2**32 - 1)
