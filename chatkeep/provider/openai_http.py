"""The default provider: any OpenAI-compatible API over HTTP/1.1, on sockets, parsed by httptools."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chatkeep.domain.conversation import Prompt
from chatkeep.errors import ProviderError
from chatkeep.httpclient.addresses import Resolve, resolve_by_system
from chatkeep.httpclient.compression import inflated
from chatkeep.httpclient.connections import AbortHandle, Connection, ConnectionPool, Route, StaleConnection, tls_context
from chatkeep.httpclient.headers import head, headers_of
from chatkeep.httpclient.reader import BlockingReader, Reader
from chatkeep.httpclient.responses import MalformedResponse, Response
from chatkeep.provider import Receive, failures
from chatkeep.provider.completions import ReplyReader, encode_request
from chatkeep.provider.dialects import AdaptingCall, Dialect, Dialects

if TYPE_CHECKING:
    from chatkeep.config.settings import Settings

DEFAULT_BASE_URL = "https://api.openai.com/v1"
BODY_LIMIT = 64 * 1024
"""The most bytes to read of an error's body, or after the end of a reply."""
SUCCESSES = range(200, 300)
ERROR_SECONDS = 1.0
DRAIN_SECONDS = 0.25
FAILURES = (OSError, MalformedResponse, ValueError)
"""What connecting and reading raise. TLS sockets raise ValueError after a shutdown."""


class OpenAIHttp:
    """A provider with a Chat Completions API at ``base_url``."""

    name = "openai"

    def __init__(  # noqa: PLR0913 - the last ones have defaults, and are named
        self,
        base_url: str,
        api_key: str | None,
        default_model: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        connect_timeout: float = 5.0,
        dialects: Dialects | None = None,
        tls: ssl.SSLContext | None = None,
        reader: Reader | None = None,
        hosts: Iterable[str] = (),
        resolve: Resolve = resolve_by_system,
    ) -> None:
        """Prepare calls without connecting. ``connect_timeout`` is in seconds. Raises `SettingsError`.

        ``hosts`` are the allowed hosts, by default that of the base URL.
        """
        route = Route.to(base_url)
        self.default_model = default_model
        self._dialects = dialects or Dialects()
        self._secrets = tuple(filter(None, (api_key, *(value for _, value in headers))))
        self._head = head("POST", route.target("/chat/completions"), headers_of(route, api_key, headers))
        self._reader = reader or BlockingReader()
        secure = route.url.scheme == "https"
        destinations = route.destinations(hosts, resolve)
        self._connections = ConnectionPool(
            route, connect_timeout, (tls or tls_context()) if secure else None, destinations
        )

    @classmethod
    def from_settings(cls, settings: Settings, reader: Reader | None = None) -> OpenAIHttp:
        """Return the provider that the settings describe."""
        return cls(
            settings.openai_base_url or DEFAULT_BASE_URL,
            settings.openai_api_key,
            settings.model,
            headers=settings.provider_headers,
            connect_timeout=settings.connect_timeout,
            dialects=Dialects(settings.provider_dialects, stream_usage=settings.stream_usage),
            reader=reader,
            hosts=settings.provider_hosts,
        )

    def stream_reply(self, prompt: Prompt) -> AdaptingCall:
        """Return a call."""
        return self._dialects.call(prompt, self._call)

    def close(self) -> None:
        """Close the idle connections."""
        self._connections.close()

    def _call(self, prompt: Prompt, dialect: Dialect) -> HttpCall:
        body = encode_request(prompt, dialect)
        request = b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body)
        return HttpCall(self._connections, self._reader, request, self._secrets, thinking=dialect.thinking)


class HttpCall:
    """One call over HTTP."""

    __slots__ = ("_abort_handle", "_connections", "_reader", "_request", "_resent", "_secrets", "_thinking")

    def __init__(
        self,
        connections: ConnectionPool,
        reader: Reader,
        request: bytes,
        secrets: tuple[str, ...],
        *,
        thinking: bool,
    ) -> None:
        self._connections = connections
        self._reader = reader
        self._request = request
        self._secrets = secrets
        self._thinking = thinking
        self._abort_handle = AbortHandle()
        self._resent = False

    def deliver(self, receive: Receive) -> None:
        """Hand the reply to ``receive`` as it arrives."""
        try:
            self._exchange(receive)
        except (*FAILURES, ProviderError) as error:
            if self._abort_handle.is_aborted:
                return
            failure = error if isinstance(error, ProviderError) else failures.from_connection(error)
            failure.resent = self._resent
            raise failure from error.__cause__ if failure is error else error

    def abort(self) -> None:
        """Shut the connection down, from any thread at any time."""
        self._abort_handle.abort()

    def _exchange(self, receive: Receive) -> None:
        connection, bodies = self._send()
        try:
            response = connection.response
            encoding = response.header("content-encoding") or ""
            if response.status not in SUCCESSES:
                body = inflated(b"".join(bodies) + connection.read_for(ERROR_SECONDS, BODY_LIMIT), encoding)
                raise failures.from_response(response.status, response.header, body, self._secrets)
            reader = ReplyReader(encoding, receive, self._secrets, thinking=self._thinking)
            try:
                self._read(reader, connection, bodies)
            except FAILURES:
                if self._abort_handle.is_aborted or not reader.break_off():
                    raise
            connection.read_for(DRAIN_SECONDS, BODY_LIMIT)
        finally:
            self._end(connection)

    def _read(self, reader: ReplyReader, connection: Connection, bodies: list[bytes]) -> None:
        """Read the reply to its end. After the finish reason, wait only `ReplyReader.ending_seconds` for more."""
        response = connection.response
        if not self._take(reader, response, bodies):
            self._reader.pull(connection.socket, lambda data: self._take(reader, response, response.feed(data)))
        pieces, deadline = reader.pieces, time.monotonic() + reader.ending_seconds
        while not (reader.is_over or self._abort_handle.is_aborted):
            self._take(reader, response, connection.read_before(deadline))
            if reader.pieces > pieces:
                pieces, deadline = reader.pieces, time.monotonic() + reader.ending_seconds

    def _take(self, reader: ReplyReader, response: Response, bodies: list[bytes]) -> bool:
        """Decode pieces of the body. Return whether the reply is ending."""
        for body in bodies:
            if self._abort_handle.is_aborted:
                return True
            if not reader.is_over:
                reader.feed(body)
        if not (reader.is_over or self._abort_handle.is_aborted):
            if response.error:
                raise response.error
            if response.is_whole:
                reader.close()
        return reader.is_over or reader.is_ending or self._abort_handle.is_aborted

    def _send(self) -> tuple[Connection, list[bytes]]:
        """Send the request, once more if a pooled connection was stale. Return the connection and the first pieces."""
        if kept := self._connections.acquire():
            with contextlib.suppress(StaleConnection):
                return kept, self._ask(kept)
            self._connections.drop_idle()
            self._resent = True
        fresh = self._connections.open(self._abort_handle)
        return fresh, self._ask(fresh)

    def _ask(self, connection: Connection) -> list[bytes]:
        try:
            self._abort_handle.attach(connection.socket)
            return connection.send(self._request)
        except BaseException:
            connection.close()
            raise

    def _end(self, connection: Connection) -> None:
        """Return the connection to the pool if its response has ended cleanly, else close it."""
        self._abort_handle.detach()
        connection.response.close()
        if connection.is_done and not self._abort_handle.is_aborted:
            self._connections.release(connection)
        else:
            connection.close()
