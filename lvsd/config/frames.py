"""A configuration as a stream of frames, from the child process that parses it to the daemon that keeps it.

Equal services give equal bytes and digests, so that the daemon unpickles only what a reload changed.
"""

from __future__ import annotations

import io
import pickle
import struct
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from lvsd.config import model
from lvsd.config.model import Config, Note, Settings, VirtualService
from lvsd.errors import ConfigError, Mistake
from lvsd.model import Address, Persistence, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_FRAME = struct.Struct("!cI")
_NAME = struct.Struct("!H")
_DIGEST_SIZE = 16
_HEADER, _SERVICE, _MISTAKES, _END = b"H", b"S", b"M", b"E"


class Broken(Exception):  # noqa: N818 - what happened to the stream
    """The stream ended early, or holds something else."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A virtual service, packed. Equal digests mean equal services."""

    digest: bytes
    packed: bytes

    def service(self) -> VirtualService:
        """Return the virtual service."""
        service: VirtualService = pickle.loads(self.packed)  # noqa: S301 - packed by a child of ours
        return service


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration whose services are still packed, by name, in the order of the file."""

    format: str
    files: tuple[str, ...]
    settings: Settings
    notes: tuple[Note, ...]
    services: dict[str, Blob]

    def config(self) -> Config:
        """Return the whole configuration, unpacked; of many services this takes long."""
        services = tuple(blob.service() for blob in self.services.values())
        return Config(self.format, self.files, self.settings, services)


def frames(config: Config, notes: Sequence[Note]) -> Iterator[bytes]:
    """Yield the frames that say `config`."""
    header = (config.format, config.files, config.settings, tuple(notes))
    yield _frame(_HEADER, pickle.dumps(header))
    for service in config.services:
        name, blob = service.name.encode(), pack(service)
        yield _frame(_SERVICE, b"".join((_NAME.pack(len(name)), name, blob.digest, blob.packed)))
    yield _frame(_END, b"")


def mistake_frames(mistakes: Sequence[Mistake]) -> Iterator[bytes]:
    """Yield the frames that say that there is no configuration, but these mistakes."""
    yield _frame(_MISTAKES, pickle.dumps(tuple(mistakes)))


def pack(service: VirtualService) -> Blob:
    """Return `service` packed: the same bytes for equal services, whatever objects they share."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    pickler.fast = True  # without a memo, which would tell shared objects from equal ones
    pickler.dispatch_table = _BY_FIELDS
    pickler.dump(service)
    packed = buffer.getvalue()
    return Blob(blake2b(packed, digest_size=_DIGEST_SIZE).digest(), packed)


@dataclass(slots=True)
class FrameReader:
    """Takes the stream in pieces of any size."""

    _rest: bytes = b""
    _header: tuple[Any, ...] | None = None
    _services: dict[str, Blob] = field(default_factory=dict)
    _mistakes: tuple[Mistake, ...] = ()
    _complete: bool = False
    _broken: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        data, at = self._rest + data, 0
        while len(data) - at >= _FRAME.size:
            kind, length = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + length
            if end > len(data):
                break
            self._take(kind, data[at + _FRAME.size : end])
            at = end
        self._rest = data[at:]

    def loaded(self) -> Loaded:
        """Return what the whole stream said: raise ConfigError for mistakes, Broken where it is not whole."""
        if self._mistakes:
            raise ConfigError(self._mistakes)
        if self._header is None or self._broken or not self._complete:
            raise Broken
        found, files, settings, notes = self._header
        return Loaded(found, files, settings, notes, self._services)

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == _SERVICE:
            begin = _NAME.size + _NAME.unpack_from(payload)[0]
            digest, packed = payload[begin : begin + _DIGEST_SIZE], payload[begin + _DIGEST_SIZE :]
            self._services[payload[_NAME.size : begin].decode()] = Blob(digest, packed)
        elif kind == _HEADER:
            self._header = pickle.loads(payload)  # noqa: S301 - packed by a child of ours
        elif kind == _MISTAKES:
            self._mistakes = pickle.loads(payload)  # noqa: S301 - packed by a child of ours
        elif kind == _END:
            self._complete = True
        else:
            self._broken = True


def _frame(kind: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(kind, len(payload)) + payload


def _service(scheduler: str, flags: tuple[str, ...], persistence: Persistence | None) -> Service:
    return Service(scheduler, frozenset(flags), persistence)


def _from_fields(kind: type) -> Callable[[Any], tuple[Any, tuple[Any, ...]]]:
    names = [each.name for each in fields(kind) if each.init]
    values = attrgetter(*names)
    if any(each.kw_only for each in fields(kind)):
        return lambda value: (_keywords, (kind, tuple(names), values(value)))
    return lambda value: (kind, values(value))


def _keywords(kind: type, names: tuple[str, ...], values: tuple[Any, ...]) -> object:
    return kind(**dict(zip(names, values, strict=True)))


_PLAIN = (
    VirtualService, Persistence, model.Host, model.RealServer,
    model.TcpCheck, model.TelnetCheck, model.HttpCheck,
)  # fmt: skip

_BY_FIELDS: dict[type, Callable[[Any], Any]] = {
    **{kind: _from_fields(kind) for kind in _PLAIN},
    Address: lambda address: (Address, (bytes(address),)),
    # A frozenset has no order of its own, and the kernel of two processes' hashes differ.
    Service: lambda service: (
        _service,
        (service.scheduler, tuple(sorted(service.flags)), service.persistence),
    ),
}
