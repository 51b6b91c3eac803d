from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from misbehaving import (
    LOOPBACK,
    SHORT,
    abort,
    black_hole,
    close,
    hang,
    refusing,
    reset,
    saying,
    serving,
    tcp,
    telnet,
)

from lvsd.health.outcome import Outcome
from lvsd.model import Address

if TYPE_CHECKING:
    from misbehaving import Behaviour

    from lvsd.config.model import Check
    from lvsd.edge.probes import Probes

TIME_WAIT = "06"


def states(port: int) -> set[str]:
    """Return the states of the connections that end at `port`."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {row[3] for row in rows if row[2].endswith(f":{port:04X}")}


@pytest.mark.parametrize(
    ("check", "behaviour", "outcome"),
    [
        (tcp(), hang, Outcome.passed("connected")),
        (tcp(), close, Outcome.passed("connected")),
        (tcp(expect="^SSH"), saying(b"SSH-2.0-x\r\n", then=hang), Outcome.passed("answer matches")),
        (tcp(expect="^SSH"), saying(b"S", b"S", b"H-", then=hang), Outcome.passed("answer matches")),
        (
            tcp(send=b"PING\r\n", expect=r"\+PONG"),
            saying(b"+PONG\r\n", after=b"PING\r\n"),
            Outcome.passed("answer matches"),
        ),
        (tcp(expect="^SSH"), saying(b"220 ftp\r\n"), Outcome.failed("answer does not match '^SSH'")),
        (tcp(expect="^SSH"), close, Outcome.failed("closed without an answer")),
        (tcp(send=b"PING", expect="PONG"), reset, Outcome.failed("connection reset")),
        (
            tcp(expect="^SSH", timeout=SHORT),
            hang,
            Outcome.failed("timed out after 0.3s while waiting for the answer"),
        ),
        (
            tcp(expect="^SSH", timeout=SHORT),
            saying(b"220 ftp\r\n", then=hang),
            Outcome.failed("timed out after 0.3s while waiting for '^SSH' in the answer"),
        ),
    ],
)
async def test_outcome_of_a_tcp_probe(
    probes: Probes, check: Check, behaviour: Behaviour, outcome: Outcome
) -> None:
    async with serving(behaviour) as port:
        assert await probes.probe(check, LOOPBACK, port) == outcome


async def test_endless_answer_ends_at_the_limit(probes: Probes) -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    async with serving(babble) as port:
        outcome = await probes.probe(tcp(expect="y"), LOOPBACK, port)
    assert outcome == Outcome.failed("no match for 'y' in the first 65536 bytes")


async def test_port_that_nobody_listens_on_is_refused(probes: Probes) -> None:
    with refusing() as port:
        assert await probes.probe(tcp(), LOOPBACK, port) == Outcome.failed("connection refused")


async def test_connection_that_nobody_takes_times_out(probes: Probes) -> None:
    with black_hole() as port:
        outcome = await probes.probe(tcp(timeout=SHORT), LOOPBACK, port)
    assert outcome == Outcome.failed("timed out after 0.3s while connecting")


async def test_check_with_a_port_of_its_own_ignores_the_servers(probes: Probes) -> None:
    async with serving(hang) as port:
        with refusing() as another:
            assert await probes.probe(tcp(port=port), LOOPBACK, another) == Outcome.passed("connected")


async def test_probe_over_ipv6(probes: Probes) -> None:
    async with serving(hang, "::1") as port:
        assert await probes.probe(tcp(), Address.parse("::1"), port) == Outcome.passed("connected")


async def test_probe_comes_from_the_address_it_is_bound_to(probes: Probes) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peername")[0])

    async with serving(look) as port:
        await probes.probe(tcp(bind=Address.parse("127.0.0.7")), LOOPBACK, port)
        assert await seen == "127.0.0.7"


@pytest.mark.parametrize("check", [tcp(), tcp(expect="login"), telnet()])
async def test_server_sees_the_probe_end_by_a_reset(probes: Probes, check: Check) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"login:")
            ended.set_result(await reader.read())
        except ConnectionError as error:
            ended.set_result(type(error))

    async with serving(watch) as port:
        await probes.probe(check, LOOPBACK, port)
        assert await ended is ConnectionResetError


async def test_probes_leave_no_port_in_time_wait(probes: Probes) -> None:
    async with serving(hang) as port:
        for _ in range(20):
            await probes.probe(tcp(), LOOPBACK, port)
        assert TIME_WAIT not in states(port)


async def test_cancelled_probe_leaves_nothing_open(probes: Probes) -> None:
    gone = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started.set()
        try:
            await reader.read()
        except ConnectionResetError:
            gone.set_result(True)
        abort(writer)

    started = asyncio.Event()
    async with serving(watch) as port:
        probe = asyncio.create_task(probes.probe(tcp(expect="x"), LOOPBACK, port))
        await started.wait()
        probe.cancel()
        assert await gone
        with pytest.raises(asyncio.CancelledError):
            await probe
