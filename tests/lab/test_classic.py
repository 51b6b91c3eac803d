"""The classic cluster: lvs_dr.conf, unchanged, with a real nginx and a real telnetd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import until

from lvsd.lab.classic import VIP
from lvsd.lab.director import DirectorProcess
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from lvsd.lab.lab import Lab

SAMPLES = Path(__file__).parents[1] / "samples"
RS1, RS2 = "192.168.0.3", "192.168.0.4"


@pytest.mark.parametrize("file", ["lvs_dr.conf", "lvs_dr.conf.as-printed"])
async def test_the_classic_cluster_runs_from_its_own_file(lab: Lab, file: str) -> None:
    vs1, client = lab.hosts["vs1"], lab.hosts["client"]
    director = await DirectorProcess.start(vs1, SAMPLES / file)
    assert weights(await vs1.read_table()) == {
        ("TCP", VIP, 23): {(RS1, 23): 1, (RS2, 23): 1},
        ("TCP", VIP, 80): {(RS1, 80): 1, (RS2, 80): 1},
    }
    assert [each.label for each in await vs1.addresses() if each.address == f"{VIP}/24"] == ["eth0:101"]
    pages = [await client.request(VIP) for _ in range(4)]
    assert sorted(pages[:2]) == ["I am real server #1\n", "I am real server #2\n"]
    assert pages[:2] == pages[2:]
    banners = [(await client.telnet(VIP)).splitlines()[-1] for _ in range(2)]
    assert sorted(banners) == ["rs1 login:", "rs2 login:"]
    for server in (RS1, RS2):
        await director.saw("health.changed", service="www", server=f"{server}:80", new="up")
        await director.saw("health.changed", service="telnet", server=f"{server}:23", new="up")


async def test_a_dead_web_server_goes_and_comes_back(lab: Lab) -> None:
    vs1, rs1, client = lab.hosts["vs1"], lab.hosts["rs1"], lab.hosts["client"]
    director = await DirectorProcess.start(vs1, SAMPLES / "lvs_dr.conf")
    await director.saw("health.changed", service="www", server=f"{RS1}:80", new="up")
    await rs1.stop("nginx")
    down = await director.saw("health.changed", service="www", server=f"{RS1}:80", new="down")
    assert down["reason"] == "connection refused"
    await director.saw("server.removed", service="www", server=f"{RS1}:80", cause="health")
    assert weights(await vs1.read_table())["TCP", VIP, 80] == {(RS2, 80): 1}
    assert weights(await vs1.read_table())["TCP", VIP, 23] == {(RS1, 23): 1, (RS2, 23): 1}
    assert {await client.request(VIP) for _ in range(3)} == {"I am real server #2\n"}
    (service,) = [each for each in rs1.host.services if each.name == "nginx"]
    await rs1.serve(service)
    await director.saw("server.added", service="www", server=f"{RS1}:80", cause="health")
    await until(lambda: _both_answer(lab))


async def _both_answer(lab: Lab) -> bool:
    pages = {await lab.hosts["client"].request(VIP) for _ in range(2)}
    return pages == {"I am real server #1\n", "I am real server #2\n"}
