"""Shapes of checks to checks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypedDict, assert_never

from lvsd.config.model import Check, HttpCheck, TcpCheck, TelnetCheck
from lvsd.config.schema import CHECK_SHAPES, CheckShape, HttpShape, TcpShape, TelnetShape
from lvsd.model import Protocol

if TYPE_CHECKING:
    from lvsd.config.document import Findings, Path
    from lvsd.config.hosts import Lookup
    from lvsd.model import Address, Seconds

FAST_INTERVAL: Seconds = 0.2
HTTP_PORT, TELNET_PORT = 80, 23


class _Common(TypedDict):
    interval: Seconds
    fast_interval: Seconds
    timeout: Seconds
    rise: int
    fall: int
    port: int | None
    bind: Address | None


@dataclass(frozen=True, slots=True)
class CheckBuilder:
    """Makes checks of their shapes, and puts down what does not go together in them."""

    lookup: Lookup
    findings: Findings

    def build(self, shape: CheckShape, path: Path) -> Check | None:
        """Return the check that `shape`, found at `path`, describes; None where it has a mistake."""
        known = len(self.findings.mistakes)
        check = self._check(shape, path)
        return check if len(self.findings.mistakes) == known else None

    def _check(self, shape: CheckShape, path: Path) -> Check:
        common = self._common(shape, path)
        match shape:
            case HttpShape():
                return self._http(shape, common, path)
            case TcpShape(send=send, expect=expect):
                return TcpCheck(**common, send=send.encode(), expect=expect)
            case TelnetShape(expect=expect):
                return TelnetCheck(**common, expect=expect)
            case _:
                raise AssertionError(shape)

    def _common(self, shape: CheckShape, path: Path) -> _Common:
        if shape.fast_interval is not None and shape.fast_interval > shape.interval:
            self.findings.mistake((*path, "fast_interval"), "must not be longer than the interval")
        return {
            "interval": shape.interval,
            "fast_interval": shape.fast_interval or min(FAST_INTERVAL, shape.interval),
            "timeout": shape.timeout,
            "rise": shape.rise,
            "fall": shape.fall,
            "port": self._port(shape, path),
            "bind": self._bind(shape, path),
        }

    def _port(self, shape: CheckShape, path: Path) -> int | None:
        if shape.port is None:
            return None
        try:
            port = self.lookup.port(shape.port, Protocol.TCP)
        except ValueError as problem:
            self.findings.mistake((*path, "port"), str(problem))
            return None
        if port == 0:
            self.findings.mistake((*path, "port"), "must be 1 to 65535, not 0")
        return port or None

    def _bind(self, shape: CheckShape, path: Path) -> Address | None:
        if shape.bind is None:
            return None
        try:
            return self.lookup.routable(shape.bind).address
        except ValueError as problem:
            self.findings.mistake((*path, "bind"), str(problem))
            return None

    def _http(self, shape: HttpShape, common: _Common, path: Path) -> HttpCheck:
        if shape.method == "HEAD" and shape.expect:
            self.findings.mistake(
                (*path, "expect"), "cannot be found in an answer to HEAD, which has no body: use GET"
            )
        return HttpCheck(
            **common,
            path=shape.path,
            method=shape.method,
            host=shape.host,
            headers=tuple(shape.headers.items()),
            status=tuple(shape.status),
            expect=shape.expect,
            follow_redirects=shape.follow_redirects,
            body_limit=shape.body_limit,
        )


@cache
def suggested_by_port(protocol: Protocol, port: int) -> CheckShape | None:
    """Return the shape of the probe for a service that names none; None for what is not TCP."""
    match protocol:
        case Protocol.UDP | Protocol.SCTP:
            return None
        case Protocol.TCP if port == HTTP_PORT:
            return CHECK_SHAPES["http"].model_validate({"type": "http"})
        case Protocol.TCP if port == TELNET_PORT:
            return CHECK_SHAPES["telnet"].model_validate({"type": "telnet"})
        case Protocol.TCP:
            return CHECK_SHAPES["tcp"].model_validate({"type": "tcp"})
        case _:
            assert_never(protocol)
