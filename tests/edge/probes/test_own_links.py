from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest
from misbehaving import LOOPBACK, ip, refusing, tcp

from lvsd.edge.interfaces import AddressChange, Attached, Interfaces, LinkState, Network
from lvsd.edge.links import Links
from lvsd.edge.probes import Probes
from lvsd.errors import KernelError
from lvsd.health.outcome import Outcome
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable

UP, DOWN, NO_CARRIER = LinkState.UP, LinkState.DOWN, LinkState.NO_CARRIER
ETH0, ETH1 = 2, 3
ON_ETH0, BEHIND_ETH0 = Address.parse("192.168.0.3"), Address.parse("10.2.0.3")


def network(text: str) -> Network:
    address, _, prefix = text.partition("/")
    return Network.of(Address.parse(address), int(prefix))


def attached(index: int, text: str) -> Attached:
    address, _, prefix = text.partition("/")
    return Attached(index, Address.parse(address), int(prefix), network(text))


@pytest.fixture
def interfaces() -> Interfaces:
    """eth0 with the real servers' network and a way to more, eth1 with the way to everywhere else."""
    interfaces = Interfaces()
    interfaces.set_link(ETH0, "eth0", UP, 0.0)
    interfaces.set_link(ETH1, "eth1", UP, 0.0)
    interfaces.add_address(attached(ETH0, "192.168.0.1/24"))
    interfaces.add_address(attached(ETH0, "192.168.0.101/32"))
    interfaces.add_address(attached(ETH1, "198.51.100.1/24"))
    interfaces.set_routes(
        {
            ETH0: {network("192.168.0.0/24"), network("10.2.0.0/16"), network("2001:db8::/64")},
            ETH1: {network("198.51.100.0/24"), network("0.0.0.0/0")},
        }
    )
    return interfaces


@pytest.mark.parametrize(
    ("state", "address", "reason"),
    [
        (UP, "192.168.0.3", None),
        (DOWN, "192.168.0.3", "eth0 is down"),
        (NO_CARRIER, "192.168.0.3", "eth0 has no carrier"),
        (DOWN, "10.2.0.3", "eth0 is down"),
        (DOWN, "2001:db8::3", "eth0 is down"),
        (DOWN, "2001:db8:1::3", None),
        (DOWN, "198.51.100.3", None),
        (DOWN, "8.8.8.8", None),
    ],
)
def test_what_lies_behind_an_interface_is_impeded_while_it_is_out(
    interfaces: Interfaces, state: LinkState, address: str, reason: str | None
) -> None:
    interfaces.set_link(ETH0, "eth0", state, 5.0)
    assert interfaces.impeded(Address.parse(address), 4.0) == reason
    assert interfaces.impeded(Address.parse(address), 9.0) == reason


def test_default_route_is_the_way_to_all_that_has_no_other(interfaces: Interfaces) -> None:
    interfaces.set_link(ETH1, "eth1", DOWN, 5.0)
    assert interfaces.impeded(Address.parse("8.8.8.8"), 6.0) == "eth1 is down"
    assert interfaces.impeded(ON_ETH0, 6.0) is None


def test_probe_that_was_under_way_in_an_outage_stays_excused(interfaces: Interfaces) -> None:
    interfaces.set_link(ETH0, "eth0", NO_CARRIER, 5.0)
    interfaces.set_link(ETH0, "eth0", UP, 6.0)
    interfaces.set_routes({})
    assert interfaces.impeded(ON_ETH0, 5.5) == "eth0 has no carrier"
    assert interfaces.impeded(BEHIND_ETH0, 5.5) == "eth0 has no carrier"
    assert interfaces.impeded(ON_ETH0, 6.0) is None


def test_routes_that_vanish_with_the_interface_are_remembered(interfaces: Interfaces) -> None:
    interfaces.set_link(ETH0, "eth0", DOWN, 5.0)
    interfaces.remove_address(attached(ETH0, "192.168.0.1/24"))
    interfaces.set_routes({ETH1: {network("0.0.0.0/0")}})
    assert interfaces.impeded(ON_ETH0, 6.0) == "eth0 is down"
    assert interfaces.impeded(BEHIND_ETH0, 6.0) == "eth0 is down"


def test_routes_that_vanish_while_it_is_up_are_forgotten(interfaces: Interfaces) -> None:
    interfaces.set_routes({ETH0: {network("192.168.0.0/24")}})
    interfaces.set_link(ETH0, "eth0", DOWN, 5.0)
    assert interfaces.impeded(BEHIND_ETH0, 6.0) is None


def test_second_way_to_the_same_network_leaves_it_open(interfaces: Interfaces) -> None:
    interfaces.add_address(attached(ETH1, "192.168.0.2/24"))
    interfaces.set_link(ETH0, "eth0", DOWN, 5.0)
    assert interfaces.impeded(ON_ETH0, 6.0) is None
    interfaces.set_link(ETH1, "eth1", DOWN, 5.0)
    assert interfaces.impeded(ON_ETH0, 6.0) is not None


def test_interface_that_is_gone_is_no_outage(interfaces: Interfaces) -> None:
    interfaces.set_link(ETH0, "eth0", DOWN, 5.0)
    interfaces.remove_link(ETH0)
    assert interfaces.impeded(ON_ETH0, 6.0) is None
    assert interfaces.state("eth0") is LinkState.MISSING


