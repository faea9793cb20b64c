"""The default provider: any OpenAI-compatible API over HTTP/1.1, on the standard library's client."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import chatkeep
from chatkeep.errors import ProviderError, SettingsError
from chatkeep.model import Delta, Finish, Prompt
from chatkeep.provider import failures
from chatkeep.provider.completions import encode_request, read_reply
from chatkeep.provider.connections import Connection, Connections, Line, Route, tls_context

if TYPE_CHECKING:
    from chatkeep.settings import Settings

DEFAULT_BASE_URL = "https://api.openai.com/v1"
READ_SIZE = 64 * 1024
BODY_LIMIT = 64 * 1024
"""Bytes that are read of what is no reply: an error's body, or what follows the reply's end."""
ERROR_SECONDS = 1.0
DRAIN_SECONDS = 0.25
FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What connecting and reading raise; ValueError comes of TLS sockets that were shut down."""


class OpenAIHttp:
    """A provider that speaks Chat Completions at ``base_url``."""

    name = "openai"

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        default_model: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        connect_timeout: float = 5.0,
        stream_usage: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare the calls without connecting; ``connect_timeout`` is in seconds. Raises `SettingsError`."""
        route = Route.to(base_url)
        self.default_model = default_model
        self._stream_usage = stream_usage
        self._secrets = tuple(filter(None, (api_key, *(value for _, value in headers))))
        self._target = route.target("/chat/completions")
        self._headers = _headers(route, api_key, headers)
        secure = route.url.scheme == "https"
        self._connections = Connections(route, connect_timeout, (tls or tls_context()) if secure else None)

    @classmethod
    def from_settings(cls, settings: Settings) -> OpenAIHttp:
        """Return the provider that the settings describe."""
        return cls(
            settings.openai_base_url or DEFAULT_BASE_URL,
            settings.openai_api_key,
            settings.model,
            headers=settings.provider_headers,
            connect_timeout=settings.connect_timeout,
            stream_usage=settings.stream_usage,
        )

    def stream_reply(self, prompt: Prompt) -> HttpCall:
        """Return a call that connects when it is iterated."""
        body = encode_request(prompt, stream_usage=self._stream_usage)
        return HttpCall(self._connections, _Request(self._target, self._headers, body), self._secrets)

    def close(self) -> None:
        """Close the idle connections."""
        self._connections.close()


@dataclass(frozen=True, slots=True)
class _Request:
    target: str
    headers: dict[str, str]
    body: bytes


class HttpCall:
    """One call over HTTP; iterate it once."""

    __slots__ = ("_connections", "_line", "_request", "_resent", "_secrets")

    def __init__(self, connections: Connections, request: _Request, secrets: tuple[str, ...]) -> None:
        self._connections = connections
        self._request = request
        self._secrets = secrets
        self._line = Line()
        self._resent = False

    def __iter__(self) -> Iterator[Delta | Finish]:
        """Yield the reply."""
        try:
            with contextlib.closing(self._exchange()) as items:
                for item in items:
                    if self._line.is_cut:
                        return
                    yield item
        except ProviderError as error:
            if not self._line.is_cut:
                error.resent = self._resent
                raise

    def abort(self) -> None:
        """Shut the connection down, from any thread at any time."""
        self._line.cut()

    def _exchange(self) -> Generator[Delta | Finish]:
        try:
            connection, response = self._send()
        except FAILURES as error:
            raise self._failure(error) from error
        finished = False
        try:
            for item in self._read(connection, response):
                finished = isinstance(item, Finish)
                yield item
        finally:
            self._end(connection, response, finished=finished)

    def _send(self) -> tuple[Connection, http.client.HTTPResponse]:
        """Return the connection and the response's head; a kept connection that proves dead is replaced once."""
        if kept := self._connections.take():
            with contextlib.suppress(http.client.RemoteDisconnected):
                return kept, self._ask(kept)
            self._connections.drop_idle()
            self._resent = True
        fresh = self._connections.open(self._line)
        return fresh, self._ask(fresh)

    def _ask(self, connection: Connection) -> http.client.HTTPResponse:
        try:
            self._line.hold(connection.socket)
            return connection.ask(self._request.target, self._request.headers, self._request.body)
        except BaseException:
            connection.close()
            raise

    def _read(self, connection: Connection, response: http.client.HTTPResponse) -> Iterator[Delta | Finish]:
        if response.status != http.HTTPStatus.OK:
            body = connection.read_for(response, ERROR_SECONDS, BODY_LIMIT)
            raise failures.from_response(response.status, response.getheader, body, self._secrets)
        kind = response.getheader("content-type", "")
        encoding = response.getheader("content-encoding", "")
        return read_reply(kind, encoding, self._chunks(response), self._secrets)

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while chunk := response.read1(READ_SIZE):
                yield chunk
        except FAILURES as error:
            raise self._failure(error) from error

    def _end(self, connection: Connection, response: http.client.HTTPResponse, *, finished: bool) -> None:
        """Keep the connection where its response has ended cleanly, close it otherwise."""
        if finished:
            connection.read_for(response, DRAIN_SECONDS, BODY_LIMIT)
        reusable = connection.is_done(response)
        response.close()
        self._line.release()
        if reusable:
            self._connections.give_back(connection)
        else:
            connection.close()

    def _failure(self, error: Exception) -> ProviderError:
        return failures.from_connection(error)


def _headers(route: Route, api_key: str | None, more: Iterable[tuple[str, str]]) -> dict[str, str]:
    headers = {
        "Host": route.host,
        "User-Agent": f"chatkeep/{chatkeep.__version__}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
    }
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    if route.proxy and route.url.scheme == "http":
        headers |= route.proxy_headers()
    headers |= dict(more)
    if problems := [_problem(name) for name, value in headers.items() if not _is_header(name, value)]:
        raise SettingsError(problems)
    return headers


def _is_header(name: str, value: str) -> bool:
    return f"{name}{value}".isascii() and f"{name}{value}".isprintable()


def _problem(name: str) -> str:
    setting = "OPENAI_API_KEY" if name == "Authorization" else "CHATKEEP_PROVIDER_HEADERS"
    return f"{setting}: the header {name!r} may hold only printable ASCII characters"
