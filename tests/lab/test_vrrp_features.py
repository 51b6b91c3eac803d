"""What two directors that share VIPs do besides the election, each story on one pair of lvsd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from telnet_session import TelnetSession, has_connection
from waiting import until

from lvsd.lab import links
from lvsd.lab.classic import VIP, VIP6
from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders
from lvsd.lab.misbehaving import Page, SlowPage
from lvsd.lab.vrrp_capture import VrrpCapture
from lvsd.state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from lvsd.events import Record
    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer
    from lvsd.lab.network import Host

ETC = Path(__file__).parents[2] / "etc"
IP, IPVSADM = "/sbin/ip", "/usr/sbin/ipvsadm"
INTERVAL = 0.6
PRIORITIES = {"vs1": 150, "vs2": 100}

SERVICES = """\
checks:
  web: {type: http, path: /, interval: 1s, timeout: 8s, fast_interval: 200ms, rise: 1, fall: 2}
virtual_services:
  www:
    address: 192.168.0.101:80
    scheduler: rr
    forward: dr
    check: web
    real_servers: [192.168.0.3, 192.168.0.4]
"""
NO_SERVICES = "virtual_services: {}\n"
Settings = dict[str, Any]


def instance(addresses: Sequence[object] = (f"{VIP}/24",), **settings: object) -> Settings:
    """Return the settings of an instance; JSON is YAML as well."""
    usual = {"interface": "eth0", "virtual_router_id": 51, "advertisement_interval": INTERVAL}
    return {**usual, "addresses": addresses, **settings}


def config(services: str, name: str, **instances: Settings) -> str:
    """Return a director's file: that of vs1 and vs2 differs in the priority alone, where none is given."""
    own = {each: {"priority": PRIORITIES[name], **settings} for each, settings in instances.items()}
    return f"{services}vrrp: {json.dumps(own)}\n"


@dataclass(slots=True)
class Pair:
    """Two directors, and who has the VIP when."""

    lab: Lab
    vs1: DirectorProcess
    vs2: DirectorProcess
    holders: Holders

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, lab: Lab, texts: Mapping[str, str], vip: str = VIP) -> AsyncIterator[Self]:
        """Start both at once, and wait until they are ready."""
        machines = [lab.hosts[name] for name in texts]
        async with Holders.of(vip, machines) as holders:
            vs1, vs2 = await asyncio.gather(*map(DirectorProcess.start, machines, texts.values()))
            yield cls(lab, vs1, vs2, holders)

    async def master_is(self, name: str, *, stays: Sequence[str] = ()) -> None:
        """Wait until a director is master and has the VIP, alone but for who `stays` with it.

        What the logs say of the two, folded, is then what they are.
        """
        await self.holders.become(name, *stays)
        for director in self.vs1, self.vs2:
            if director.process.status is None and director.machine.name not in stays:
                await until(lambda director=director: _agrees(director, name))  # type: ignore[misc]


async def _agrees(director: DirectorProcess, master: str) -> bool:
    """Tell whether a director's log says of all its instances whether it is master."""
    states = {each["state"] for each in director.state().vrrp.values()}
    return states == {"master"} if director.machine.name == master else "master" not in states


def moment(record: Record) -> float:
    """Return when a line was logged, in seconds."""
    return datetime.fromisoformat(record["ts"]).timestamp()


async def snapshot(director: DirectorProcess) -> Settings:
    """Return what a director says of its instances when it is asked for all of its state."""
    after = director.seq
    director.process.signal(signal.SIGUSR1)
    await director.saw("snapshot.end", after=after)
    alone = State()
    for record in director.lines():
        if record["seq"] > after:
            alone.fold(record)
    return alone.vrrp


async def told(director: DirectorProcess, *words: str) -> str:
    """Return what a subcommand makes of the log of a director's latest start."""
    return (await director.ask(*words, "--log", str(director.process.log))).output


