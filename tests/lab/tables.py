"""The kernel's table beside what lvsd's log tells of it, and the table watched while something happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from lvsd.edge import state_file
from lvsd.lab.table import weights
from lvsd.model import VirtualAddress

if TYPE_CHECKING:
    from lvsd.lab.machine import Machine
    from lvsd.lab.table import RowKey, Table, TableKey
    from lvsd.state import State

Weights: TypeAlias = "dict[TableKey, dict[RowKey, int]]"
Rows: TypeAlias = "dict[TableKey, tuple[str, dict[RowKey, tuple[str, int]]]]"
"""The scheduler of each virtual service, and forwarding and weight of each real server."""

_FORWARDING = {"Route": "dr", "Masq": "nat", "Tunnel": "tun"}


def kernel(table: Table) -> Rows:
    """Return what the kernel has, in lvsd's words."""
    return {
        key: (
            row["scheduler"],
            {at: (_FORWARDING[server["forward"]], server["weight"]) for at, server in row["servers"].items()},
        )
        for key, row in table.items()
    }


def told(state: State) -> Rows:
    """Return what the log, folded, says that the kernel has."""
    return {
        _place(protocol, address): (
            rows.settings["scheduler"],
            {_row(at): (server["forward"], server["weight"]) for at, server in rows.servers.items()},
        )
        for (protocol, address), rows in state.rows.items()
    }


def remembered(machine: Machine) -> dict[TableKey, set[RowKey]]:
    """Return what the state file of a host's lvsd has: whose rows are lvsd's own, firewall marks left out."""
    found = state_file.read(machine.directory / "run" / "state.json")
    assert found.trouble == ""
    return {
        (str(key.protocol).upper(), str(key.address), key.port): {
            (str(server.address), server.port) for server in owned.hosts
        }
        for key, owned in found.rows.items()
        if isinstance(key, VirtualAddress)
    }


def status(shown: dict[str, Any]) -> Weights:
    """Return the weights that `lvsd status --json` shows."""
    return {
        _place(service["protocol"], service["address"]): {
            _row(at): server["weight"] for at, server in service["real_servers"].items() if server["in_table"]
        }
        for service in shown["virtual_services"].values()
        if service["in_table"]
    }


class Watch:
    """Reads a host's table again and again while the block runs.

    `seen` holds the weights of each table that differed from the one before, in their order.
    """

    def __init__(self, machine: Machine) -> None:
        self.seen: list[Weights] = []
        self.readings = 0
        self._machine = machine
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._look()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._look()

    def of(self, key: TableKey) -> list[dict[RowKey, int] | None]:
        """Return what was seen of one virtual service, in its order; None where it was missing."""
        seen: list[dict[RowKey, int] | None] = []
        for table in self.seen:
            if not seen or seen[-1] != table.get(key):
                seen.append(table.get(key))
        return seen

    async def _follow(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(0.005)

    async def _look(self) -> None:
        table = weights(await self._machine.read_table())
        self.readings += 1
        if not self.seen or self.seen[-1] != table:
            self.seen.append(table)


def _place(protocol: str, address: str) -> TableKey:
    if protocol == "fwm":
        return "FWM", "", int(address.split()[1])
    return protocol.upper(), *_row(address)


def _row(text: str) -> RowKey:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)
