"""What `lvsd plan` says of the VIPs is what a person may type, and what lvsd then does."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from waiting import until

from lvsd.lab.classic import VIP, VIP6
from lvsd.lab.director import DirectorProcess, command

if TYPE_CHECKING:
    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine

BASE = f"""\
director:
  addresses:
    - {{address: {VIP}/24, interface: eth0, label: "eth0:101"}}
    - {{address: "{VIP6}/64", interface: eth0}}
ipvs: {{on_stop: remove}}
virtual_services:
  www: {{address: "{VIP}:80", check: none, real_servers: [rs1]}}
"""
ROWS = [f"ipvsadm -A -t {VIP}:80 -s wlc", f"ipvsadm -a -t {VIP}:80 -r 192.168.0.3:80 -g -w 1"]
VIPS = [
    f"ip address add {VIP}/24 dev eth0 label eth0:101 noprefixroute",
    f"ip address add {VIP6}/64 dev eth0 nodad preferred_lft 0 noprefixroute",
]


async def planned(vs1: Machine, text: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines of `lvsd plan` for `text`."""
    file = vs1.directory / "planned.yaml"
    file.write_text(text)
    done = await vs1.run(command("plan", "--detailed-exitcode", "-c", str(file)), check=False)
    return done.status, done.output.splitlines()


async def shown(vs1: Machine) -> list[str]:
    """Return the addresses of eth0 as `ip` shows them."""
    told = await vs1.run(["/sbin/ip", "-o", "address", "show", "dev", "eth0"])
    return sorted(line.split("eth0", 1)[1].strip() for line in told.output.splitlines())


async def test_a_plan_for_an_empty_host_ends_with_the_vips(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    assert await planned(vs1, BASE) == (2, [*ROWS, *VIPS, "# 4 changes"])
    for line in (*ROWS, *VIPS):
        program, *words = shlex.split(line)
        await vs1.run([f"/sbin/{program}", *words])
    by_hand = await shown(vs1)
    assert await planned(vs1, BASE) == (0, ["# 0 changes"])
    director = await DirectorProcess.start(vs1, BASE)
    await director.stop()
    assert await planned(vs1, BASE) == (2, [*ROWS, *VIPS, "# 4 changes"])
    await director.restart()
    assert await shown(vs1) == by_hand


async def test_a_plan_says_the_vips_that_a_reload_moves_and_then_moves_them(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    director = await DirectorProcess.start(vs1, BASE)
    other = '\n    - {address: 192.168.0.102/32, interface: "eth9"}'
    new = BASE.replace("eth0:101", "eth0:1").replace(
        f'\n    - {{address: "{VIP6}/64", interface: eth0}}', other
    )
    moves = [
        f"ip address del {VIP}/24 dev eth0",
        f"ip address add {VIP}/24 dev eth0 label eth0:1 noprefixroute",
        "ip address add 192.168.0.102/32 dev eth9    # there is no interface eth9",
        f"ip address del {VIP6}/64 dev eth0",
    ]
    assert await planned(vs1, new) == (2, [*moves, "# 4 changes"])
    after = director.seq
    await director.reload(new)
    await until(lambda: _has(director, after, 4))
    told = [
        f"{each['event'].removeprefix('address.')} {each['address']}"
        for each in director.lines()
        if each["seq"] > after and each["event"].startswith("address.")
    ]
    assert told == [f"removed {VIP}/24", f"added {VIP}/24", "refused 192.168.0.102/32", f"removed {VIP6}/64"]
    assert await planned(vs1, new) == (2, [moves[2], "# 1 change"])


async def test_a_vip_that_was_changed_while_lvsd_was_away_is_replaced_at_its_start(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    director = await DirectorProcess.start(vs1, BASE.replace("remove", "keep"))
    await director.stop()
    new = BASE.replace("eth0:101", "eth0:1")
    moves = [
        f"ip address del {VIP}/24 dev eth0",
        f"ip address add {VIP}/24 dev eth0 label eth0:1 noprefixroute",
    ]
    assert await planned(vs1, new) == (2, [*moves, "# 2 changes"])
    director.config.write_text(new)
    await director.restart()
    assert await planned(vs1, new) == (0, ["# 0 changes"])
    assert [each.label for each in await vs1.addresses() if each.address == f"{VIP}/24"] == ["eth0:1"]


async def test_another_scope_replaces_a_vip(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    base = BASE.replace(f"{VIP}/24", f"{VIP}/32")
    director = await DirectorProcess.start(vs1, base)
    new = base.replace('"eth0:101"}', '"eth0:101", scope: link}')
    moves = [
        f"ip address del {VIP}/32 dev eth0",
        f"ip address add {VIP}/32 dev eth0 label eth0:101 scope link noprefixroute",
    ]
    assert await planned(vs1, new) == (2, [*moves, "# 2 changes"])
    await director.reload(new)
    await until(lambda: _is_shown(vs1, f"inet {VIP}/32 scope link"))
    assert await planned(vs1, new) == (0, ["# 0 changes"])


async def _is_shown(vs1: Machine, start: str) -> bool:
    return any(line.startswith(start) for line in await shown(vs1))


async def _has(director: DirectorProcess, after: int, count: int) -> bool:
    return (
        sum(each["event"].startswith("address.") for each in director.lines() if each["seq"] > after) >= count
    )
