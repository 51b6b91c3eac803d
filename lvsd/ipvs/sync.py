"""The kernel's daemons that carry connections from one director to another: which run, which shall.

A master daemon sends, a backup daemon receives; the kernel runs at most one of each. The numbers are those
of include/uapi/linux/ip_vs.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from lvsd.ipvs.codec import ACKNOWLEDGE, DAEMON, DUMP, REQUEST, Envelope, message, nested
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lvsd.config.model import SyncSettings

GROUP: Final = Address.parse("224.0.0.81")
PORT: Final = 8848
TTL: Final = 1
MTU: Final = 1500
"""What the kernel takes where it is told nothing: of a master, whatever its interface's MTU is."""


class SyncRole(StrEnum):
    """What a daemon does: a master sends the connections that it sees, a backup receives them."""

    MASTER = "master"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """A daemon as it runs or shall run.

    A backup with the `id` 0 receives from masters of any. `payload` is a message's size in bytes without the
    IP and UDP headers; 0 leaves it to the kernel.
    """

    role: SyncRole
    interface: str
    id: int
    group: Address = GROUP
    port: int = PORT
    ttl: int = TTL
    payload: int = 0


@dataclass(frozen=True, slots=True)
class StopDaemon:
    """Stop a daemon. What a master has not sent yet is lost: the connections of the last three seconds."""

    daemon: SyncDaemon


@dataclass(frozen=True, slots=True)
class StartDaemon:
    """Start a daemon; there must be none of its role."""

    daemon: SyncDaemon


Step: TypeAlias = StopDaemon | StartDaemon


def steps(
    running: Collection[SyncDaemon], wanted: Collection[SyncDaemon], *, anew: bool = False
) -> tuple[Step, ...]:
    """Return what leads from the daemons that run to those `wanted`; nothing where nothing differs.

    With `anew`, a daemon that runs as wanted is not good enough: its interface is another than it was.
    """
    serving = [] if anew else [each for each in running if any(_serves(each, it) for it in wanted)]
    missing = [it for it in wanted if not any(_serves(each, it) for each in serving)]
    # A role's daemon is stopped before it is started anew: the kernel has no room for two.
    stopped = (StopDaemon(each) for each in running if each not in serving)
    return (*stopped, *map(StartDaemon, missing))


def stops(running: Iterable[SyncDaemon], own: SyncSettings) -> tuple[Step, ...]:
    """Return what stops the daemons of these settings, and leaves those of others."""
    ours = {role: daemon(own, role) for role in SyncRole}
    return tuple(StopDaemon(each) for each in running if _serves(each, ours[each.role]))


def daemon(settings: SyncSettings, role: SyncRole) -> SyncDaemon:
    """Return the daemon that `settings` ask for."""
    group = GROUP if settings.group is None else settings.group
    return SyncDaemon(
        role,
        settings.interface,
        settings.id,
        group,
        PORT if settings.port is None else settings.port,
        TTL if settings.ttl is None else settings.ttl,
        _payload(settings.mtu, group, role),
    )


def encode(step: Step, family: int, sequence: int) -> bytes:
    """Return the message that asks the kernel for `step`; it always answers."""
    command = _STOP if isinstance(step, StopDaemon) else _START
    attributes = _encode(step.daemon)
    return message(Envelope(family, REQUEST | ACKNOWLEDGE, sequence), command, daemon=attributes)


def ask(family: int, sequence: int) -> bytes:
    """Return the request for the daemons that run."""
    return message(Envelope(family, REQUEST | DUMP, sequence), _GET)


def decode(body: bytes) -> SyncDaemon | None:
    """Return the daemon in an answer, or None where this is none that lvsd knows."""
    try:
        told = nested(body, DAEMON)
        return SyncDaemon(
            _ROLES[_NUMBER32.unpack(told[_STATE])[0]],
            told[_INTERFACE].rstrip(b"\0").decode(),
            _NUMBER32.unpack(told[_ID])[0],
            Address(told[_GROUP] if _GROUP in told else told[_GROUP6]),
            _NUMBER16.unpack(told[_PORT])[0],
            _NUMBER8.unpack(told[_TTL])[0],
            _NUMBER16.unpack(told[_PAYLOAD])[0],
        )
    except (KeyError, ValueError, struct.error):
        return None


_START, _STOP, _GET = 9, 10, 11
_STATE, _INTERFACE, _ID, _PAYLOAD, _GROUP, _GROUP6, _PORT, _TTL = range(1, 9)
_ROLES = {1: SyncRole.MASTER, 2: SyncRole.BACKUP}
_ROLE_NUMBERS = {role: number for number, role in _ROLES.items()}
_HEADERS = {4: 20 + 8, 6: 40 + 8}
_LEAST_RECEIVED = 1024

_ATTRIBUTE = struct.Struct("=HH")
_NUMBER8 = struct.Struct("=B")
_NUMBER16 = struct.Struct("=H")
_NUMBER32 = struct.Struct("=I")


def _serves(running: SyncDaemon, wanted: SyncDaemon) -> bool:
    """Tell whether a daemon need not be stopped; a backup's room may be the kernel's choice."""
    if wanted.payload or running.payload < MTU - _HEADERS[wanted.group.version]:
        return running == wanted
    return replace(running, payload=0) == wanted


def _payload(mtu: int | None, group: Address, role: SyncRole) -> int:
    """Return the size of messages to ask for, which is what the kernel will tell that it took."""
    headers = _HEADERS[group.version]
    if role is SyncRole.MASTER:
        return (MTU if mtu is None else mtu) - headers
    return 0 if mtu is None else max(mtu - headers, _LEAST_RECEIVED)


def _encode(it: SyncDaemon) -> bytes:
    attributes = (
        _attribute(_STATE, _NUMBER32.pack(_ROLE_NUMBERS[it.role])),
        _attribute(_INTERFACE, it.interface.encode() + b"\0"),
        _attribute(_ID, _NUMBER32.pack(it.id)),
        _attribute(_GROUP if it.group.version == 4 else _GROUP6, it.group),  # noqa: PLR2004
        _attribute(_PORT, _NUMBER16.pack(it.port)),
        _attribute(_TTL, _NUMBER8.pack(it.ttl)),
        _attribute(_PAYLOAD, _NUMBER16.pack(it.payload)) if it.payload else b"",
    )
    return b"".join(attributes)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)
