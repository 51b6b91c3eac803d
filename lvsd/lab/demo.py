"""`make demo`: the classic cluster from lvs_dr.conf on a real IPVS kernel, then with a second director.

Every step checks what it tells; the demo ends with status 1 at the first that comes out otherwise.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd.lab.classic import VIP, classic
from lvsd.lab.demo_failover import failover
from lvsd.lab.director import DirectorProcess
from lvsd.lab.kernel import LabError
from lvsd.lab.lab import Lab
from lvsd.lab.narration import DemoError, answered, check, say, tell, until
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from lvsd.lab.client import HttpClient
    from lvsd.lab.machine import Machine

CONFIG = Path(__file__).parents[2] / "etc" / "lvs_dr.conf"
OWN = CONFIG.with_name("vrrp_lvs_conf.yaml")
RS1, RS2, RS3 = (f"192.168.0.{number}" for number in (3, 4, 5))
PAGES = [f"I am real server #{number}\n" for number in (1, 2)]
BETWEEN_REQUESTS = 0.05


def main() -> int:
    """Run the demo; return 0 where every step came out as told."""
    began = time.monotonic()
    try:
        asyncio.run(_demo(CONFIG.read_text(), OWN.read_text()))
    except (DemoError, LabError, TimeoutError, OSError) as error:
        print(f"\nNOT AS TOLD: {error}", file=sys.stderr)
        return 1
    print(f"\nEvery step came out as told, in {time.monotonic() - began:.0f} s.")
    return 0


async def _demo(text: str, own: str) -> None:
    say(
        "A network on a real IPVS kernel",
        "client 192.168.0.200, director vs1 .1, real servers rs1 .3, rs2 .4",
    )
    async with Lab(classic()) as lab:
        hosts = lab.hosts
        vs1, client = hosts["vs1"], hosts["client"]
        director = await _start(vs1, text)
        await _show_table(director)
        await _ask_both(client)
        await _kill_nginx(director, hosts["rs1"], client)
        await _bring_back(director, hosts["rs1"])
        await _reload(director, text, client)
        await _crash(director, client)
        await _tell_the_log(director)
        await director.stop()
        await vs1.run(["ip", "address", "flush", "dev", "eth0", "label", "eth0:101"])
        await failover(lab, text, own)


async def _start(vs1: Machine, text: str) -> DirectorProcess:
    say("lvsd starts on lvs_dr.conf, as configure-lvs wrote it", *text.splitlines())
    director = await DirectorProcess.start(vs1, text, file=CONFIG.name)
    ready = director.found("director.ready")[0]
    tell(
        f"ready after {ready['seconds']:.1f} s: {ready['services']} services, {ready['servers']} real servers"
    )
    for service in ("telnet", "www"):
        for server in (RS1, RS2):
            await director.saw("health.changed", service=service, host=_host(server), new="up")
    tell("all four probes say: up")
    return director


async def _show_table(director: DirectorProcess) -> None:
    say("The kernel's table, as ipvsadm -Ln shows it")
    shown = await director.machine.run(["ipvsadm", "-Ln"])
    tell(*shown.output.rstrip().splitlines())
    expected = {("TCP", VIP, port): {(RS1, port): 1, (RS2, port): 1} for port in (23, 80)}
    check(weights(await director.machine.read_table()) == expected, "the table is not the one of lvs_dr.conf")
    held = [each.label for each in await director.machine.addresses() if each.address.startswith(f"{VIP}/")]
    check(held == ["eth0:101"], f"the VIP is not on eth0:101 but on {held}")
    tell(f"and the VIP {VIP} is on {held[0]}")


async def _ask_both(client: Machine) -> None:
    say("The client asks, and rr answers in turn")
    pages = [await client.request(VIP) for _ in range(4)]
    tell(*(f"GET http://{VIP}/  ->  {page.strip()}" for page in pages))
    check(sorted(pages[:2]) == PAGES and pages[:2] == pages[2:], "the two servers do not alternate")
    logins = [(await client.telnet(VIP)).splitlines()[-1] for _ in range(2)]
    tell(*(f"telnet {VIP}  ->  {login}" for login in logins))
    check(sorted(logins) == ["rs1 login:", "rs2 login:"], "telnet does not reach both logins")


async def _kill_nginx(director: DirectorProcess, rs1: Machine, client: Machine) -> None:
    say("nginx on rs1 is killed while the client asks 20 times a second")
    asking = await client.request_every(BETWEEN_REQUESTS, VIP)
    await answered(asking, 20)
    killed_at = time.monotonic()
    await rs1.stop("nginx")
    await until(lambda: _rows_are(director, RS2), "the row of rs1 did not go")
    gone_at = time.monotonic()
    tell(f"its row was gone after {(gone_at - killed_at) * 1000:.0f} ms")
    await answered(asking, 40)
    await asking.stop()
    during, after = asking.failures_between(killed_at, gone_at), _failures_from(asking, gone_at)
    tell(f"{len(during)} requests met the dead server before that, {len(after)} of the next ones failed")
    check(not after, f"requests failed after the row was gone: {after[:3]}")


async def _bring_back(director: DirectorProcess, rs1: Machine) -> None:
    say("nginx on rs1 is back")
    (nginx,) = [service for service in rs1.host.services if service.name == "nginx"]
    began = time.monotonic()
    await rs1.serve(nginx)
    await until(lambda: _rows_are(director, RS1, RS2), "the row of rs1 did not come back")
    tell(f"and in the table after {(time.monotonic() - began) * 1000:.0f} ms, two good probes later")


async def _reload(director: DirectorProcess, text: str, client: Machine) -> None:
    say("A reload adds rs3 to www")
    asking = await client.request_every(BETWEEN_REQUESTS, VIP)
    new = text.replace("rs1:www rs2:www", "rs1:www rs2:www rs3:www")
    plan = director.config.with_suffix(".new")
    plan.write_text(new)
    planned = await director.ask("plan", "-c", str(plan))
    tell("lvsd plan says:", *planned.output.rstrip().splitlines())
    loaded = await director.reload(new)
    check(loaded["event"] == "config.loaded", f"the reload was refused: {loaded}")
    await until(lambda: _rows_are(director, RS1, RS2, RS3), "rs3 did not join")
    await answered(asking, 30)
    await asking.stop()
    tell(f"rs3 is in; answers meanwhile: {asking.summary()}")
    check(not asking.failures, "requests failed during the reload")
    check(any("#3" in page for page in asking.bodies()), "rs3 never answered")


async def _crash(director: DirectorProcess, client: Machine) -> None:
    say("lvsd is killed with kill -9 while the client asks, and started again")
    asking = await client.request_every(BETWEEN_REQUESTS, VIP)
    await answered(asking, 10)
    before = weights(await director.machine.read_table())
    await director.kill()
    check(weights(await director.machine.read_table()) == before, "the table changed with lvsd's death")
    tell("it is dead; the table is as it was")
    await answered(asking, 20)
    await director.restart()
    tell(f"it is back after {director.found('director.ready')[0]['seconds']:.1f} s and has adopted the table")
    await answered(asking, 20)
    await asking.stop()
    changed = director.found("service.added") + director.found("server.removed")
    check(weights(await director.machine.read_table()) == before, "the table changed with lvsd's return")
    check(not changed, f"lvsd changed rows at its start: {changed[:3]}")
    check(not asking.failures, f"requests were lost: {asking.failures[:3]}")
    tell(f"{len(asking.requests)} requests, not one lost")


async def _tell_the_log(director: DirectorProcess) -> None:
    say("The log's own account of it")
    untold = ("snapshot.", "director.ready", "config.changed")
    for record in director.lines(whole=True):
        if not record["event"].startswith(untold):
            tell(_line(record))
    state = director.state()
    check(state.complete, "the log has a gap")
    folded = {server for key, rows in state.rows.items() if key[1].endswith(":80") for server in rows.servers}
    check(folded == {f"{server}:80" for server in (RS1, RS2, RS3)}, f"the folded log says {folded}")
    log = director.machine.directory / "all.log"
    log.write_bytes(b"".join(process.log.read_bytes() for process in director.processes))
    status = await director.ask("status", "--log", str(log))
    tell("", "lvsd status, from that log:", *status.output.rstrip().splitlines())


def _line(record: dict[str, object]) -> str:
    fields = ("service", "server", "host", "new", "reason", "weight", "cause", "address", "interface", "rows")
    told = " ".join(f"{field}={record[field]!s}" for field in fields if record.get(field) not in {None, ""})
    return f"{str(record['ts'])[11:23]} {record['level']!s:<7} {record['event']!s:<16} {told}"


async def _rows_are(director: DirectorProcess, *servers: str) -> bool:
    table = weights(await director.machine.read_table())
    return table.get(("TCP", VIP, 80)) == {(server, 80): 1 for server in servers}


def _failures_from(asking: HttpClient, begin: float) -> list[object]:
    return [request for request in asking.failures if request.started_at > begin]


def _host(address: str) -> str:
    return f"rs{int(address.rpartition('.')[2]) - 2}"


if __name__ == "__main__":
    raise SystemExit(main())
