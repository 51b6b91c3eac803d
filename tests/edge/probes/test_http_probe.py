from __future__ import annotations

import asyncio
import shutil
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from misbehaving import (
    LOOPBACK,
    SHORT,
    answering,
    black_hole,
    hang,
    http,
    page,
    refusing,
    reset,
    saying,
    serving,
    tcp,
    telnet,
)

from lvsd import __version__
from lvsd.edge.probes import Probes
from lvsd.health.outcome import Ended, Outcome
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from misbehaving import Behaviour

    from lvsd.config.model import Check

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
OK = Outcome.passed("HTTP 200")
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FOUND = "I am real server"


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X: y\r\n" * 10000)
        await writer.drain()


@pytest.mark.parametrize(
    ("check", "behaviour", "outcome"),
    [
        pytest.param(http(), answering(page(b"")), OK, id="empty page"),
        pytest.param(http(expect=FOUND), answering(page(b"I am real server #1")), OK, id="right body"),
        pytest.param(
            http(expect=FOUND), answering(HEADERS, b"I am re", b"al server", then=hang), OK, id="in two"
        ),
        pytest.param(http(expect="Ümlaut"), answering(page("Ümlaut".encode())), OK, id="body in UTF-8"),
        pytest.param(
            http(expect=FOUND), answering(CHUNKED, b"10\r\nI am real server\r\n", then=hang), OK, id="chunk"
        ),
        pytest.param(
            http(expect=FOUND), answering(b"HTTP/1.0 200 OK\r\n\r\nI am real server"), OK, id="HTTP/1.0"
        ),
        pytest.param(http(), answering(HEADERS, then=hang), OK, id="status alone, the body never comes"),
        pytest.param(
            http(), answering(b"HTTP/1.1 100 Continue\r\n\r\n" + page(b"")), OK, id="100 before the answer"
        ),
        pytest.param(
            http(status=((200, 200), (301, 308))),
            answering(page(b"", "302 Found", "Location: http://elsewhere/")),
            Outcome.passed("HTTP 302"),
            id="redirect that is in order",
        ),
        pytest.param(
            http(),
            answering(page(b"", "302 Found", "Location: /")),
            Outcome.failed("HTTP 302"),
            id="redirect that is not",
        ),
        pytest.param(
            http(expect=FOUND),
            answering(page(b"I am real server", "500 Oops")),
            Outcome.failed("HTTP 500"),
            id="HTTP 500",
        ),
        pytest.param(
            http(expect=FOUND),
            answering(page(b"It works!")),
            Outcome.failed("body does not match 'I am real server'"),
            id="wrong body",
        ),
        pytest.param(
            http(expect="y" * 200),
            answering(page(b"")),
            Outcome.failed(f"body does not match '{'y' * 80}...'"),
            id="expression that is long",
        ),
        pytest.param(
            http(expect="y", body_limit=8),
            answering(page(b"12345678y")),
            Outcome.failed("no match for 'y' in the first 8 bytes"),
            id="match beyond the limit",
        ),
        pytest.param(
            http(expect="y"),
            answering(b"HTTP/1.1 200 OK\r\n\r\n", then=flood),
            OK,
            id="endless body with a match",
        ),
        pytest.param(
            http(expect="z"),
            answering(b"HTTP/1.1 200 OK\r\n\r\n", then=flood),
            Outcome.failed("no match for 'z' in the first 65536 bytes"),
            id="endless body without one",
        ),
        pytest.param(
            http(expect=FOUND),
            answering(HEADERS, b"short"),
            Outcome.failed("the body is cut short"),
            id="short body",
        ),
        pytest.param(
            http(expect=FOUND),
            answering(HEADERS, b"short", then=reset),
            Outcome.failed("the body is cut short"),
            id="reset in the body",
        ),
        pytest.param(
            http(expect=FOUND),
            answering(CHUNKED, b"zz\r\n"),
            Outcome.failed("the body is cut short"),
            id="broken chunk",
        ),
        pytest.param(
            http(expect=FOUND),
            answering(CHUNKED + b"1\r\nx\r\nzz\r\n"),
            Outcome.failed("malformed HTTP answer: Invalid character in chunk size"),
            id="broken chunk beside the headers",
        ),
        pytest.param(
            http(expect=FOUND, timeout=SHORT),
            answering(HEADERS, then=hang),
            Outcome.failed("timed out after 0.3s while reading the body"),
            id="body that never comes",
        ),
        pytest.param(
            http(expect=FOUND, timeout=SHORT),
            answering(HEADERS, then=drip),
            Outcome.failed("timed out after 0.3s while reading the body"),
            id="slow body",
        ),
        pytest.param(
            http(timeout=SHORT),
            hang,
            Outcome.failed("timed out after 0.3s while waiting for the answer"),
            id="hangs after accept",
        ),
        pytest.param(
            http(timeout=SHORT),
            saying(b"HTTP/1.1 200 OK\r\nX: ", then=drip),
            Outcome.failed("timed out after 0.3s while waiting for the answer"),
            id="slow headers",
        ),
        pytest.param(http(), answering(), Outcome.failed("closed without an answer"), id="closes at once"),
        pytest.param(
            http(),
            answering(b"HTTP/1.1 200 OK\r\nContent-"),
            Outcome.failed("closed without an answer"),
            id="closes within the headers",
        ),
        pytest.param(http(), reset, Outcome.failed("connection reset"), id="resets"),
        pytest.param(
            http(),
            saying(b"SSH-2.0-OpenSSH_9.2p1\r\n", then=hang),
            Outcome.failed("malformed HTTP answer: Bad status line"),
            id="another protocol",
        ),
        pytest.param(
            http(),
            answering(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
            Outcome.failed("malformed HTTP answer: Invalid header token"),
            id="bad header",
        ),
        pytest.param(
            http(),
            answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n"),
            Outcome.failed("malformed HTTP answer: Got more than 8190 bytes when reading"),
            id="header of 1 MB",
        ),
        pytest.param(
            http(),
            answering(b"HTTP/1.1 200 OK\r\n", then=flood),
            Outcome.failed("malformed HTTP answer: Too many headers received"),
            id="endless headers",
        ),
    ],
)
async def test_outcome_of_an_http_probe(
    probes: Probes, check: Check, behaviour: Behaviour, outcome: Outcome
) -> None:
    async with serving(behaviour) as port:
        assert await probes.probe(check, LOOPBACK, port) == outcome


async def test_port_that_nobody_listens_on_is_refused(probes: Probes) -> None:
    with refusing() as port:
        assert await probes.probe(http(), LOOPBACK, port) == Outcome.failed("connection refused")


async def test_connection_that_nobody_takes_times_out(probes: Probes) -> None:
    with black_hole() as port:
        outcome = await probes.probe(http(timeout=SHORT), LOOPBACK, port)
    assert outcome == Outcome.failed("timed out after 0.3s while connecting")


async def requested(probes: Probes, check: Check, host: str = "127.0.0.1") -> tuple[int, list[str]]:
    """Return the server's port, and the lines that a probe sent to it."""
    heard: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2])
        writer.write(page(b""))

    async with serving(listen, host) as port:
        assert await probes.probe(check, Address.parse(host), port) == OK
    return port, heard


