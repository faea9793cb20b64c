"""Connect to a provider over TCP and TLS, within a time limit, pooled, and abortable from any thread."""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import os
import select
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from chatkeep.errors import SettingsError
from chatkeep.httpclient.addresses import Address, Destinations, Resolve, resolve_by_system
from chatkeep.httpclient.responses import Response
from chatkeep.i18n import _
from chatkeep.runtime.concurrency import short_lock

READ_SIZE = 16 * 1024
MAX_IDLE = 128
IDLE_SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}
# How often a connecting call checks on Windows whether it was aborted.
POLL_S = 0.1
# The errors of a connection in progress.
_PENDING = (errno.EINPROGRESS, errno.EWOULDBLOCK)


class AbortHandle:
    """Lets other threads abort a call by shutting down the one socket that it uses at a time. Thread-safe."""

    __slots__ = ("_lock", "_socket", "is_aborted")

    def __init__(self) -> None:
        self._lock = short_lock()
        self._socket: socket.socket | None = None
        self.is_aborted = False

    def raise_if_aborted(self) -> None:
        """Raise `ConnectionAbortedError` if the call was aborted."""
        if self.is_aborted:
            raise ConnectionAbortedError("The call was aborted.")

    def attach(self, sock: socket.socket) -> None:
        """Set the call's socket. Raises `ConnectionAbortedError` if the call was aborted."""
        with self._lock:
            self.raise_if_aborted()
            self._socket = sock

    def detach(self) -> None:
        """Forget the socket: it may serve another call from now on."""
        with self._lock:
            self._socket = None

    def abort(self) -> None:
        """Shut the socket down, which wakes the thread that waits on it, and refuse any other socket."""
        with self._lock:
            self.is_aborted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # SSLSocket's own shutdown would drop the TLS state while another thread reads.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                self._socket = None