async def start_on_lvs_conf(machine: Machine, priority: int) -> DirectorProcess:
    """Start lvsd on the shipped pair of files, with the priority that it says is this director's."""
    (machine.directory / "lvs_dr.conf").write_text((ETC / "lvs_dr.conf").read_text())
    own = (ETC / "vrrp_lvs_conf.yaml").read_text()
    line = "    priority: 150\n"
    assert line in own
    faster = f"    priority: {priority}\n    advertisement_interval: {INTERVAL}s\n"
    return await DirectorProcess.start(machine, own.replace(line, faster))


async def test_telnet_sessions_outlive_directors_that_share_one_lvs_conf(lab: Lab) -> None:
    machines = [lab.hosts["vs1"], lab.hosts["vs2"]]
    async with Holders.of(VIP, machines) as holders, contextlib.AsyncExitStack() as stack:
        vs1, vs2 = await asyncio.gather(*map(start_on_lvs_conf, machines, PRIORITIES.values()))
        pair = Pair(lab, vs1, vs2, holders)
        await pair.master_is("vs1")
        (vip,) = [each for each in await vs1.machine.addresses() if each.address.startswith(f"{VIP}/")]
        assert (vip.interface, vip.address, vip.label) == ("eth0", f"{VIP}/24", "eth0:101")
        await vs1.saw("sync.changed", role="master", interface="eth0")
        await vs2.saw("sync.changed", role="backup", interface="eth0")

        # A director that stops, and comes back.
        first = await stack.enter_async_context(await TelnetSession.begin(lab.hosts["client"]))
        await until(lambda: has_connection(vs2.machine, first.port))
        async with await TelnetSession.begin(lab.hosts["client"]) as young:
            await vs1.stop()
            await pair.master_is("vs2")
            assert await first.answer() == "Password:"
            # The kernel is two seconds late with it.
            assert await young.answer() == "Password:"
        assert vs1.found("sync.handover")
        await vs2.saw("sync.changed", role="master")
        await vs1.restart()
        await pair.master_is("vs1")
        assert await first.answer() == "login:"
        await vs1.saw("sync.changed", role="master")

        await sessions_of_a_split_outlive_it(pair)

        # A director that dies, and is seen no more. Its log ends where it was master.
        second = await stack.enter_async_context(await TelnetSession.begin(lab.hosts["client"]))
        await until(lambda: has_connection(vs2.machine, second.port))
        await vs1.kill()
        await lab.cut("vs1")
        await pair.master_is("vs2", stays=("vs1",))
        assert await second.answer() == "Password:"
        assert await first.answer() == "Password:"

        status = json.loads(await told(vs2, "status", "--json"))["vrrp"]["vip"]
        (changed,) = vs2.found("vrrp.changed", new="master")[-1:]
        assert (status["state"], status["addresses"], status["since"]) == (
            "master",
            [f"{VIP}/24"],
            changed["ts"],
        )
        assert vs1.state().to_json()["vrrp"]["vip"]["state"] == "master"
        explained = await told(vs2, "explain", "vip")
        assert explained.startswith(f"vip is master on vs2 since {changed['ts']}: 192.168.0.1 was not heard")
        assert f"So vs2 holds {VIP}/24." in explained
        assert "Its priority is 100." in explained

        # What the dead director has left is taken away before it is seen again.
        refused = await vs2.ask("withdraw", check=False)
        assert refused.status == 1
        assert f"process {vs2.process.pid}" in refused.output
        assert f"{VIP}/24 removed from eth0" in (await vs1.ask("withdraw")).output
        assert holders.now == {"vs2"}
        roles = [each["role"] for each in vs2.found("sync.changed")]
        assert all(one != other for one, other in pairwise(roles)), roles


async def sessions_of_a_split_outlive_it(pair: Pair) -> None:
    """Break the switch for a while, so that both are master: the one that yields hands its sessions over."""
    await pair.lab.silence("vs1")
    await pair.holders.become("vs1", "vs2")
    async with await TelnetSession.begin(pair.lab.hosts["client"]) as session:
        await until(lambda: has_connection(pair.vs2.machine, session.port))
        await pair.lab.mend("vs1")
        await pair.master_is("vs1")
        await until(lambda: has_connection(pair.vs1.machine, session.port), 10.0)
        assert await session.answer() == "Password:"