async def test_request_says_where_it_goes_and_who_asks(probes: Probes) -> None:
    port, lines = await requested(probes, http(path="/test.html?a=b%2Fc"))
    assert lines[0] == "GET /test.html?a=b%2Fc HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert f"User-Agent: lvsd/{__version__}" in lines
    assert "Accept-Encoding: identity" in lines


async def test_request_over_ipv6_has_its_address_in_brackets(probes: Probes) -> None:
    port, lines = await requested(probes, http(), "::1")
    assert f"Host: [::1]:{port}" in lines


async def test_request_as_the_operator_wants_it(probes: Probes) -> None:
    headers = (("User-Agent", "watcher"), ("X-Probe", "1"), ("X-Probe", "2"))
    _, lines = await requested(probes, http(method="HEAD", host="www.example.com", headers=headers))
    assert lines[0] == "HEAD / HTTP/1.1"
    assert lines.count("Host: www.example.com") == 1
    assert [line for line in lines if line.startswith(("User-Agent", "X-Probe"))] == [
        "User-Agent: watcher",
        "X-Probe: 1",
        "X-Probe: 2",
    ]


async def test_check_that_makes_no_request_is_the_directors_fault(probes: Probes) -> None:
    async with serving(hang) as port:
        outcome = await probes.probe(http(headers=(("X", "a\r\nb"),)), LOOPBACK, port)
    assert outcome.ended is Ended.LOCAL


