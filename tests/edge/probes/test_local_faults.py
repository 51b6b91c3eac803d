"""A local fault is never a server's fault."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from misbehaving import (
    LOOPBACK,
    SHORT,
    answering,
    hang,
    http,
    ip,
    page,
    refusing,
    saying,
    serving,
    tcp,
    telnet,
)

from lvsd.edge.probes import Probes
from lvsd.edge.probes.connection import Connection
from lvsd.health.outcome import Outcome
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.config.model import Check
    from lvsd.model import Seconds

CHECKS = [tcp(timeout=SHORT), telnet(timeout=SHORT), http(timeout=SHORT)]
ELSEWHERE = Address.parse("203.0.113.1")


def set_sysctl(name: str, setting: str) -> None:
    (Path("/proc/sys") / name).write_text(setting, encoding="ascii")


async def starved(mode: str, port: int) -> list[str]:
    script = Path(__file__).with_name("starved.py")
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(script), mode, str(port), stdout=asyncio.subprocess.PIPE
    )
    written, _ = await child.communicate()
    assert child.returncode == 0
    return written.decode().splitlines()


async def test_of_200_probes_with_64_descriptors_none_fails() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.append(writer)
        if len(waiting) == 48:
            for each in waiting:
                each.write(page(b"slow"))
        await reader.read()

    waiting: list[asyncio.StreamWriter] = []
    async with serving(slow) as port:
        assert await starved("at-once", port) == [
            f"152 {Outcome.local('out of file descriptors (64): raise LimitNOFILE=')}",
            f"48 {Outcome.passed('HTTP 200')}",
        ]


async def test_no_descriptor_left_is_local() -> None:
    with refusing() as port:
        assert await starved("none-left", port) == [
            str(Outcome.local("out of file descriptors (64): raise LimitNOFILE="))
        ]


async def test_descriptors_come_back_after_each_probe() -> None:
    probes = Probes()
    before = set(Path("/proc/self/fd").iterdir())  # noqa: ASYNC240
    async with serving(answering(page(b""), then=hang)) as port:
        for check in (tcp(), http(), http(expect="x", timeout=0.05), telnet(timeout=0.05)):
            await probes.probe(check, LOOPBACK, port)
    with refusing() as port:
        await probes.probe(http(), LOOPBACK, port)
    await probes.close()
    await asyncio.sleep(0)
    assert set(Path("/proc/self/fd").iterdir()) <= before  # noqa: ASYNC240


@pytest.mark.parametrize("version", ["203.0.113.1", "2001:db8::1"])
async def test_address_to_probe_from_that_is_not_here_is_local(probes: Probes, version: str) -> None:
    server = LOOPBACK if "." in version else Address.parse("::1")
    outcome = await probes.probe(tcp(bind=Address.parse(version)), server, 9)
    assert outcome == Outcome.local(f"the address {version} to probe from is not on this host")


@pytest.mark.usefixtures("own_network")
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("address", ["203.0.113.1", "2001:db8::1"])
async def test_no_route_is_local(probes: Probes, check: Check, address: str) -> None:
    outcome = await probes.probe(check, Address.parse(address), 80)
    assert outcome == Outcome.local("the director has no route to it")


@pytest.mark.usefixtures("own_network")
async def test_route_that_is_prohibited_is_local(probes: Probes) -> None:
    ip("route add prohibit 203.0.113.0/24")
    outcome = await probes.probe(tcp(), ELSEWHERE, 80)
    assert outcome == Outcome.local("the director's own rules forbid it")


@pytest.mark.usefixtures("own_network")
@pytest.mark.parametrize("bind", [None, LOOPBACK])
async def test_no_port_left_is_local(probes: Probes, bind: Address | None) -> None:
    async with serving(hang) as port, serving(hang) as another:
        with ExitStack() as held:
            set_sysctl("net/ipv4/ip_local_port_range", "50000 50001")
            for _ in range(2):
                connection = Connection(LOOPBACK, port, bind)
                await connection.connect()
                held.callback(connection.close)
            outcome = await probes.probe(tcp(bind=bind), LOOPBACK, port)
            assert outcome == Outcome.local("no local port is free: widen net.ipv4.ip_local_port_range")
            # The ports are taken towards one server only, also where an address is bound.
            assert await probes.probe(tcp(bind=bind), LOOPBACK, another) == Outcome.passed("connected")


@pytest.mark.usefixtures("own_network")
async def test_host_that_nobody_answers_for_is_down(probes: Probes) -> None:
    ip("link add eth0 type veth peer name cable")
    ip("address add 203.0.113.2/24 dev eth0")
    ip("link set cable up")
    ip("link set eth0 up")
    set_sysctl("net/ipv4/neigh/eth0/retrans_time_ms", "20")
    outcome = await probes.probe(tcp(timeout=10.0), ELSEWHERE, 80)
    assert outcome == Outcome.failed("no route to host")


@pytest.fixture
async def impeded() -> AsyncIterator[Probes]:
    def impeded(address: Address, since: Seconds) -> str | None:
        assert since <= asyncio.get_running_loop().time()
        return "eth0 is down" if address == LOOPBACK else None

    probes = Probes(impeded)
    yield probes
    await probes.close()


@pytest.mark.parametrize("check", CHECKS)
async def test_probe_that_gets_no_answer_is_local_while_an_interface_is_out(
    impeded: Probes, check: Check
) -> None:
    with refusing() as port:
        assert await impeded.probe(check, LOOPBACK, port) == Outcome.local("eth0 is down")
    if not isinstance(check, type(tcp())):
        async with serving(hang) as port:
            assert await impeded.probe(check, LOOPBACK, port) == Outcome.local("eth0 is down")


async def test_answer_counts_even_while_an_interface_is_out(impeded: Probes) -> None:
    async with serving(answering(page(b"", "500 Oops"))) as port:
        assert await impeded.probe(tcp(), LOOPBACK, port) == Outcome.passed("connected")
        assert await impeded.probe(http(), LOOPBACK, port) == Outcome.failed("HTTP 500")


async def test_time_does_not_run_while_the_director_stands_still(probes: Probes) -> None:
    """The answer comes within the time-out, but the director is kept from reading it until after that."""

    async def in_two_pieces(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"log")
        await asyncio.sleep(SHORT / 2)
        writer.write(b"in:")
        await asyncio.Event().wait()

    async with serving(in_two_pieces) as port:
        probe = asyncio.create_task(probes.probe(telnet(timeout=SHORT), LOOPBACK, port))
        await asyncio.sleep(0.05)
        time.sleep(2 * SHORT)  # noqa: ASYNC251
        assert await probe == Outcome.passed("banner matches")


async def test_director_that_stands_still_again_and_again_still_finds_a_dead_server(probes: Probes) -> None:
    async with serving(saying(b"never the banner", then=hang)) as port:
        probe = asyncio.create_task(probes.probe(telnet(timeout=SHORT), LOOPBACK, port))
        while not probe.done():
            await asyncio.sleep(0.05)
            time.sleep(0.05)  # noqa: ASYNC251
        reason = "timed out after 0.3s while waiting for 'login:' in the banner"
        assert probe.result() == Outcome.failed(reason)