CHECK = """\
#!/bin/sh
[ -e {open}/rights ] || cat /proc/self/status >{open}/rights
while [ -e {machine}/held ]; do sleep 0.3; done
exec test -e {machine}/well
"""
NOTIFY = """\
#!/bin/sh
echo "$*" >>{open}/notified
"""


def write_scripts(machine: Machine) -> tuple[str, str]:
    """Write a command to be tracked and one to be notified, who write into a folder that is everybody's."""
    everybodys = machine.directory / "open"
    everybodys.mkdir()
    everybodys.chmod(0o777)
    (machine.directory / "well").touch()
    written = []
    for name, text in (("check", CHECK), ("notify", NOTIFY)):
        script = machine.directory / name
        script.write_text(text.format(open=everybodys, machine=machine.directory))
        script.chmod(0o755)
        written.append(str(script))
    return written[0], written[1]


def notified(machine: Machine, name: str) -> list[str]:
    """Return what was notified of an instance."""
    lines = (machine.directory / "open" / "notified").read_text().splitlines()
    return [line for line in lines if line.split()[1] == name]


def expected(director: DirectorProcess, name: str, own: Sequence[str] = ()) -> list[str]:
    """Return what is to be notified of an instance's changes: by commands of its `own` states, and `any`."""
    lines = []
    for each in director.found("vrrp.changed", instance=name):
        if each["new"] in own:
            lines.append(f"own {name} {each['new']}")
        if each["new"] != "initialize":
            lines.append(f"INSTANCE {name} {each['new'].upper()} {each['priority']}")
    return lines


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that an instance of its own tracks: what the log calls it, and what comes of its failure."""

    tracked: str
    settings: Settings
    state: str = "backup"
    priority: int = 90


def lacks(check: str) -> dict[str, Lack]:
    door = {"name": "door", "command": check, "interval": "500ms", "timeout": "60s", "rise": 2, "fall": 2}
    return {
        "needed": Lack("interface dummy1", {"interfaces": ["dummy1"]}, "fault", 150),
        "weighed": Lack("interface dummy2", {"interfaces": [{"interface": "dummy2", "weight": 60}]}),
        "served": Lack("service www", {"services": [{"service": "www", "weight": 60}]}),
        "door": Lack("command door", {"commands": [{**door, "weight": 60}]}),
    }


def tracking(notify: str, which: Mapping[str, Lack]) -> dict[str, Settings]:
    """Return an instance for each thing that is tracked."""
    return {
        name: instance(
            [f"192.168.0.10{number}/24"],
            virtual_router_id=50 + number,
            preempt_delay="500ms",
            track=lack.settings,
            notify=every_way(notify, name) if name == "needed" else notify,
        )
        for number, (name, lack) in enumerate(which.items(), start=1)
    }


OWN = ("master", "fault", "stop")


def every_way(notify: str, name: str) -> Settings:
    """Return commands for each state, of which that for backup fails, and one for all."""
    own = {state: [notify, "own", name, state] for state in OWN}
    return {**own, "backup": "/bin/false", "any": notify}


async def test_what_is_tracked_moves_vips_and_every_change_is_notified(lab: Lab) -> None:
    machines = {name: lab.hosts[name] for name in PRIORITIES}
    scripts = {name: write_scripts(machine) for name, machine in machines.items()}
    tracked = lacks(scripts["vs1"][0])
    for link in "dummy1", "dummy2":
        await machines["vs1"].do(links.add_dummy, link)
    own = tracking(scripts["vs1"][1], tracked)
    others = {
        name: {**settings, "track": None, "notify": scripts["vs2"][1]} for name, settings in own.items()
    }
    texts = {"vs1": config(SERVICES, "vs1", **own), "vs2": config(SERVICES, "vs2", **others)}
    well = machines["vs1"].directory / "well"
    write_held(machines["vs1"], held=True)
    async with Pair.start(lab, texts) as pair:
        vs1, vs2 = pair.vs1, pair.vs2
        await pair.holders.become("vs2")
        await waits_for_a_command(vs1)
        await pair.master_is("vs1")

        well.unlink()
        for link in "dummy1", "dummy2":
            await vs1.machine.do(links.set_up, link, up=False)
        for server in "rs1", "rs2":
            await lab.hosts[server].stop("nginx")
        for name, lack in tracked.items():
            failed = await vs1.saw("vrrp.tracked", instance=name, tracked=lack.tracked, well=False)
            assert (failed["priority"], failed["level"]) == (lack.priority, "warning")
            await vs1.saw("vrrp.changed", instance=name, old="master", new=lack.state)
        await pair.master_is("vs2")
        assert {name: list(each["failing"]) for name, each in vs1.state().vrrp.items()} == {
            name: [lack.tracked] for name, lack in tracked.items()
        }
        assert "It needs interface dummy1, which is not well" in await told(vs1, "explain", "needed")

        well.touch()
        for link in "dummy1", "dummy2":
            await vs1.machine.do(links.set_up, link, up=True)
        for server in "rs1", "rs2":
            await lab.hosts[server].serve(lab.hosts[server].host.services[0])
        await pair.master_is("vs1")
        assert [each["failing"] for each in vs1.state().vrrp.values()] == [{}] * len(tracked)
        assert await snapshot(vs1) == vs1.state().vrrp
        assert await snapshot(vs2) == vs2.state().vrrp

        failed = await vs1.saw("command.failed")
        assert (failed["command"], failed["reason"]) == ("/bin/false", "ended with status 1")
        told_of = {name: expected(vs1, name, OWN if name == "needed" else ()) for name in tracked}
        for name, lines in told_of.items():
            await until(lambda name=name, lines=lines: _is_notified(vs1.machine, name, lines))  # type: ignore[misc]
        await vs1.stop()
        told_of["needed"].append("own needed stop")
        for name, lines in told_of.items():
            assert notified(vs1.machine, name) == [*lines, f"INSTANCE {name} STOP 150"]
        await pair.master_is("vs2")
        for name in tracked:
            lines = expected(vs2, name)
            await until(lambda name=name, lines=lines: _is_notified(vs2.machine, name, lines))  # type: ignore[misc]


def write_held(machine: Machine, *, held: bool) -> None:
    """Let the tracked command of a host wait, or go on."""
    file = machine.directory / "held"
    file.touch() if held else file.unlink()


async def waits_for_a_command(vs1: DirectorProcess) -> None:
    """See that a director ready in all but what a command has to say leaves the VIPs where they are."""
    for server in "192.168.0.3:80", "192.168.0.4:80":
        await vs1.saw("health.changed", server=server, new="up")
    assert len(vs1.found("vrrp.waiting")) == len(vs1.state().vrrp)
    await asyncio.sleep(4 * INTERVAL)
    assert vs1.found("vrrp.changed") == []
    write_held(vs1.machine, held=False)
    began = await vs1.saw("vrrp.changed", instance="needed", old="initialize", new="backup")
    took = await vs1.saw("vrrp.changed", instance="needed", new="master")
    assert moment(took) - moment(began) >= 0.5
    rights = (vs1.machine.directory / "open" / "rights").read_text()
    said = dict(line.split(":\t") for line in rights.splitlines())
    assert "0" not in said["Uid"].split()
    assert {int(said[each], 16) for each in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


async def _is_notified(machine: Machine, name: str, lines: Sequence[str]) -> bool:
    return notified(machine, name) == lines


MORE, POST = "192.168.0.102", "192.168.0.103"
USUAL = {"vip": instance(), "mail": instance([f"{POST}/24"], virtual_router_id=52)}
SLOW = {name: {**settings, "advertisement_interval": 2} for name, settings in USUAL.items()}
WIDER = {**USUAL["vip"], "advertisement_interval": 0.5, "addresses": [f"{VIP}/24", f"{MORE}/24"]}


async def test_reloads_and_crashes_move_no_vip_that_may_stay(bare_lab: Lab) -> None:
    servers = [await bare_lab.hosts[each].misbehave(80, Page()) for each in ("rs1", "rs2")]
    texts = {name: config(SERVICES, name, **USUAL) for name in PRIORITIES}
    async with Pair.start(bare_lab, texts) as pair, VrrpCapture.of(bare_lab) as capture:
        await pair.master_is("vs1")
        requests = await bare_lab.hosts["client"].request_every(0.05, VIP)
        held, last = list(pair.holders.history), pair.vs2.seq
        await reloads_leave_the_vip(pair, capture)
        await a_restart_at_once_resumes(pair, capture)
        await requests.stop()
        assert requests.failures == (), requests.summary()
        assert pair.holders.history == held, pair.holders.story()
        assert pair.vs2.found("vrrp.changed", after=last, instance="vip") == []
        await a_restart_too_late_drops_the_vips_first(pair, capture)
        await who_cannot_serve_yet_waits(pair, servers)


async def reloads_leave_the_vip(pair: Pair, capture: VrrpCapture) -> None:
    """Change priority and interval, add a VIP and take it away, an instance too; then try a broken file."""
    vs1, vs2 = pair.vs1, pair.vs2
    last = vs1.seq
    wider = {**WIDER, "priority": 160}
    await vs1.reload(config(SERVICES, "vs1", vip=wider, mail=USUAL["mail"]))
    await has(vs1, MORE)
    await until(lambda: _last_said(capture, 160, 0.5, 2))
    await vs2.reload(config(SERVICES, "vs2", vip=WIDER, mail=USUAL["mail"]))
    await vs1.reload(config(SERVICES, "vs1", vip=wider))
    await has(vs2, POST)
    await has(vs1, POST, whether=False)
    assert "mail" not in await snapshot(vs1)
    assert "mail" not in vs1.state().vrrp

    rejected = await vs1.reload(config(SERVICES, "vs1", vip={**wider, "priority": 0}))
    assert rejected["event"] == "config.rejected"
    assert "vrrp.vip.priority: " in rejected["mistakes"][0]
    assert await vs1.machine.has_address(MORE)

    for director in vs1, vs2:
        await director.reload(config(SERVICES, director.machine.name, **SLOW))
    await has(vs1, MORE, whether=False)
    await has(vs1, POST)
    await has(vs2, POST, whether=False)
    await until(lambda: _last_said(capture, 150, 2, 1))
    assert vs1.found("vrrp.changed", after=last, instance="vip") == []


async def a_restart_at_once_resumes(pair: Pair, capture: VrrpCapture) -> None:
    """Kill the master, and start it before the other takes over: it goes on as if nothing had been."""
    vs1, last = pair.vs1, pair.vs2.seq
    await vs1.kill()
    killed_at = time.monotonic()
    await vs1.begin()
    for name in USUAL:
        resumed = await vs1.saw("vrrp.changed", new="master", instance=name)
        assert resumed["old"] == "initialize"
    await vs1.saw("health.changed", server="192.168.0.4:80", new="up")
    await asyncio.sleep(2)
    assert capture.sources(killed_at) == {"192.168.0.1"}
    assert vs1.found("address.removed") == []
    assert pair.vs2.found("vrrp.changed", after=last) == []


async def a_restart_too_late_drops_the_vips_first(pair: Pair, capture: VrrpCapture) -> None:
    """Kill the master, and start it once the other has its VIPs."""
    vs1 = pair.vs1
    for director in vs1, pair.vs2:
        await director.reload(config(SERVICES, director.machine.name, **USUAL))
    await until(lambda: _last_said(capture, 150, INTERVAL, 1))
    await vs1.kill()
    await pair.master_is("vs2", stays=("vs1",))
    await vs1.begin()
    dropped_at = time.time() - time.monotonic() + await pair.holders.become("vs2")
    await pair.master_is("vs1")
    for name in USUAL:
        assert [each["new"] for each in vs1.found("vrrp.changed", instance=name)] == ["backup", "master"]
    others = [*vs1.found("health.changed"), *vs1.found("vrrp.changed"), *vs1.found("server.added")]
    assert dropped_at < min(map(moment, others))


async def who_cannot_serve_yet_waits(pair: Pair, servers: Sequence[MisbehavingServer]) -> None:
    """Start the director of the higher priority with an empty table and servers that answer late."""
    vs1, pause = pair.vs1, 0.7
    await vs1.stop()
    await pair.master_is("vs2")
    await vs1.machine.run([IPVSADM, "-C"])
    for server in servers:
        await server.behave(SlowPage(pause=pause))
    started_at = time.monotonic()
    await vs1.begin()
    await vs1.saw("vrrp.changed", new="master", instance="vip")
    await pair.master_is("vs1")
    joined = vs1.found("vrrp.changed", new="backup", instance="vip")[0]
    before = [*vs1.found("health.changed", new="up"), *vs1.found("server.added")]
    assert len(before) == 2 * len(servers), before
    assert max(each["seq"] for each in before) < joined["seq"]
    assert pair.holders.history[-1].at - started_at > 3 * pause
    assert pair.vs2.found("health.changed", new="down") == []


async def has(director: DirectorProcess, address: str, *, whether: bool = True) -> None:
    """Wait until a director's host has an address, or has it no more."""
    async with asyncio.timeout(30):
        while await director.machine.has_address(address) is not whether:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def _last_said(capture: VrrpCapture, priority: int, interval: float, addresses: int) -> bool:
    said = capture.last(vrid=51)
    return said is not None and (said.priority, said.interval, len(said.addresses)) == (
        priority,
        interval,
        addresses,
    )


