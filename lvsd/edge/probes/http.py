"""The HTTP probe: one request, its status and, where asked to, a search of the body."""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from lvsd import __version__
from lvsd.edge.probes import expectation
from lvsd.edge.probes.connection import LocalFault, words
from lvsd.health.outcome import Outcome
from lvsd.model import Address, join_port

if TYPE_CHECKING:
    from aiohttp.tracing import Trace

    from lvsd.config.model import HttpCheck
    from lvsd.edge.probes.connection import Connection
    from lvsd.edge.probes.expectation import Searches

MAX_REDIRECTS = 5
"""How many redirects one probe follows."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHOWN = 100

_connection: ContextVar[Connection] = ContextVar("connection")
"""The connection for the request under way: aiohttp has no argument that reaches the connector."""


class Session:
    """What all HTTP probes share: an aiohttp session that keeps no connections and no cookies."""

    def __init__(self, searches: Searches) -> None:
        self._searches = searches
        self._session = aiohttp.ClientSession(
            connector=_Connector(force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            middlewares=(_ask_once,),
        )

    async def close(self) -> None:
        """Let go of what aiohttp holds."""
        await self._session.close()

    async def probe(self, check: HttpCheck, connection: Connection) -> Outcome:
        """Return how the server answers; raise as `Connection` does.

        A redirect is followed, where asked to, as long as it stays on this real server: what another one
        answers says nothing about it.
        """
        url = _url(connection.address, connection.port, check.path)
        try:
            for _ in range(1 + MAX_REDIRECTS):
                answer = await self._ask(check, url, connection)
                if isinstance(answer, Outcome):
                    return answer
                url = _on_this_server(url, answer, check.host)
        except aiohttp.ClientError as error:
            return Outcome.failed(_complaint(error))
        return Outcome.failed(f"more than {MAX_REDIRECTS} redirects")

    async def _ask(self, check: HttpCheck, url: URL, connection: Connection) -> Outcome | str:
        """Make one request; return its outcome, or where it was redirected to."""
        await connection.connect()
        _connection.set(connection)
        connection.doing = "waiting for the answer"
        try:
            response = await self._session.request(
                check.method, url, headers=_headers(check), allow_redirects=False
            )
        except ValueError as error:
            message = f"no HTTP request can be made of this check: {error}"
            raise LocalFault(message) from error
        try:
            if check.follow_redirects and response.status in _REDIRECTS and "Location" in response.headers:
                return response.headers["Location"]
            if not any(low <= response.status <= high for low, high in check.status):
                return Outcome.failed(f"HTTP {response.status}")
            if check.expect:
                return await self._search(check, response, connection)
            return Outcome.passed(f"HTTP {response.status}")
        finally:
            response.close()

    async def _search(
        self, check: HttpCheck, response: aiohttp.ClientResponse, connection: Connection
    ) -> Outcome:
        """Read the body until what is expected is found, it ends, or the limit is reached."""
        connection.doing = "reading the body"
        body = _Body(response, check.body_limit)
        if await self._searches.find(check.expect, connection, body.more):
            return Outcome.passed(f"HTTP {response.status}")
        if body.left:
            return Outcome.failed(expectation.missed("body", check.expect))
        return Outcome.failed(expectation.beyond(check.expect, check.body_limit))


class _Connector(aiohttp.BaseConnector):
    """Gives each request the connection that its probe has made."""

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,  # noqa: ARG002 - the signature is aiohttp's
        traces: list[Trace],  # noqa: ARG002
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109
    ) -> ResponseHandler:
        return await _connection.get().hand_over(lambda: _Protocol(loop=self._loop))


class _Protocol(ResponseHandler):
    """Sees that a body ends when its connection does: aiohttp leaves it waiting after a malformed chunk."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what is being read."""
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError())


class _NoAnswerError(aiohttp.ClientError):
    """The connection ended before an answer had come; the text says how."""


class _ElsewhereError(aiohttp.ClientError):
    """A redirect leads away from the real server; the text says where to."""


async def _ask_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Turn the errors that aiohttp would answer by a second request into one that it lets through."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _NoAnswerError(_complaint(error)) from error


class _Body:
    """The body of an answer, of which `left` bytes may yet be read."""

    def __init__(self, response: aiohttp.ClientResponse, limit: int) -> None:
        self.left = limit
        self._content = response.content

    async def more(self) -> bytes | None:
        """Return the next piece, None once the body has ended or the limit is reached."""
        content = await self._content.read(self.left)
        self.left -= len(content)
        return content or None


def _on_this_server(url: URL, location: str, host: str) -> URL:
    """Return the URL that a redirect leads to, asked of the same real server; or raise _ElsewhereError."""
    try:
        target = url.join(_parse(location))
        origin = target.origin()
    except ValueError:
        message = "malformed HTTP answer: redirected to no URL"
        raise _ElsewhereError(message) from None
    if origin != url.origin() and not (host and origin == URL(f"http://{host}").origin()):
        message = f"redirected to another server: {origin}"
        raise _ElsewhereError(message)
    return _parse(f"{url.origin()}{target.raw_path_qs}")


def _complaint(error: aiohttp.ClientError) -> str:
    """Return what the operator reads of an answer that is none; the same words for the same fault."""
    match error:
        case _NoAnswerError() | _ElsewhereError():
            return str(error)
        case aiohttp.ServerDisconnectedError():
            return "closed without an answer"
        case OSError():
            return words(error)
        case aiohttp.ClientPayloadError():
            return "the body is cut short"
        case aiohttp.ClientResponseError():
            # The parser's first line names the fault, the rest quotes the answer.
            fault = error.message.partition("\n")[0].partition(": b'")[0].rstrip(":.")
        case _:
            fault = str(error)
    return f"malformed HTTP answer: {fault[:_SHOWN]}"


@lru_cache(65536)
def _url(address: Address, port: int, path: str) -> URL:
    return _parse(f"http://{join_port(address, port)}{path}")


def _parse(text: str) -> URL:
    """Return a URL as it is written; only what may not stand in one is quoted."""
    return URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)


@lru_cache(1024)
def _headers(check: HttpCheck) -> CIMultiDictProxy[str]:
    headers = CIMultiDict(check.headers)
    headers.setdefault("User-Agent", f"lvsd/{__version__}")
    headers.setdefault("Accept-Encoding", "identity")
    if check.host:
        headers.setdefault("Host", check.host)
    return CIMultiDictProxy(headers)
