"""The lab itself: real servers on a real IPVS table, every fault it can make, clients that miss nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.lab import misbehaving as m
from lvsd.lab import quick
from lvsd.lab.classic import VIP, VIP6
from lvsd.lab.kernel import LabError
from lvsd.lab.lab import Lab
from lvsd.lab.network import Host, Network
from lvsd.lab.services import Nginx
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from lvsd.lab.machine import Machine


async def direct(vs1: Machine, *addresses: str, ports: tuple[int, ...] = (80, 23)) -> None:
    """Make the classic table by hand: VIPs on eth0, round robin over rs1 and rs2 by direct routing."""
    lines = []
    for address in addresses:
        length, servers = (64, "fd00:0:0:1::") if ":" in address else (24, "192.168.0.")
        await vs1.run(["ip", "address", "add", f"{address}/{length}", "dev", "eth0"])
        for port in ports:
            service, ends = (
                (f"[{address}]:{port}", "[]") if ":" in address else (f"{address}:{port}", ("", ""))
            )
            lines.append(f"-A -t {service} -s rr")
            lines += [f"-a -t {service} -r {ends[0]}{servers}{n}{ends[1]}:{port} -g" for n in (3, 4)]
    rules = vs1.directory / "rules"
    rules.write_text("\n".join(lines) + "\n")
    await vs1.run(["sh", "-c", f"ipvsadm -R <{rules}"])


async def test_the_table_answers_the_client_from_both_web_servers_in_turn(lab: Lab) -> None:
    await direct(lab.hosts["vs1"], VIP)
    pages = [await lab.hosts["client"].request(VIP) for _ in range(4)]
    assert pages[:2] == pages[2:]
    assert sorted(pages[:2]) == ["I am real server #1\n", "I am real server #2\n"]


async def test_the_same_over_ipv6(lab: Lab) -> None:
    await direct(lab.hosts["vs1"], VIP6)
    pages = {await lab.hosts["client"].request(VIP6) for _ in range(2)}
    assert pages == {"I am real server #1\n", "I am real server #2\n"}
    assert "login:" in await lab.hosts["client"].telnet(VIP6)


async def test_telnet_through_the_vip_reaches_both_logins(lab: Lab) -> None:
    await direct(lab.hosts["vs1"], VIP)
    banners = [await lab.hosts["client"].telnet(VIP) for _ in range(2)]
    assert sorted(banner.splitlines()[-1] for banner in banners) == ["rs1 login:", "rs2 login:"]


async def test_the_table_is_read_as_it_is(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await direct(vs1, VIP, ports=(80,))
    await vs1.run(["ipvsadm", "-A", "-f", "7", "-s", "mh", "-p", "300"])
    await vs1.run(["ipvsadm", "-a", "-f", "7", "-r", "192.168.0.9:0", "-i", "-w", "5"])
    table = await vs1.read_table()
    assert table[("TCP", VIP, 80)]["servers"][("192.168.0.3", 80)] == {
        "forward": "Route", "weight": 1, "active": 0, "inactive": 0,
    }  # fmt: skip
    assert table[("FWM", "", 7)] == {
        "scheduler": "mh",
        "one_packet": False,
        "persistent": True,
        "servers": {("192.168.0.9", 0): {"forward": "Tunnel", "weight": 5, "active": 0, "inactive": 0}},
    }
    assert weights(table)[("TCP", VIP, 80)] == {("192.168.0.3", 80): 1, ("192.168.0.4", 80): 1}
    assert await bare_lab.hosts["vs2"].read_table() == {}


async def test_hosts_have_their_own_names_addresses_and_files(bare_lab: Lab) -> None:
    rs1 = bare_lab.hosts["rs1"]
    said = await rs1.run(
        ["sh", "-c", "hostname; getent hosts vs2 | head -1; echo mine >/run/lvsd/file; ls /sys/class/net"]
    )
    assert said.output.split() == ["rs1", *said.output.split()[1:3], "dummy0", "eth0", "lo"]
    assert "vs2" in said.output
    assert (rs1.directory / "run/file").read_text() == "mine\n"
    assert not (bare_lab.hosts["rs2"].directory / "run/file").exists()
    assert await rs1.has_address(VIP)
    assert ("eth0", "192.168.0.3/24") in {(each.interface, each.address) for each in await rs1.addresses()}


@pytest.mark.parametrize("fault", [Lab.cut, Lab.silence, Lab.deafen, Lab.mute])
async def test_a_host_cut_off_is_heard_again_when_mended(bare_lab: Lab, fault) -> None:  # noqa: ANN001
    await bare_lab.hosts["rs1"].misbehave(80, m.Page("I am real server #1\n"))
    client = bare_lab.hosts["client"]
    await fault(bare_lab, "rs1")
    with pytest.raises(TimeoutError):
        await client.request("192.168.0.3", timeout=0.2)
    await bare_lab.mend("rs1")
    assert await client.request("192.168.0.3") == "I am real server #1\n"


async def test_delay_and_loss_are_felt(bare_lab: Lab) -> None:
    await bare_lab.hosts["rs1"].misbehave(80, m.Page("I am real server #1\n"))
    client = bare_lab.hosts["client"]
    await bare_lab.impair("rs1", delay=0.1)
    started_at = time.monotonic()
    await client.request("192.168.0.3")
    assert time.monotonic() - started_at > 0.2  # the handshake and the question, 100 ms each
    await bare_lab.impair("rs1", loss=1.0)
    with pytest.raises(TimeoutError):
        await client.request("192.168.0.3", timeout=0.2)


async def test_the_client_records_each_failure_and_when_it_was(lab: Lab) -> None:
    client = await lab.hosts["client"].request_every(0.02, "192.168.0.3")
    await asyncio.sleep(0.5)
    killed_at = time.monotonic()
    await lab.hosts["rs1"].stop("nginx")
    await asyncio.sleep(0.3)
    back_at = time.monotonic()
    await lab.hosts["rs1"].serve(Nginx("again\n"))
    served_at = time.monotonic()
    await asyncio.sleep(0.3)
    await client.stop()
    assert not client.failures_between(0, killed_at - 0.1)
    assert client.failures_between(killed_at, back_at)
    assert not client.failures_between(served_at, time.monotonic())
    assert {failure.error for failure in client.failures} <= {
        "connection refused",
        "connection reset by peer",
        "answer cut short",
        "no HTTP answer",
    }
    assert set(client.bodies()) == {"I am real server #1", "again"}
    assert "connection refused" in client.summary()


async def test_a_client_ends_after_its_count(bare_lab: Lab) -> None:
    await bare_lab.hosts["rs1"].misbehave(80, m.Page("I am real server #1\n"))
    client = await bare_lab.hosts["client"].request_every(0.01, "192.168.0.3", count=5)
    assert len((await client.finish()).requests) == 5


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (m.Page("hello"), "hello"),
        (m.Page("hello", status=500), "HTTP 500"),
        (m.Refuse(), "connection refused"),
        (m.Hang(), "timed out"),
        (m.Reset(), "connection reset by peer"),
        (m.Close(), "no HTTP answer"),
        (m.SlowPage("hello", pause=0.5), "timed out"),
        (m.EndlessPage(), "timed out"),
        (m.Greeting("login: "), "timed out"),
    ],
)
async def test_a_server_fails_as_it_is_told(bare_lab: Lab, behaviour: m.Behaviour, expected: str) -> None:
    await bare_lab.hosts["rs1"].misbehave(80, behaviour)
    patience = 0.3 if expected == "timed out" else 5.0
    client = await bare_lab.hosts["client"].request_every(0.01, "192.168.0.3", timeout=patience, count=1)
    (request,) = (await client.finish()).requests
    assert expected in {request.body, request.error}


async def test_a_flapping_server_changes_until_told_otherwise(bare_lab: Lab) -> None:
    server = await bare_lab.hosts["rs1"].misbehave(80, m.Page("up"))
    await server.flap(m.Page("up"), m.Refuse(), 0.1)
    client = await bare_lab.hosts["client"].request_every(0.02, "192.168.0.3")
    await asyncio.sleep(0.7)
    await server.behave(m.Page("steady"))
    told_at = time.monotonic()
    await asyncio.sleep(0.3)
    await client.stop()
    assert len(client.failures) > 5
    assert client.bodies()["up"] > 5
    assert not client.failures_between(told_at, time.monotonic())


async def test_an_established_connection_lives_while_its_row_stays_out(bare_lab: Lab) -> None:
    vs1, client = bare_lab.hosts["vs1"], bare_lab.hosts["client"]
    for name in ("rs1", "rs2"):
        await bare_lab.hosts[name].misbehave(7, m.Echo())
    await direct(vs1, VIP, ports=(7,))
    async with await client.connect(VIP, 7) as session:
        assert await session.exchange("one") == "one"
        for server in ("192.168.0.3:7", "192.168.0.4:7"):
            await vs1.run(["ipvsadm", "-e", "-t", f"{VIP}:7", "-r", server, "-g", "-w", "0"])
        assert await session.exchange("two") == "two"


async def test_a_program_is_ended_with_the_lab_and_a_failed_one_says_why(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    with pytest.raises(LabError, match=r"vs1: ls /nowhere: status 2: .*No such file"):
        await vs1.run(["ls", "/nowhere"])
    process = await vs1.start(["sleep", "1000"])
    assert process.status is None
    process.terminate()
    assert await process.wait(5) == -15
    with pytest.raises(TimeoutError, match="did not say 'ready'"):
        await process.saw("ready")


def networks() -> set[str]:
    return {path.name for path in Path("/run/netns").iterdir()}


def commands() -> list[bytes]:
    return [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]


async def test_nothing_is_left_of_a_lab(bare_lab: Lab) -> None:
    directory = bare_lab.hosts["rs1"].directory
    async with asyncio.timeout(10):
        other = Lab(Network((Host("lonely", ("10.0.0.1/24",)),)))
        async with other:
            lonely = other.hosts["lonely"]
            # A daemon leaves its session, and its parent.
            await lonely.run(["sh", "-c", "setsid sleep 1234 &"])
            assert "lonely" in networks()
    assert "lonely" not in networks()
    assert b"sleep\x001234\x00" not in commands()
    assert directory.exists()
    assert not lonely.directory.exists()


async def test_a_failure_tells_what_the_hosts_said(bare_lab: Lab) -> None:
    await bare_lab.hosts["vs1"].run(["ipvsadm", "-A", "-t", f"{VIP}:80", "-s", "rr"])
    process = await bare_lab.hosts["vs2"].start(["sh", "-c", "echo the reason; exit 1"], name="failing")
    await process.wait(5)
    assert "===== vs1\n--- IPVS table\nTCP  C0A80065:0050 rr" in bare_lab.report()
    assert "===== vs2\n--- failing.0.log\nthe reason" in bare_lab.report()


async def test_a_service_that_cannot_start_says_why_and_leaves_nothing() -> None:
    network = Network((Host("lonely", ("10.0.0.1/24",), services=(Nginx("page", port=99999),)),))
    with pytest.raises(LabError, match=r"lonely: nginx takes no connections: .*invalid port"):
        async with Lab(network):
            pass
    assert "lonely" not in networks()
    assert not [command for command in commands() if b"nginx" in command]


async def test_a_quick_start_changes_nothing_else(bare_lab: Lab) -> None:
    program = (
        "import os, sys; print(os.environ['LVSD_LAB'], 'sitecustomize' in sys.modules, bytes(1 << 26) != b'')"
    )
    vs1 = bare_lab.hosts["vs1"]
    said = await vs1.run([sys.executable, "-W", "error", "-c", program], env=quick.ENVIRONMENT)
    assert said.output == "1 True True\n"