async def test_request_is_made_once_even_where_aiohttp_would_try_again(probes: Probes) -> None:
    asked = 0

    async def count(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1

    async with serving(count) as port:
        await probes.probe(http(), LOOPBACK, port)
    assert asked == 1


async def test_server_sees_the_probe_end_by_a_reset(probes: Probes) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEADERS)
        try:
            ended.set_result(await reader.read())
        except ConnectionError as error:
            ended.set_result(type(error))

    async with serving(watch) as port:
        await probes.probe(http(), LOOPBACK, port)
        assert await ended is ConnectionResetError


async def redirected(probes: Probes, location: str, check: Check) -> Outcome:
    """Probe a server that sends whoever asks for `/` to `location`, and answers `/there` with 200."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        away = page(b"", "302 Found", "Location: " + location.format(port=port))
        writer.write(page(b"here") if path == "/there?x=1" else away)

    async with serving(serve) as port:
        return await probes.probe(check, LOOPBACK, port)


@pytest.mark.parametrize(
    ("location", "outcome"),
    [
        ("/there?x=1", OK),
        ("there?x=1#below", OK),
        ("http://127.0.0.1:{port}/there?x=1", OK),
        ("http://www.example.com/there?x=1", OK),
        ("/", Outcome.failed("more than 5 redirects")),
        ("http://127.0.0.2:{port}/", Outcome.failed("redirected to another server: http://127.0.0.2")),
        ("https://www.example.com/", Outcome.failed("redirected to another server: https://www.example.com")),
        ("http://[/", Outcome.failed("malformed HTTP answer: redirected to no URL")),
        ("mailto:nobody", Outcome.failed("malformed HTTP answer: redirected to no URL")),
    ],
)
async def test_redirect_is_followed_on_the_same_server_only(
    probes: Probes, location: str, outcome: Outcome
) -> None:
    check = http(follow_redirects=True, host="www.example.com", expect="here")
    told = await redirected(probes, location, check)
    assert (told.ended, told.reason.rsplit(":", 1)[0] if "127.0.0.2" in told.reason else told.reason) == (
        outcome.ended,
        outcome.reason,
    )


@given(st.binary(max_size=200), st.sampled_from([tcp(expect="x"), telnet(), http(expect="x")]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_server_says_is_an_outcome(said: bytes, check: Check) -> None:
    async def probe(answer: bytes) -> Outcome:
        probes = Probes()
        try:
            async with serving(saying(answer)) as port:
                return await probes.probe(check, LOOPBACK, port)
        finally:
            await probes.close()

    for answer in (said, b"HTTP/1.1 200 OK\r\n" + said, CHUNKED + said):
        assert asyncio.run(probe(answer)).ended is not Ended.LOCAL


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[int]:
    """Run a real nginx that serves `folder`; give its port."""
    assert NGINX is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; pid nginx.pid; error_log stderr; user root; worker_processes 1; events {{}}
        http {{
            access_log off;
            client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;
            uwsgi_temp_path t; scgi_temp_path t;
            server {{ listen 127.0.0.1:{port}; root {folder}; location /fails {{ return 503; }} }}
        }}
        """,
        encoding="ascii",
    )
    arguments = ("-p", str(folder), "-e", "stderr", "-c", "nginx.conf")
    child = await asyncio.create_subprocess_exec(NGINX, *arguments, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield port
    finally:
        child.terminate()
        await child.wait()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
async def test_real_nginx(probes: Probes, tmp_path: Path) -> None:
    (tmp_path / "test.html").write_text("I am real server #1\n", encoding="ascii")
    async with nginx(tmp_path) as port, asyncio.timeout(10):
        check = http(path="/test.html", expect=FOUND)
        # nginx does not say when it is ready.
        while await probes.probe(check, LOOPBACK, port) == Outcome.failed("connection refused"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await probes.probe(check, LOOPBACK, port) == OK
        assert await probes.probe(http(path="/test.html", method="HEAD"), LOOPBACK, port) == OK
        assert await probes.probe(http(path="/none"), LOOPBACK, port) == Outcome.failed("HTTP 404")
        assert await probes.probe(http(path="/fails"), LOOPBACK, port) == Outcome.failed("HTTP 503")
