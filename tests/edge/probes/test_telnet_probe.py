from __future__ import annotations

import asyncio
import shutil
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from misbehaving import LOOPBACK, SHORT, close, hang, reset, saying, serving, telnet

from lvsd.health.outcome import Ended, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from misbehaving import Behaviour

    from lvsd.config.model import Check
    from lvsd.edge.probes import Probes

PASSED = Outcome.passed("banner matches")

TELNETD = shutil.which("in.telnetd", path="/usr/sbin") or shutil.which("telnetd", path="/usr/sbin")


@pytest.mark.parametrize(
    ("check", "behaviour", "outcome"),
    [
        (telnet(), saying(b"rs1 login: ", then=hang), PASSED),
        (telnet(), saying(b"rs1 lo", b"g", b"in: ", then=hang), PASSED),
        (telnet(), saying(b"\xff", b"\xfd", b"\x18lo\xff", b"\xfb\x01gin:", then=hang), PASSED),
        (
            telnet(),
            saying(b"\xff\xfa\x18\x01", b"login:\xff", b"\xf0"),
            Outcome.failed("closed without a banner"),
        ),
        (telnet(expect=""), saying(b"\xff\xfb\x01", b"hello", then=hang), PASSED),
        (telnet(expect=""), saying(b"\xff\xfb\x01"), Outcome.failed("closed without a banner")),
        (telnet(), close, Outcome.failed("closed without a banner")),
        (telnet(), saying(b"no more ptys\r\n"), Outcome.failed("banner does not match 'login:'")),
        (telnet(), reset, Outcome.failed("connection reset")),
        (
            telnet(timeout=SHORT),
            saying(b"\xff\xfb\x01", then=hang),
            Outcome.failed("timed out after 0.3s while waiting for the banner"),
        ),
        (
            telnet(timeout=SHORT),
            saying(b"welcome\r\n", then=hang),
            Outcome.failed("timed out after 0.3s while waiting for 'login:' in the banner"),
        ),
    ],
)
async def test_outcome_of_a_telnet_probe(
    probes: Probes, check: Check, behaviour: Behaviour, outcome: Outcome
) -> None:
    async with serving(behaviour) as port:
        assert await probes.probe(check, LOOPBACK, port) == outcome


async def test_options_are_refused_before_the_banner_comes(probes: Probes) -> None:
    async def negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xfd\x18\xff\xfb\x01")
        assert await reader.readexactly(6) == b"\xff\xfc\x18\xff\xfe\x01"
        writer.write(b"login: ")

    async with serving(negotiate) as port:
        assert await probes.probe(telnet(), LOOPBACK, port) == PASSED


async def test_server_that_only_negotiates_ends_at_the_limit(probes: Probes) -> None:
    async def negotiate(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"\xff\xfd\x18" * 1000)
            await writer.drain()

    async with serving(negotiate) as port:
        outcome = await probes.probe(telnet(), LOOPBACK, port)
    assert outcome == Outcome.failed("no match for 'login:' in the first 65536 bytes")


@asynccontextmanager
async def telnetd(*arguments: str) -> AsyncIterator[int]:
    """Serve every connection by a real telnetd, as inetd does; give the port."""
    assert TELNETD is not None
    loop = asyncio.get_running_loop()
    children: list[asyncio.subprocess.Process] = []
    with socket.socket() as listener:
        listener.settimeout(0)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        async def serve() -> None:
            while True:
                client, _ = await loop.sock_accept(listener)
                with client:
                    client.settimeout(None)
                    children.append(
                        await asyncio.create_subprocess_exec(
                            TELNETD,
                            *arguments,
                            stdin=client,
                            stdout=client,
                            stderr=asyncio.subprocess.DEVNULL,
                        )
                    )

        serving = asyncio.create_task(serve())
        try:
            yield listener.getsockname()[1]
        finally:
            serving.cancel()
            for child in children:
                with suppress(ProcessLookupError):
                    child.terminate()
                await child.wait()


@pytest.mark.skipif(TELNETD is None, reason="telnetd is not installed")
async def test_real_telnetd_shows_its_login(probes: Probes) -> None:
    async with telnetd("-h") as port:
        assert await probes.probe(telnet(), LOOPBACK, port) == PASSED


@pytest.mark.skipif(TELNETD is None, reason="telnetd is not installed")
async def test_real_telnetd_whose_login_fails_is_down(probes: Probes) -> None:
    async with telnetd("-h", "-L", "/bin/false") as port:
        outcome = await probes.probe(telnet(timeout=2.0), LOOPBACK, port)
    # This telnetd does not always notice that its login has ended, and then keeps the connection.
    assert outcome.ended is Ended.FAILED