LINK_LOCAL, INNER = "fe80::101", "fd00:9::1"
BOTH_FAMILIES = {
    "four": instance(
        [{"address": f"{VIP}/24", "label": "eth0:101"}, f"{MORE}/32"],
        excluded_addresses=[f"{VIP6}/64", {"address": f"{INNER}/64", "interface": "dummy1"}],
        sync_group="lan",
    ),
    "six": instance([f"{LINK_LOCAL}/64", "fd00:0:0:1::102/64"], sync_group="lan"),
}
SHOWN = {
    ("eth0", f"{VIP}/24", "eth0:101"),
    ("eth0", f"{MORE}/32", "eth0"),
    ("eth0", f"{VIP6}/64", "eth0"),
    ("eth0", "fd00:0:0:1::102/64", "eth0"),
    ("dummy1", f"{INNER}/64", "dummy1"),
}


async def test_a_vip_in_no_network_of_its_interface_is_noted_by_master_and_backup(bare_lab: Lab) -> None:
    texts = {name: config(NO_SERVICES, name, odd=instance(["10.9.9.9/24"])) for name in PRIORITIES}
    noted = r"lvsd.yaml:\d+:\d+: vrrp.odd.addresses\[0\]: note: 10.9.9.9/24 is in no network of eth0 \("
    async with Pair.start(bare_lab, texts) as pair:
        await pair.vs1.saw("vrrp.changed", new="master")
        for director in (pair.vs1, pair.vs2):
            await director.reload()
            notes = [each["notes"] for each in director.found("config.loaded")]
            assert [[bool(re.search(noted, note)) for note in each] for each in notes] == [[True], [True]]
        assert pair.vs1.found("address.misplaced", address="10.9.9.9/24")


