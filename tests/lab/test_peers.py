"""What README.md says of keepalived and ldirectord, seen on this kernel: facts about one version of each.

A peer of another version is left out with that reason, for it may have become better.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest
from peers import (
    RS1,
    RS2,
    STRANGER,
    WWW,
    Keepalived,
    Ldirectord,
    Peer,
    installed_version,
    keepalived_conf,
    ldirectord_cf,
)
from waiting import until

from lvsd.lab.classic import classic
from lvsd.lab.lab import Lab
from lvsd.lab.network import Network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peers import Rows

    from lvsd.lab.machine import Machine

ELSEWHERE = ("TCP", "192.168.0.102", 80)
"""A service of somebody else."""


@pytest.fixture
async def small_lab() -> AsyncIterator[Lab]:
    """The part of the classic network that these tests need: a director and two web servers."""
    hosts = tuple(host for host in classic().hosts if host.name in {"vs1", "rs1", "rs2"})
    async with Lab(Network(hosts)) as built:
        yield built


@pytest.fixture
async def vs1(small_lab: Lab) -> Machine:
    return small_lab.hosts["vs1"]


@pytest.fixture
async def keepalived(vs1: Machine) -> Keepalived:
    """keepalived with both web servers in its table."""
    _skip_unless(Keepalived)
    peer = await Keepalived.start(vs1, keepalived_conf())
    await peer.has(RS1, RS2)
    return peer


@pytest.fixture
async def ldirectord(vs1: Machine) -> Ldirectord:
    """ldirectord with both web servers in its table."""
    _skip_unless(Ldirectord)
    peer = await Ldirectord.start(vs1, ldirectord_cf())
    await peer.has(RS1, RS2)
    return peer


async def test_keepalived_brings_a_dead_server_back_when_its_checker_crashes(
    small_lab: Lab, keepalived: Keepalived
) -> None:
    await _dies(small_lab, keepalived)
    keepalived.kill_checker()
    await keepalived.has(RS1, RS2)
    assert (await keepalived.rows())[RS2] == ("Route", 1)
    await keepalived.has(RS1)


async def test_keepalived_removes_its_rows_at_its_end_and_adds_a_dead_server_at_its_start(
    small_lab: Lab, keepalived: Keepalived
) -> None:
    await keepalived.stop()
    assert await keepalived.machine.read_table() == {}
    await small_lab.hosts["rs2"].stop("nginx")
    await keepalived.begin()
    await keepalived.has(RS1, RS2)
    await keepalived.has(RS1)


async def test_keepalived_removes_its_rows_when_its_parent_is_killed(keepalived: Keepalived) -> None:
    await keepalived.kill()
    await keepalived.has()


async def test_keepalived_brings_a_dead_server_back_when_a_reload_changes_a_setting(
    small_lab: Lab, keepalived: Keepalived
) -> None:
    await _dies(small_lab, keepalived)
    keepalived.reload(keepalived_conf(timeout=2))
    await keepalived.has(RS1, RS2)
    await keepalived.has(RS1)
    # With another forwarding method it stays, though a check fails each second.
    keepalived.reload(keepalived_conf(timeout=2, kind="TUN"))
    await keepalived.has(RS1, RS2)
    await keepalived.keeps(RS1, RS2, seconds=4.0)
    assert await keepalived.rows() == {RS1: ("Tunnel", 1), RS2: ("Tunnel", 1)}


async def test_keepalived_applies_a_broken_file(small_lab: Lab, keepalived: Keepalived) -> None:
    await _dies(small_lab, keepalived)
    keepalived.reload(keepalived_conf(kind="DRR"))
    await keepalived.has(RS1, RS2)
    assert await keepalived.rows() == {RS1: ("Masq", 1), RS2: ("Masq", 1)}


async def test_keepalived_finds_no_dying_server_while_it_is_reloaded_every_900_ms(
    small_lab: Lab, keepalived: Keepalived
) -> None:
    reloading = asyncio.create_task(keepalived.reload_every(0.9))
    await small_lab.hosts["rs2"].stop("nginx")
    await keepalived.keeps(RS1, RS2, seconds=8.0)
    reloading.cancel()
    await keepalived.has(RS1)


async def test_keepalived_never_notices_that_its_table_was_cleared(keepalived: Keepalived) -> None:
    await keepalived.machine.run(["ipvsadm", "-C"])
    await keepalived.keeps(seconds=3.0)
    keepalived.reload()
    await keepalived.keeps(seconds=1.0)


async def test_keepalived_leaves_the_rows_of_others_alone_until_it_stops_or_is_told_to_flush(
    vs1: Machine,
) -> None:
    _skip_unless(Keepalived)
    await _add_rows_of_others(vs1)
    peer = await Keepalived.start(vs1, keepalived_conf())
    await peer.has(RS1, RS2, STRANGER)
    await peer.stop()
    assert list(await vs1.read_table()) == [ELSEWHERE]
    await peer.begin(keepalived_conf(settings="lvs_flush"))
    await peer.has(RS1, RS2)
    assert list(await vs1.read_table()) == [WWW]


async def test_keepalived_removes_every_server_when_its_own_link_is_down(
    small_lab: Lab, keepalived: Keepalived
) -> None:
    await small_lab.cut("vs1")
    await keepalived.has()


async def test_keepalived_dumps_its_state_as_text_when_signalled(keepalived: Keepalived) -> None:
    dump = keepalived.machine.directory / "keepalived_check.data"
    keepalived.process.signal(signal.SIGUSR1)

    async def dumped() -> bool:
        return dump.exists() and f"   RIP = {RS2}, RPORT = 80, WEIGHT = 1" in dump.read_text()

    await until(dumped)


async def test_ldirectord_adds_a_dead_server_at_its_start_and_removes_all_when_cut_off_and_at_its_end(
    small_lab: Lab, vs1: Machine
) -> None:
    _skip_unless(Ldirectord)
    await small_lab.hosts["rs2"].stop("nginx")
    await _add_rows_of_others(vs1)
    peer = Ldirectord(vs1)
    async with peer.watched() as seen:
        await peer.begin(ldirectord_cf())
        await until(lambda: _among({RS2: ("Route", 1)}, seen))
        await peer.has(RS1)
    await small_lab.cut("vs1")
    await peer.has()
    await small_lab.mend("vs1")
    await peer.has(RS1)
    await peer.stop()
    assert list(await vs1.read_table()) == [ELSEWHERE]
    assert f"Deleted real server: {RS2}:80" in peer.process.output


async def test_ldirectord_brings_a_dead_server_back_at_each_reload_and_finds_none_after_a_broken_file(
    small_lab: Lab, ldirectord: Ldirectord
) -> None:
    await _dies(small_lab, ldirectord)
    async with ldirectord.watched() as seen:
        ldirectord.reload()
        await until(lambda: _among({RS1: ("Route", 1), RS2: ("Route", 1)}, seen))
        await ldirectord.has(RS1)
    ldirectord.reload(ldirectord_cf(settings="quiescant = no"))
    await until(lambda: _refused(ldirectord))
    await small_lab.hosts["rs1"].stop("nginx")
    await ldirectord.keeps(RS1, seconds=5.0)
    ldirectord.reload(ldirectord_cf())
    await ldirectord.has()


async def test_ldirectord_notices_at_a_reload_alone_that_its_table_was_cleared_and_leaves_it_when_killed(
    small_lab: Lab, ldirectord: Ldirectord
) -> None:
    await ldirectord.machine.run(["ipvsadm", "-C"])
    await ldirectord.keeps(seconds=3.0)
    ldirectord.reload()
    await ldirectord.has(RS1, RS2)
    await ldirectord.kill()
    await small_lab.hosts["rs2"].stop("nginx")
    await ldirectord.keeps(RS1, RS2, seconds=3.0)


def _skip_unless(peer: type[Peer]) -> None:
    """Leave a test out where the peer is missing, or another one than its facts are about."""
    if (version := installed_version(peer.package)) != peer.version:
        pytest.skip(f"facts about {peer.package} {peer.version}, and here is {version or 'none'}")


async def _dies(lab: Lab, peer: Peer) -> None:
    """Let the second web server die, and the peer find that."""
    await lab.hosts["rs2"].stop("nginx")
    await peer.has(RS1)


async def _add_rows_of_others(machine: Machine) -> None:
    """Put a strange server into the web service, and a strange service beside it."""
    services = [f"{address}:{port}" for _, address, port in (WWW, ELSEWHERE)]
    lines = [f"-A -t {each} -s rr\n-a -t {each} -r {STRANGER}:80 -g\n" for each in services]
    rules = machine.directory / "rules"
    rules.write_text("".join(lines))
    await machine.run(["sh", "-c", f"ipvsadm -R <{rules}"])


async def _refused(peer: Ldirectord) -> bool:
    """Tell whether it said so, in its usual log: a mistake also makes it forget what came after."""
    log = peer.machine.directory / "log/ldirectord.log"
    return log.exists() and "Unknown command quiescant" in log.read_text()


async def _among(rows: Rows, seen: list[Rows]) -> bool:
    return rows in seen
