"""From a real server's death to its row gone, and what clients see of it meanwhile."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.directors import Keepalived, Lvsd
from bench.report import Figure, median, say
from bench.setups import Balanced, Check, Setup, server_key
from bench.watch import Watch, until
from lvsd.lab import links
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Hang, Page, Refuse
from lvsd.lab.network import Host, Network

if TYPE_CHECKING:
    from bench.directors import Director
    from lvsd.lab.client import HttpClient
    from lvsd.lab.misbehaving import Behaviour, MisbehavingServer
    from lvsd.model import Seconds

DEATHS = 20
RS1, RS2 = "192.168.0.3", "192.168.0.4"
VIPS = {"vs1": "192.168.0.101", "vs2": "192.168.0.102"}
CHECK = Check("http", interval=1.0)
CLIENT_EVERY: Seconds = 0.02
CLIENT_WAITS: Seconds = 1.0
AFTERMATH: Seconds = 0.2
"""How long the dead server stays away after its row is gone: requests under way show whether more fail."""

_NO_ARP = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
_NO_REDIRECTS = {"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.default.send_redirects": "0"}

_GONE = (
    "Both directors at once, each with its own VIP over the same two real servers, of which one dies "
    f"{DEATHS} times, at moments spread over the interval. HTTP probe every 1 s, time-out 1 s, the second "
    "failure 0.2 s after the first takes it out (lvsd: fall 2, fast_interval 0.2s; keepalived: retry 1, "
    "delay_before_retry 0.2). From the death to the row no longer seen, looked for every 5 ms."
)
_FAILED = (
    "One client for each VIP sends an HTTP request every 20 ms and gives up after 1 s: how many of those "
    "started between the death and the server's return failed."
)


@dataclass(slots=True)
class _Cluster:
    """One director, its VIP, and the client that uses it."""

    director: Director
    watch: Watch
    service: Balanced
    client: HttpClient
    gone: list[Seconds] = field(default_factory=list)

    def lacks_first_server(self) -> bool:
        """Tell whether the row of the real server that dies is gone."""
        return server_key(RS1) not in self.watch.servers(self.service.key)

    def is_whole(self) -> bool:
        """Tell whether both rows are there."""
        return len(self.watch.servers(self.service.key)) == len(self.service.servers)


async def measure() -> list[Figure]:
    """Return the figures of the detection."""
    async with Lab(_network()) as lab:
        page = Page("here\n")
        dying = await lab.hosts["rs1"].misbehave(80, page)
        await lab.hosts["rs2"].misbehave(80, page)
        ours = await _cluster(lab, Lvsd(lab.hosts["vs1"]))
        theirs = await _cluster(lab, Keepalived(lab.hosts["vs2"]))
        figures = []
        for name, death in (("refused", Refuse()), ("hanging", Hang())):
            figures += await _measure_death(name, death, dying, (ours, theirs))
        for cluster in (ours, theirs):
            await cluster.client.stop()
            await cluster.director.stop()
            cluster.watch.close()
        return figures


def _network() -> Network:
    vips = tuple(VIPS.values())
    return Network((
        *(Host(name, (f"192.168.0.{i}/24",), sysctls=_NO_REDIRECTS) for i, name in enumerate(VIPS, 1)),
        Host("rs1", (f"{RS1}/24",), vips=vips, sysctls=_NO_ARP),
        Host("rs2", (f"{RS2}/24",), vips=vips, sysctls=_NO_ARP),
        Host("client", ("192.168.0.200/24",)),
    ))  # fmt: skip


async def _cluster(lab: Lab, director: Director) -> _Cluster:
    machine = director.machine
    service = Balanced(VIPS[machine.name], (RS1, RS2))
    await machine.do(links.add_address, "eth0", f"{service.vip}/24")
    watch = await Watch.open(machine)
    await director.start(Setup((service,), CHECK))
    await until(lambda: len(watch.servers(service.key)) == len(service.servers))
    client = await lab.hosts["client"].request_every(CLIENT_EVERY, service.vip, timeout=CLIENT_WAITS)
    return _Cluster(director, watch, service, client)


async def _measure_death(
    name: str, death: Behaviour, dying: MisbehavingServer, clusters: tuple[_Cluster, _Cluster]
) -> list[Figure]:
    # Spread over the interval, since so few moments drawn at random would favour one director by chance.
    moments = [CHECK.interval * (i + 0.5) / DEATHS for i in range(DEATHS)]
    random.shuffle(moments)
    absences = []
    for cluster in clusters:
        cluster.gone.clear()
    for number, moment in enumerate(moments, 1):
        await asyncio.sleep(0.3 + moment)
        absences.append(await _die_once(death, dying, clusters))
        if number % 5 == 0:
            so_far = ", ".join(f"{each.director.name} {median(each.gone)}" for each in clusters)
            say(f"detection, {name}, {number} of {DEATHS}: {so_far}")
    await asyncio.sleep(CLIENT_WAITS)  # requests under way come to their end
    ours, theirs = clusters
    return [
        Figure(f"{name}: death to row gone", median(ours.gone), median(theirs.gone), _GONE),
        Figure(f"{name}: failed requests", _failed(ours, absences), _failed(theirs, absences), _FAILED),
    ]


async def _die_once(
    death: Behaviour, dying: MisbehavingServer, clusters: tuple[_Cluster, _Cluster]
) -> tuple[Seconds, Seconds]:
    """Let the server die and return; return when."""
    died_at = time.monotonic()
    await dying.behave(death)
    gone = await asyncio.gather(*(until(cluster.lacks_first_server) for cluster in clusters))
    for cluster, gone_at in zip(clusters, gone, strict=True):
        cluster.gone.append(gone_at - died_at)
    await asyncio.sleep(AFTERMATH)
    await dying.behave(Page("here\n"))
    back_at = time.monotonic()
    await asyncio.gather(*(until(cluster.is_whole) for cluster in clusters))
    return died_at, back_at


def _failed(cluster: _Cluster, absences: list[tuple[Seconds, Seconds]]) -> str:
    counts = [len(cluster.client.failures_between(*absence)) for absence in absences]
    return f"{statistics.median(counts):.0f} (worst {max(counts)})"
