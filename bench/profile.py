"""Where lvsd's own time goes, for whoever wants to make it faster. No part of the table."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from bench.directors import Lvsd
from bench.report import say
from bench.setups import Check, setup
from bench.watch import Watch, until
from lvsd.lab.lab import Lab
from lvsd.lab.network import Host, Network
from lvsd.lab.services import Nginx

if TYPE_CHECKING:
    from bench.setups import Setup
    from lvsd.lab.machine import Machine
    from lvsd.model import Seconds

_NETWORK = Network((
    Host("vs1", ("192.168.0.1/24",), gateways=("192.168.0.3",)),
    Host("rs1", ("192.168.0.3/24",), services=(Nginx("here\n"),)),
))  # fmt: skip


async def show() -> None:
    """Profile a start, a start with a reload, and probes of each kind; print the dearest functions."""
    async with Lab(_NETWORK) as lab:
        vs1, rs1 = lab.hosts["vs1"], lab.hosts["rs1"]
        await rs1.run(["/usr/sbin/ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"])
        await _profile(vs1, "start, 1,000 x 5", setup(1000, 5), after=3.0)
        await _profile(vs1, "start and reload, 1,000 x 5", setup(1000, 5), after=3.0, reloads=3)
        for type_ in ("tcp", "http"):
            await _profile(vs1, f"{type_} probes of 500", setup(10, 50, Check(type_, 2.0)), after=20.0)


async def _profile(vs1: Machine, name: str, wanted: Setup, after: Seconds, reloads: int = 0) -> None:
    file = vs1.directory / "profile"
    director = Lvsd(vs1, "--profile", str(file))
    watch = await Watch.open(vs1)
    last = wanted.services[-1]
    await director.start(wanted)
    await until(lambda: len(watch.servers(last.key)) == len(last.servers))
    await asyncio.sleep(after)
    for number in range(1, reloads + 1):
        director.configure(wanted.with_one_more(f"10.2.0.{number}"))
        director.reload()
        await asyncio.sleep(after)
    await director.stop()
    await vs1.run(["/usr/sbin/ipvsadm", "-C"])
    watch.close()
    say(f"profile of {name}:")
    sys.stdout.write(file.read_text())