async def eventually(promise: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not promise():  # noqa: ASYNC110 - what netlink tells has no event here
            await asyncio.sleep(0.005)


@pytest.fixture
def cable(own_network: None) -> None:  # noqa: ARG001
    """Give this host eth0, whose cable is the link `cable`, and routes through it."""
    ip("link add eth0 type veth peer name cable")
    ip("address add 192.168.0.1/24 dev eth0")
    ip("address add 2001:db8::1/64 dev eth0 nodad")
    ip("link set cable up")
    ip("link set eth0 up")
    ip("route add 10.2.0.0/16 via 192.168.0.254")
    ip("route add 10.3.0.0/16 nexthop via 192.168.0.253 nexthop via 192.168.0.254")


SERVERS = [Address.parse(text) for text in ("192.168.0.3", "2001:db8::3", "10.2.0.3", "10.3.0.3")]


@pytest.mark.usefixtures("cable")
async def test_interface_that_goes_down_and_comes_back() -> None:
    loop = asyncio.get_running_loop()
    async with Links() as links:
        assert links.state("eth0") is UP
        assert links.impeded(SERVERS[0], loop.time()) is None
        ip("link set eth0 down")
        await eventually(lambda: links.state("eth0") is DOWN)
        during = loop.time()
        assert {links.impeded(server, during) for server in SERVERS} == {"eth0 is down"}
        ip("link set eth0 up")
        await eventually(lambda: links.state("eth0") is UP)
        assert {links.impeded(server, loop.time()) for server in SERVERS} == {None}
        assert links.impeded(SERVERS[0], during) is not None


@pytest.mark.usefixtures("cable")
async def test_cable_that_is_pulled() -> None:
    async with Links() as links:
        ip("link set cable down")
        await eventually(lambda: links.state("eth0") is NO_CARRIER)
        now = asyncio.get_running_loop().time()
        assert {links.impeded(server, now) for server in SERVERS} == {"eth0 has no carrier"}


@pytest.mark.usefixtures("cable")
async def test_probe_through_a_pulled_cable_is_local() -> None:
    async with Links() as links:
        ip("link set cable down")
        await eventually(lambda: links.state("eth0") is NO_CARRIER)
        probes = Probes(links.impeded)
        assert await probes.probe(tcp(timeout=0.2), SERVERS[0], 80) == Outcome.local("eth0 has no carrier")
        with refusing() as port:
            assert await probes.probe(tcp(), LOOPBACK, port) == Outcome.failed("connection refused")
        await probes.close()


@pytest.mark.usefixtures("cable")
async def test_routes_of_later_are_learnt() -> None:
    async with Links() as links:
        ip("address add 198.51.100.1/24 dev eth0")
        ip("route add 10.4.0.0/16 via 192.168.0.254")
        # Routes are read when nothing has moved for a while; there is no other sign of it.
        await asyncio.sleep(1.0)
        ip("link set eth0 down")
        await eventually(lambda: links.state("eth0") is DOWN)
        assert links.impeded(Address.parse("10.4.0.3"), asyncio.get_running_loop().time()) == "eth0 is down"


@pytest.mark.usefixtures("own_network")
async def test_addresses_that_come_and_go_are_told() -> None:
    told: list[AddressChange] = []
    vip = Address.parse("192.168.0.101")
    async with Links(told.append):
        assert AddressChange(True, LOOPBACK, 8, "lo") in told  # noqa: FBT003
        del told[:]
        ip("address add 192.168.0.101/24 dev lo")
        ip("address del 192.168.0.101/24 dev lo")
        await eventually(lambda: len(told) == 2)
    assert told == [AddressChange(added, vip, 24, "lo") for added in (True, False)]


@pytest.mark.usefixtures("own_network")
async def test_events_that_were_lost_are_made_up_for() -> None:
    told: list[AddressChange] = []
    commands = "".join(f"address add 10.{n // 250}.{n % 250}.1/32 dev lo\n" for n in range(8000))
    async with Links(told.append) as links:
        ip("link add eth0 type veth peer name cable")
        # The loop stands still meanwhile, so that the kernel has nowhere to put all the events.
        subprocess.run(["/sbin/ip", "-batch", "-"], input=commands.encode(), check=True)  # noqa: ASYNC221
        ip("link set cable up")
        await eventually(lambda: len({change.address for change in told if change.added}) >= 8000)
        await eventually(lambda: links.state("eth0") is DOWN)
    assert all(change.added for change in told)


async def test_where_netlink_fails_nothing_is_impeded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_settings: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("lvsd.edge.links.AsyncIPRoute", refuse)
    links = Links()
    with pytest.raises(KernelError, match="Operation not permitted"):
        await links.start()
    assert links.impeded(LOOPBACK, 0.0) is None
    assert links.state("eth0") is LinkState.MISSING
    await links.close()


@pytest.mark.usefixtures("own_network")
async def test_an_error_in_what_follows_is_told_once_and_not_by_close() -> None:
    def stumble(change: AddressChange) -> None:
        if change.added and change.address == Address.parse("192.168.0.101"):
            raise KeyError(change.interface)

    ended: list[asyncio.Task[None]] = []
    async with Links(stumble, ended.append):
        ip("address add 192.168.0.101/24 dev lo")
        await eventually(lambda: bool(ended))
    assert [type(task.exception()) for task in ended] == [KeyError]


@pytest.mark.usefixtures("own_network")
async def test_close_ends_it_without_an_error() -> None:
    ended: list[asyncio.Task[None]] = []
    async with Links(on_end=ended.append):
        assert ended == []
    assert [task.cancelled() for task in ended] == [True]