class Connection:
    """An HTTP/1.1 connection over an open socket."""

    __slots__ = ("idle_since", "response", "socket")

    response: Response
    """The response to the last request."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.idle_since = 0.0

    def send(self, request: bytes) -> list[bytes]:
        """Send a request and wait for the response's head. Return the pieces of the body that came with it.

        Raises `StaleConnection` if the connection closed before any response, `MalformedResponse` and `OSError`.
        """
        self.response = response = Response()
        try:
            self.socket.sendall(request)
            bodies = response.feed(self._receive_first())
        except (ConnectionError, ssl.SSLError) as error:
            raise StaleConnection(str(error)) from error
        while not response.status:
            if response.error:
                raise response.error
            bodies = response.feed(self.socket.recv(READ_SIZE))
        return bodies

    def _receive_first(self) -> bytes:
        first = self.socket.recv(READ_SIZE)
        if not first:
            raise StaleConnection("The connection was closed without a response.")
        return first

    def read_for(self, seconds: float, limit: int) -> bytes:
        """Return what arrives of the body within ``seconds``, at most ``limit`` bytes."""
        found = bytearray()
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while len(found) < limit and not (self.response.is_whole or self.response.error):
                self.socket.settimeout(_remaining(deadline))
                found += b"".join(self.response.feed(self.socket.recv(limit)))
        with contextlib.suppress(OSError):
            self.socket.settimeout(None)
        return bytes(found[:limit])

    def read_before(self, deadline: float) -> list[bytes]:
        """Return the next pieces of the body. Raises `TimeoutError` at the deadline (monotonic clock)."""
        self.socket.settimeout(_remaining(deadline))
        try:
            return self.response.feed(self.socket.recv(READ_SIZE))
        finally:
            self.socket.settimeout(None)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    @property
    def is_done(self) -> bool:
        """Whether the response is complete and the connection can be reused."""
        return self.response.is_whole and self.response.keeps_alive and not self.response.error

    def is_alive(self) -> bool:
        """Return whether an idle connection is usable. A readable one was closed or has unexpected data."""
        if time.monotonic() - self.idle_since > IDLE_SECONDS:
            return False
        self.socket.settimeout(0)
        try:
            socket.socket.recv(self.socket, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(None)
        return False


class StaleConnection(ConnectionError):
    """A pooled connection was closed before it got a response."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a provider: directly, through a forwarding proxy, or through a proxy's tunnel."""

    url: SplitResult
    proxy: SplitResult | None = None

    @classmethod
    def to(cls, base_url: str) -> Route:
        """Return the route by the environment's proxy variables. Raises `SettingsError` if the proxy is not http."""
        url = urlsplit(base_url)
        proxy = urllib.request.getproxies().get(url.scheme)
        if not proxy or urllib.request.proxy_bypass(url.hostname or ""):
            return cls(url)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme != "http" or not parts.hostname:
            raise SettingsError([_("{scheme}_PROXY: only http:// proxies are supported", scheme=url.scheme.upper())])
        return cls(url, parts)

    @property
    def host(self) -> str:
        """The Host header: the name, and the port unless it is the scheme's default."""
        return self.url.netloc.rpartition("@")[2]

    @property
    def origin(self) -> tuple[str, int]:
        """The provider's name and port."""
        return self.url.hostname or "", self.url.port or _PORTS[self.url.scheme]

    @property
    def next_hop(self) -> tuple[str, int]:
        """The name and port to connect to."""
        return (self.proxy.hostname or "", self.proxy.port or 80) if self.proxy else self.origin

    def destinations(self, listed: Iterable[str], resolve: Resolve = resolve_by_system) -> Destinations:
        """Return where calls may go: to the listed hosts, by default to the configured provider only.

        Raises `SettingsError` if the provider is not listed. A proxy is trusted, and resolves names itself.
        """
        provider, _ = self.origin
        hosts = frozenset(host.strip("[]").lower() for host in listed)
        allowed = Destinations(hosts or frozenset({provider}))
        allowed.require(provider)
        return Destinations(allowed.hosts if self.proxy is None else frozenset({self.next_hop[0]}), resolve)

    def target(self, path: str) -> str:
        """Return the request target for ``path`` under the base URL, with the base URL's query."""
        path = self.url.path.rstrip("/") + path + (f"?{self.url.query}" if self.url.query else "")
        return f"http://{self.host}{path}" if self.proxy and self.url.scheme == "http" else path

    def proxy_headers(self) -> dict[str, str]:
        """Return the header with the proxy's credentials, if it has any."""
        if not self.proxy or not self.proxy.username:
            return {}
        pair = f"{unquote(self.proxy.username)}:{unquote(self.proxy.password or '')}"
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@dataclass(slots=True)
class ConnectionPool:
    """A LIFO pool of connections to one provider."""

    route: Route
    connect_timeout: float
    tls: ssl.SSLContext | None
    destinations: Destinations
    _idle: list[Connection] = field(default_factory=list)
    _lock: AbstractContextManager[Any] = field(default_factory=short_lock)
    _closed: bool = False

    def acquire(self) -> Connection | None:
        """Return an idle connection that is still alive, or None."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or connection.is_alive():
                return connection
            connection.close()

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool. Close the oldest ones beyond `MAX_IDLE` or `IDLE_SECONDS`."""
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            surplus = len(self._idle) - (0 if self._closed else MAX_IDLE)
            surplus = max(surplus, self._count_expired())
            dropped = self._idle[:surplus] if surplus > 0 else []
            del self._idle[: len(dropped)]
        for old in dropped:
            old.close()

    def drop_idle(self) -> None:
        """Close the idle connections. Call it when one was stale, because the others may also be."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def open(self, handle: AbortHandle) -> Connection:
        """Return a new connection, attached to ``handle`` before it connects.

        Raises `OSError` if the connection fails, `ProviderBroke` if the name resolves only to forbidden addresses.
        The time limit covers TCP, proxy and TLS together, but not the DNS lookup, which has the system's own.
        """
        handle.raise_if_aborted()
        addresses = self.destinations.addresses(*self.route.next_hop)
        deadline = time.monotonic() + self.connect_timeout
        sock = _connect(addresses, deadline, handle)
        try:
            sock = self._secure(sock, deadline, handle)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return Connection(sock)

    def close(self) -> None:
        """Close the idle connections, and pool none from now on."""
        self._closed = True
        self.drop_idle()

    def _count_expired(self) -> int:
        limit = time.monotonic() - IDLE_SECONDS
        return sum(connection.idle_since < limit for connection in self._idle)

    def _secure(self, sock: socket.socket, deadline: float, handle: AbortHandle) -> socket.socket:
        if self.tls is None:
            return sock
        if self.route.proxy:
            sock.settimeout(_remaining(deadline))
            _tunnel(sock, self.route)
        sock.settimeout(_remaining(deadline))
        wrapped = self.tls.wrap_socket(sock, server_hostname=self.route.origin[0], do_handshake_on_connect=False)
        try:
            handle.attach(wrapped)
            if sys.platform == "win32":
                handshake_polling(wrapped, deadline, handle)
            else:
                wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts the system's certificates. Costs some 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("The time is over.")
    return left


def _connect(addresses: Sequence[Address], deadline: float, handle: AbortHandle) -> socket.socket:
    """Return a socket connected to the first address that answers. Each address gets a share of the remaining time."""
    failure: OSError = OSError("The name has no address.")
    for tried, (family, kind, protocol, _name, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            handle.attach(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seconds = _remaining(deadline) / (len(addresses) - tried)
            if sys.platform == "win32":
                connect_polling(sock, address, seconds, handle)
            else:
                sock.settimeout(seconds)
                sock.connect(address)
            handle.raise_if_aborted()
        except OSError as error:
            failure = error
            sock.close()
        else:
            return sock
    raise failure


def connect_polling(sock: socket.socket, address: Any, seconds: float, handle: AbortHandle) -> None:
    """Connect a socket, polling for an abort: on Windows, shutting a socket down does not wake a connecting thread.

    Raises `OSError`.
    """
    deadline = time.monotonic() + seconds
    sock.settimeout(0)
    error = sock.connect_ex(address)
    while error in _PENDING:
        handle.raise_if_aborted()
        _, *ready = select.select([], [sock], [sock], min(POLL_S, _remaining(deadline)))
        if any(ready):
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def handshake_polling(sock: ssl.SSLSocket, deadline: float, handle: AbortHandle) -> None:
    """Do the TLS handshake, polling for an abort like `connect_polling`. Raises `OSError`."""
    sock.settimeout(0)
    is_done = False
    while not is_done:
        handle.raise_if_aborted()
        try:
            sock.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            select.select([sock], [], [], min(POLL_S, _remaining(deadline)))
        except ssl.SSLWantWriteError:
            select.select([], [sock], [], min(POLL_S, _remaining(deadline)))


def _tunnel(sock: socket.socket, route: Route) -> None:
    """Ask the proxy for a tunnel to the provider. Raises `OSError` if it refuses."""
    origin = "{}:{}".format(*route.origin)
    headers = {"Host": origin, **route.proxy_headers()}
    lines = [f"CONNECT {origin} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    sock.sendall("\r\n".join(lines).encode("ascii"))
    response = http.client.HTTPResponse(sock, method="CONNECT")
    try:
        response.begin()
        if response.status != http.HTTPStatus.OK:
            raise ConnectionRefusedError(f"The proxy answered {response.status} to CONNECT.")
    finally:
        response.close()