async def test_vips_of_both_families_come_back_with_their_interface(bare_lab: Lab) -> None:
    for name in PRIORITIES:
        await bare_lab.hosts[name].do(links.add_dummy, "dummy1")
    texts = {name: config(NO_SERVICES, name, **BOTH_FAMILIES) for name in PRIORITIES}
    async with Pair.start(bare_lab, texts) as pair:
        vs1, machine = pair.vs1, pair.vs1.machine
        await all_are_with("vs1", pair)
        assert not vs1.found("address.misplaced")

        # The kernel drops IPv6 addresses with the link. It's not the instance's own.
        last = vs1.seq
        await machine.do(links.set_up, "dummy1", up=False)
        await vs1.saw("address.removed", address=f"{INNER}/64", cause="drift")
        await machine.do(links.set_up, "dummy1", up=True)
        await all_are_with("vs1", pair)
        assert vs1.found("vrrp.changed", after=last) == []

        await machine.do(links.set_up, "eth0", up=False)
        await all_are_with("vs2", pair)
        await machine.do(plug_in, machine.host)
        await all_are_with("vs1", pair)

        # Under another name it is another interface, which has nothing to do with VIPs.
        await rename(machine, "eth0", "lan0")
        await all_are_with("vs2", pair)
        await rename(machine, "lan0", "eth0")
        await machine.do(plug_in, machine.host)
        await all_are_with("vs1", pair)

        await machine.run([IP, "link", "delete", "eth0"])
        await all_are_with("vs2", pair)
        assert {each["state"] for each in vs1.state().vrrp.values()} == {"fault"}
        await bare_lab.switch.do(links.add_cable, "again", "lan", "eth0", machine.residence.thread_id)
        await machine.do(plug_in, machine.host)
        await all_are_with("vs1", pair)
        assert await snapshot(vs1) == vs1.state().vrrp

        # And on the only director that there is.
        await pair.vs2.stop()
        await machine.do(links.set_up, "eth0", up=False)
        await pair.holders.become()
        await machine.do(plug_in, machine.host)
        await all_are_with("vs1", pair)


