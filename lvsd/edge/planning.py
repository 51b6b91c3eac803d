"""`lvsd plan`: what `run` or a reload would change in this kernel, as the commands that a person would type.

The director itself says it, as it would program it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import chain
from shlex import quote
from typing import TYPE_CHECKING

from lvsd.config.model import OnFailure, Scope
from lvsd.director import Director
from lvsd.edge import state_file
from lvsd.edge.addresses import Addresses
from lvsd.edge.ipvs import Ipvs
from lvsd.effects import AddAddress, Program, RemoveAddress
from lvsd.errors import KernelError, printable
from lvsd.health.roster import Finding, Member
from lvsd.health.verdict import Health, Verdict
from lvsd.ipvs.change import RemoveServer, RemoveService
from lvsd.ipvs.ledger import row_of
from lvsd.model import Instant
from lvsd.vips import Vips
from lvsd.vrrp.virtual_mac import placed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.model import Config, DirectorAddress
    from lvsd.edge.addresses import FoundAddress
    from lvsd.ipvs.change import Change
    from lvsd.ipvs.codec import Connections
    from lvsd.model import ServerKey, ServiceKey, Table

SERVING = "in the table"


@dataclass(frozen=True, slots=True)
class Planned:
    """The changes of the table and then of the VIPs, each in their order; what else is worth knowing of them.

    `connections` are the live ones of what is removed, `waiting` who waits for a verdict; `trouble` says why
    the plan may not be the whole of it.
    """

    changes: tuple[Change, ...]
    addresses: tuple[str, ...]
    connections: dict[ServiceKey, dict[ServerKey, Connections]]
    waiting: tuple[str, ...]
    trouble: str = ""

    @property
    def count(self) -> int:
        """How many changes there are."""
        return len(self.changes) + len(self.addresses)

    def lines(self) -> Iterator[str]:
        """Yield what `lvsd plan` prints."""
        for change in self.changes:
            yield f"ipvsadm {change}{self._touched(change)}"
        for who in self.waiting:
            yield f"# {who} joins when its first probe has passed"
        yield from map(printable, self.addresses)
        yield f"# {self.count} change{'' if self.count == 1 else 's'}"

    def _touched(self, change: Change) -> str:
        if not isinstance(change, RemoveService | RemoveServer):
            return ""
        counted = self.connections.get(row_of(change)[0], {})
        if isinstance(change, RemoveServer):
            counted = {change.key: counted[change.key]} if change.key in counted else {}
        active = sum(each.active for each in counted.values())
        inactive = sum(each.inactive for each in counted.values())
        return f"    # {active} active and {inactive} inactive connections"


async def plan(config: Config) -> Planned:
    """Return what bringing `config` into force would change; raise KernelError without the table."""
    file = state_file.path()
    remembered = state_file.read(file)
    director = Director(remembered.rows)
    now = Instant(time.monotonic(), time.time())
    for service in config.services:
        director.enter(service, now)
    async with Ipvs() as ipvs:
        table = await ipvs.read()
        director.roster.presume(
            set(_in_service(config, table)), Finding(Health(Verdict.UP), SERVING, now.wall)
        )
        changes = tuple(_changes(director, table, now))
        removed = {row_of(each)[0] for each in changes if isinstance(each, RemoveService | RemoveServer)}
        connections = await ipvs.connections(removed)
    addresses = _vip_changes(Vips(remembered.addresses), config)
    trouble = (
        f"{file} is {remembered.trouble}: what is to be removed is not known" if remembered.trouble else ""
    )
    return Planned(changes, tuple(addresses), connections, tuple(_waiting(director)), trouble)


def _changes(director: Director, table: Table, now: Instant) -> Iterator[Change]:
    """Yield all that the director would program, as if the kernel accepted everything."""
    effects = [effect for step in director.read(table, now) for effect in step]
    while batches := [effect.changes for effect in effects if isinstance(effect, Program)]:
        yield from chain.from_iterable(batches)
        effects = director.programmed({}, now)


def _vip_changes(vips: Vips, config: Config) -> list[str]:
    """Return the commands that would bring the VIPs in place."""
    shared = [vip for instance in config.settings.vrrp for vip in placed(instance)]
    with Addresses() as addresses:
        # The VIPs of VRRP stay as they are: which director holds them is the election's to say.
        held = [each for each in shared if _look(addresses, each)[0]]
        vips.want([*config.settings.addresses, *held], shared)
        looked = {(each.address, each.interface): _look(addresses, each) for each in vips.concerned}
        commands = []
        for effect in vips.see([where for where, (found, _) in looked.items() if found], "config"):
            if isinstance(effect, AddAddress | RemoveAddress):
                it = effect.address
                found, trouble = looked[it.address, it.interface]
                adding = isinstance(effect, AddAddress)
                command = _adding(it, covered=addresses.covers(it)) if adding else _removing(found)
                commands.append(f"{command}    # {trouble}" if trouble else command)
    return commands


def _look(addresses: Addresses, address: DirectorAddress) -> tuple[FoundAddress | None, str]:
    """Return the address as it is on its interface, or why it cannot be there."""
    try:
        return addresses.find(address), ""
    except KernelError as error:
        return None, str(error)


def _adding(address: DirectorAddress, *, covered: bool) -> str:
    label = f" label {quote(address.label)}" if address.label else ""
    scope = f" scope {address.scope}" if address.scope is not Scope.GLOBAL else ""
    how = " nodad preferred_lft 0" if address.address.version == 6 else label + scope  # noqa: PLR2004
    route = " noprefixroute" if covered else ""
    return f"ip address add {address} dev {quote(address.interface)}{how}{route}"


def _removing(found: FoundAddress | None) -> str:
    return f"ip address del {found.address}/{found.prefix} dev {quote(found.interface)}" if found else ""


def _in_service(config: Config, table: Table) -> Iterator[Member]:
    """Yield the real servers that clients get now: whoever left them in the table had found them well."""
    for service in config.services:
        rows = table.get(service.key)
        for server in service.real_servers:
            row = None if rows is None else rows.servers.get(server.key)
            if row is not None and (row.weight > 0 or service.on_failure is OnFailure.REMOVE):
                yield Member(service.name, server.key)


def _waiting(director: Director) -> Iterator[str]:
    for service in director.services.values():
        rows = director.ledger.actual.get(service.key)
        present = {} if rows is None else rows.servers
        for server in service.real_servers:
            finding = director.roster.finding(Member(service.name, server.key))
            known = finding is not None and finding.verdict is not Verdict.UNKNOWN
            if not known and server.key not in present:
                yield f"{service.name}: {server.key}"
