"""The kernel's table as lvsd writes and reads it; the kernel and ipvsadm are the judges."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.edge import ipvs as edge
from lvsd.edge import ipvs_channel
from lvsd.edge.ipvs import NO_IPVS, NO_RIGHT, Ipvs
from lvsd.errors import KernelError
from lvsd.ipvs import text
from lvsd.ipvs.change import (
    AddServer,
    AddService,
    Change,
    EditServer,
    EditService,
    RemoveServer,
    RemoveService,
    apply,
    image,
)
from lvsd.model import (
    SCHEDULERS,
    Address,
    FirewallMark,
    Forwarding,
    Persistence,
    Protocol,
    Rows,
    Server,
    ServerKey,
    Service,
    ServiceKey,
    Table,
    VirtualAddress,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

VIP, VIP6 = Address.parse("192.168.0.101"), Address.parse("2001:db8::1")
RS1, RS6 = Address.parse("192.168.0.3"), Address.parse("2001:db8::3")
WWW = VirtualAddress(Protocol.TCP, VIP, 80)
TELNET = VirtualAddress(Protocol.TCP, VIP, 23)
WEB1, WEB2 = ServerKey(RS1, 80), ServerKey(Address.parse("192.168.0.4"), 80)
DR, TUNNEL = Server(Forwarding.DR, 1), Server(Forwarding.TUN, 1)

on_the_labs_own_kernel = pytest.mark.skipif(
    "User Mode Linux" not in Path("/proc/cpuinfo").read_text(),
    reason="it is the host's kernel, and all use it",
)


@pytest.fixture(autouse=True)
def _empty_table() -> Iterator[None]:
    yield
    ipvsadm("-C")


@pytest.fixture
async def ipvs() -> AsyncIterator[Ipvs]:
    async with Ipvs() as opened:
        yield opened


def ipvsadm(*arguments: str, typed: str = "") -> str:
    return subprocess.run(  # noqa: S603
        ["/usr/sbin/ipvsadm", *arguments], check=True, input=typed, stdout=subprocess.PIPE, text=True
    ).stdout


def additions(table: Table) -> list[Change]:
    changes: list[Change] = []
    for key, rows in table.items():
        changes.append(AddService(key, rows.service))
        changes += (AddServer(key, at, server) for at, server in rows.servers.items())
    return changes


def many(services: int, servers: int) -> Table:
    rows = Rows(
        Service("wrr"),
        {ServerKey(Address(bytes([192, 168, 0, n + 1])), 80): DR for n in range(servers)},
    )
    return {
        VirtualAddress(Protocol.TCP, Address(bytes([10, n // 250, n % 250, 1])), 80): rows
        for n in range(services)
    }


def settings(version: int) -> Iterator[Service]:
    for scheduler in SCHEDULERS:
        if scheduler != "twos" or module_exists("ip_vs_twos"):
            yield Service(scheduler)
    for scheduler, *flags in SCHEDULER_FLAGS:
        yield Service(scheduler, frozenset(flags))
    for timeout, prefix, engine in product(
        (1, 300, 86400), (32, 24, 8) if version == 4 else (128, 64, 1), ("", "sip")
    ):
        yield Service("wlc", persistence=Persistence(timeout, prefix, engine))


SCHEDULER_FLAGS = (
    ("rr", "ops"),
    ("sh", "sh-port"),
    ("sh", "sh-fallback"),
    ("sh", "sh-fallback", "sh-port"),
    ("mh", "mh-port"),
    ("mh", "mh-fallback", "mh-port", "ops"),
)


def module_exists(name: str) -> bool:
    return any(Path("/usr/lib/uml/modules", os.uname().release).rglob(f"{name}.ko*"))


def servers(version: int) -> dict[ServerKey, Server]:
    """Return every forwarding method, by tunnel to both IP versions, and weights from end to end."""
    own, other = (RS1, RS6) if version == 4 else (RS6, RS1)
    rows = {
        ServerKey(own, 80 + n): Server(forwarding, weight)
        for n, (forwarding, weight) in enumerate(product(Forwarding, (0, 1, 65535)))
    }
    return rows | {ServerKey(other, 80): Server(Forwarding.TUN, 7)}


def everything() -> Table:
    """Return a service with each setting for each protocol and IP version, and for firewall marks."""
    table: dict[ServiceKey, Rows] = {}
    for version, vip in (4, VIP), (6, VIP6):
        for n, service in enumerate(settings(version)):
            table[FirewallMark(n + 1, version)] = Rows(service, servers(version))
            for protocol in Protocol:
                sip = service.persistence is not None and service.persistence.engine == "sip"
                if protocol is Protocol.UDP or not sip:
                    table[VirtualAddress(protocol, vip, 1000 + n)] = Rows(service, servers(version))
    return table


async def test_every_kind_of_row_reads_as_it_was_written(ipvs: Ipvs) -> None:
    written = everything()
    assert await ipvs.program(additions(written)) == {}
    assert await ipvs.read() == written


async def test_every_kind_of_row_reads_so_without_the_kernels_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ipvs_channel, "LISTING", "/proc/net/none")
    written = everything()
    async with Ipvs() as ipvs:
        await ipvs.program(additions(written))
        assert await ipvs.read() == written


async def test_an_edit_to_every_setting_reads_as_it_was_written(ipvs: Ipvs) -> None:
    for key in WWW, VirtualAddress(Protocol.UDP, VIP6, 80), FirewallMark(7, 4):
        await ipvs.program([AddService(key, Service("rr")), AddServer(key, WEB1, Server(Forwarding.TUN, 1))])
        for service, server in zip(settings(key.version), [*servers(4).values()] * 9, strict=False):
            forwarding = server.forwarding if key.version == 4 else Forwarding.TUN
            edited = Server(forwarding, server.weight)
            assert await ipvs.program([EditService(key, service), EditServer(key, WEB1, edited)]) == {}
            assert (await ipvs.read())[key] == Rows(service, {WEB1: edited})


async def test_the_table_is_rendered_as_ipvsadm_shows_it(ipvs: Ipvs) -> None:
    await ipvs.program(additions(everything()))
    table = await ipvs.read()
    shown = ipvsadm("-Ln")
    title = shown.partition("\n")[0]
    # Of a service's servers, those of the other IP version stand elsewhere: ipvsadm compares half of them.
    rendered = text.render(table, await ipvs.connections(table), title)
    assert sorted(rendered.splitlines()) == sorted(shown.splitlines())
    services = [line for line in shown.splitlines() if not line.startswith("  ->")]
    assert [line for line in rendered.splitlines() if not line.startswith("  ->")] == services


async def test_the_classic_table_is_rendered_to_the_letter(ipvs: Ipvs) -> None:
    for key, port in (WWW, 80), (TELNET, 23):
        await ipvs.program([AddService(key, Service("rr"))])
        await ipvs.program([AddServer(key, ServerKey(at.address, port), DR) for at in (WEB2, WEB1)])
    table = await ipvs.read()
    shown = ipvsadm("-Ln")
    assert text.render(table, await ipvs.connections(table), shown.partition("\n")[0]) == shown


async def test_what_ipvsadm_would_be_given_for_a_change_makes_the_same_row(ipvs: Ipvs) -> None:
    sip = VirtualAddress(Protocol.UDP, VIP, 5060)
    written: Table = {
        WWW: Rows(Service("sh", frozenset({"sh-port"}), Persistence(300, 24)), {WEB1: DR}),
        VirtualAddress(Protocol.SCTP, VIP6, 443): Rows(
            Service("mh", persistence=Persistence(30, 64)),
            {ServerKey(RS6, 8443): Server(Forwarding.NAT, 65535), ServerKey(RS1, 443): TUNNEL},
        ),
        sip: Rows(Service("rr", frozenset({"ops"}), Persistence(60, 32, "sip")), {}),
        FirewallMark(7, 4): Rows(Service("nq"), {ServerKey(RS1, 0): Server(Forwarding.DR, 0)}),
        FirewallMark(7, 6): Rows(Service("nq"), {ServerKey(RS6, 0): TUNNEL}),
    }
    ipvsadm("-R", typed="\n".join(map(str, additions(written))))
    assert await ipvs.read() == written
    removals = [RemoveServer(key, at) for key, rows in written.items() for at in rows.servers]
    ipvsadm("-R", typed="\n".join(map(str, removals)))
    assert await ipvs.read() == {key: Rows(rows.service, {}) for key, rows in written.items()}


async def test_refusals_have_a_reason_and_the_rest_is_done(ipvs: Ipvs) -> None:
    changes: list[Change] = [
        EditService(WWW, Service("rr")),
        AddService(WWW, Service("foo")),
        AddService(WWW, Service("rr")),
        AddService(WWW, Service("rr")),
        AddServer(TELNET, WEB1, DR),
        EditServer(WWW, WEB1, DR),
        AddServer(WWW, WEB1, DR),
        AddServer(WWW, ServerKey(RS6, 80), DR),
        AddServer(WWW, WEB1, DR),
        RemoveServer(WWW, WEB2),
        RemoveService(TELNET),
        EditServer(WWW, WEB1, Server(Forwarding.DR, 5)),
    ]
    refused = await ipvs.program(changes)
    assert {index: why.reason for index, why in refused.items()} == {
        0: "no such virtual service",
        1: 'scheduler "foo" is not available in this kernel (modprobe ip_vs_foo)',
        3: "already there",
        4: "no such virtual service",
        5: "no such real server",
        7: "a real server of the other IP version can only be reached by tunnel (forward: tun)",
        8: "already there",
        9: "no such real server",
        10: "no such virtual service",
    }
    accepted = image({})
    for index, change in enumerate(changes):
        if index not in refused:
            apply(accepted, change)
    assert await ipvs.read() == accepted == {WWW: Rows(Service("rr"), {WEB1: Server(Forwarding.DR, 5)})}


async def test_a_thousand_refusals_all_arrive(ipvs: Ipvs) -> None:
    changes = additions(many(200, 5))
    assert await ipvs.program(changes) == {}
    refused = await ipvs.program(changes)
    assert list(refused) == list(range(len(changes)))
    assert {why.reason for why in refused.values()} == {"already there"}


async def test_answers_that_do_not_fit_are_unknown_and_the_table_tells(
    ipvs: Ipvs, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = [RemoveService(FirewallMark(n, 4)) for n in range(1, 2000)]
    monkeypatch.setattr(edge, "BATCH", 3000)
    refused = await ipvs.program([AddService(WWW, Service("rr")), *missing, AddServer(WWW, WEB1, DR)])
    assert len(refused) == len(missing) + 2
    assert all(why.unknown for why in refused.values())
    assert await ipvs.read() == {WWW: Rows(Service("rr"), {WEB1: DR})}
    assert await ipvs.program([RemoveService(WWW)]) == {}


async def test_what_did_not_change_is_the_same_object_again(ipvs: Ipvs) -> None:
    await ipvs.program(additions(many(20, 3)))
    first = await ipvs.read()
    assert await ipvs.read() is first
    key = next(iter(first))
    await ipvs.program([EditServer(key, WEB1, Server(Forwarding.DR, 9))])
    second = await ipvs.read()
    assert {changed for changed in first if second[changed] is not first[changed]} == {key}
    assert second[key].servers[WEB1].weight == 9


async def test_changes_behind_its_back_are_seen(ipvs: Ipvs) -> None:
    table: Table = {WWW: Rows(Service("rr"), {WEB1: DR, WEB2: DR}), TELNET: Rows(Service("rr"), {})}
    await ipvs.program(additions(table))
    assert await ipvs.read() == table
    ipvsadm("-d", "-t", str(WWW).split()[1], "-r", str(WEB1))
    ipvsadm("-E", "-t", str(TELNET).split()[1], "-s", "sh", "-b", "sh-port")
    assert await ipvs.read() == {
        WWW: Rows(Service("rr"), {WEB2: DR}),
        TELNET: Rows(Service("sh", frozenset({"sh-port"})), {}),
    }
    ipvsadm("-C")
    assert await ipvs.read() == {}


async def test_connections_are_counted(ipvs: Ipvs) -> None:
    loopback = Address.parse("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = VirtualAddress(Protocol.TCP, loopback, 8080)
        server = ServerKey(loopback, listener.getsockname()[1])
        rows = Rows(Service("rr", persistence=Persistence(60, 32)), {server: Server(Forwarding.NAT, 1)})
        await ipvs.program(
            [AddService(service, rows.service), AddServer(service, server, rows.servers[server])]
        )
        before = await ipvs.read()
        with socket.create_connection(("127.0.0.1", 8080)), listener.accept()[0]:
            counted = (await ipvs.connections([service, TELNET]))[service][server]
        assert (counted.active, counted.inactive, counted.persistent) == (1, 0, 1)
        assert await ipvs.read() is before


async def test_calls_at_the_same_time_take_turns(ipvs: Ipvs) -> None:
    table = many(100, 5)
    outcomes = await asyncio.gather(
        ipvs.program(additions(table)), ipvs.read(), ipvs.connections(list(table)), ipvs.read()
    )
    assert outcomes[0] == {}
    assert outcomes[1] == outcomes[3] == table


async def test_a_cancelled_call_leaves_a_working_table(ipvs: Ipvs) -> None:
    table = many(300, 5)
    for turns in 1, 3, 10:
        task = asyncio.create_task(ipvs.program(additions(table)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ipvs.program([RemoveService(key) for key in await ipvs.read()])
        assert await ipvs.read() == {}


async def test_it_works_on_without_a_descriptor_left(ipvs: Ipvs) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        table: Table = {WWW: Rows(Service("rr"), {WEB1: DR})}
        assert await ipvs.program(additions(table)) == {}
        assert await ipvs.read() == table
        assert await ipvs.connections([WWW])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_without_the_right_it_says_which() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(KernelError, match="CAP_NET_ADMIN") as raised:
            async with Ipvs():
                pass
    finally:
        os.seteuid(0)
    assert str(raised.value) == NO_RIGHT


@on_the_labs_own_kernel
async def test_without_ipvs_it_says_so_and_where_it_can_the_kernel_loads_it() -> None:
    unload()
    with modprobe("/bin/false"), pytest.raises(KernelError) as raised:
        async with Ipvs():
            pass
    assert str(raised.value) == NO_IPVS
    async with Ipvs() as ipvs:
        assert await ipvs.read() == {}


@on_the_labs_own_kernel
async def test_a_module_loaded_anew_is_found_again(ipvs: Ipvs) -> None:
    table: Table = {WWW: Rows(Service("rr"), {WEB1: DR})}
    await ipvs.program(additions(table))
    assert await ipvs.read() == table
    ipvsadm("-C")
    unload()
    assert await ipvs.read() == {}
    assert await ipvs.program(additions(table)) == {}
    assert await ipvs.read() == table


@on_the_labs_own_kernel
async def test_the_loop_runs_on_while_the_kernel_looks_for_a_scheduler(ipvs: Ipvs, tmp_path: Path) -> None:
    slow = tmp_path / "modprobe"
    slow.write_text("#!/bin/sh\nsleep 1\n")
    slow.chmod(0o755)
    turns = 0
    with modprobe(str(slow)):
        programming = asyncio.create_task(ipvs.program([AddService(WWW, Service("foo"))]))
        while not programming.done():
            await asyncio.sleep(0.01)
            turns += 1
    assert len(programming.result()) == 1
    assert turns > 10


@contextmanager
def modprobe(program: str) -> Iterator[None]:
    setting = Path("/proc/sys/kernel/modprobe")
    usual = setting.read_text()
    setting.write_text(program)
    try:
        yield
    finally:
        setting.write_text(usual)


def unload() -> None:
    loaded = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    subprocess.run(  # noqa: S603
        ["/sbin/rmmod", *(name for name in loaded if name.startswith("ip_vs"))], check=True
    )