async def test_a_vip_that_the_kernel_refuses_goes_to_the_other_director(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    disabled = Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    await vs1.do(disabled.write_text, "1")
    texts = {
        name: config(NO_SERVICES, name, vip=instance(excluded_addresses=[f"{VIP6}/64"]))
        for name in PRIORITIES
    }
    async with Pair.start(bare_lab, texts) as pair:
        await pair.vs1.saw("address.refused", address=f"{VIP6}/64")
        await pair.master_is("vs2")
        refusal = f"cannot add {VIP6}/64 on eth0: IPv6 is disabled there"
        (found,) = pair.vs1.found("vrrp.tracked", tracked=f"address {VIP6}", well=False)
        assert (found["reason"], found["priority"]) == (f"address {VIP6}: {refusal}", 1)
        needs = f"It needs address {VIP6}, which is not well: {refusal}."
        assert needs in await told(pair.vs1, "explain", "vip")
        assert await snapshot(pair.vs1) == pair.vs1.state().vrrp

        await vs1.do(disabled.write_text, "0")
        await pair.master_is("vs1")
        assert ("eth0", f"{VIP6}/64", "eth0") in await shown(vs1)
        assert pair.vs1.state().vrrp["vip"]["failing"] == {}


async def all_are_with(name: str, pair: Pair) -> None:
    """Wait until a director is master and has all VIPs, as they are to be shown, and the other has none."""
    await pair.master_is(name)
    for director in pair.vs1, pair.vs2:
        wanted = SHOWN if director.machine.name == name else set()
        with contextlib.suppress(TimeoutError):
            await until(lambda director=director, wanted=wanted: _shows(director.machine, wanted), 15.0)  # type: ignore[misc]
        assert await shown(director.machine) == wanted
    listed = await pair.lab.hosts[name].run([IP, "-6", "address", "show", "dev", "eth0"])
    assert f" {LINK_LOCAL}/64 " in listed.output


async def _shows(machine: Machine, wanted: set[tuple[str, str, str]]) -> bool:
    return await shown(machine) == wanted


async def shown(machine: Machine) -> set[tuple[str, str, str]]:
    """Return the interface, address and label of what a host has beside its own addresses."""
    return {
        (each.interface, each.address, each.label)
        for each in await machine.addresses()
        if each.address not in machine.host.addresses
    }


async def rename(machine: Machine, old: str, new: str) -> None:
    """Give an interface another name, in no time: it must be down meanwhile."""
    batch = machine.directory / "rename"
    batch.write_text(f"link set {old} down\nlink set {old} name {new}\nlink set {new} up\n")
    await machine.run([IP, "-batch", str(batch)])


def plug_in(host: Host) -> None:
    """Bring eth0 up, with those of its own addresses that the kernel has dropped."""
    links.set_up("eth0", up=True)
    there = {each.address for each in links.addresses()}
    for address in set(host.addresses) - there:
        links.add_address("eth0", address)
