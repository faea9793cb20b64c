"""TCP and TLS connections to one provider: made within a time limit, kept for the next call, cut from any thread."""

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
from chatkeep.httpclient.addresses import Address, Destinations, Resolve, by_system
from chatkeep.httpclient.responses import Response
from chatkeep.i18n import _
from chatkeep.runtime.concurrency import short_lock

READ_SIZE = 16 * 1024
MAX_IDLE = 128
IDLE_SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}
# How often Windows looks whether a call that is connecting was aborted.
LOOK_S = 0.1
# What a connection says that is on its way.
_PENDING = (errno.EINPROGRESS, errno.EWOULDBLOCK)


class Line:
    """The one socket that a call uses at a time, so that another thread can cut it."""

    __slots__ = ("_lock", "_socket", "is_cut")

    def __init__(self) -> None:
        self._lock = short_lock()
        self._socket: socket.socket | None = None
        self.is_cut = False

    def check(self) -> None:
        """Raise `ConnectionAbortedError` where the line was cut."""
        if self.is_cut:
            raise ConnectionAbortedError("The call was aborted.")

    def hold(self, sock: socket.socket) -> None:
        """Take ``sock`` up in place of the one before; raise `ConnectionAbortedError` where the line was cut."""
        with self._lock:
            self.check()
            self._socket = sock

    def release(self) -> None:
        """Let go of the socket: it may serve another call from now on."""
        with self._lock:
            self._socket = None

    def cut(self) -> None:
        """Shut the socket down, which wakes whoever waits on it, and let no other take its place."""
        with self._lock:
            self.is_cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # Not SSLSocket's own shutdown: that one takes the TLS state away from under the reading thread.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                self._socket = None


class Connection:
    """An HTTP/1.1 connection over a socket that is open already."""

    __slots__ = ("idle_since", "response", "socket")

    response: Response
    """That to the last request, once there was one."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.idle_since = 0.0

    def ask(self, request: bytes) -> list[bytes]:
        """Send a request and wait for the head of its response; return what came of the body with it.

        Raises `DeadConnection` where the connection was gone before anything came back, `MalformedResponse`, `OSError`.
        """
        self.response = response = Response()
        try:
            self.socket.sendall(request)
            bodies = response.feed(self._first())
        except (ConnectionError, ssl.SSLError) as error:
            raise DeadConnection(str(error)) from error
        while not response.status:
            if response.error:
                raise response.error
            bodies = response.feed(self.socket.recv(READ_SIZE))
        return bodies

    def _first(self) -> bytes:
        first = self.socket.recv(READ_SIZE)
        if not first:
            raise DeadConnection("The connection was closed without a response.")
        return first

    def read_for(self, seconds: float, limit: int) -> bytes:
        """Return what arrives of the response's body within ``seconds``, about ``limit`` bytes at most."""
        found = bytearray()
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while len(found) < limit and not (self.response.is_whole or self.response.error):
                self.socket.settimeout(_left(deadline))
                found += b"".join(self.response.feed(self.socket.recv(limit)))
        with contextlib.suppress(OSError):
            self.socket.settimeout(None)
        return bytes(found[:limit])

    def read_before(self, deadline: float) -> list[bytes]:
        """Return what arrives next of the response's body; raise `TimeoutError` at the deadline (monotonic clock)."""
        self.socket.settimeout(_left(deadline))
        try:
            return self.response.feed(self.socket.recv(READ_SIZE))
        finally:
            self.socket.settimeout(None)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    @property
    def is_done(self) -> bool:
        """Whether the response was read to its end and another request may follow."""
        return self.response.is_whole and self.response.keeps_alive and not self.response.error

    def is_alive(self) -> bool:
        """Return whether the idle connection is still usable: a readable one has been closed, or is out of step."""
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


class DeadConnection(ConnectionError):
    """A kept connection had ended before it was asked."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a provider is reached: directly, through a proxy that forwards, or through a proxy's tunnel."""

    url: SplitResult
    proxy: SplitResult | None = None

    @classmethod
    def to(cls, base_url: str) -> Route:
        """Return the route that the proxy variables of the environment ask for; raise `SettingsError` if it is none."""
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
        """The Host header: name and, where it is not the scheme's own, port."""
        return self.url.netloc.rpartition("@")[2]

    @property
    def place(self) -> tuple[str, int]:
        """The provider's name and port."""
        return self.url.hostname or "", self.url.port or _PORTS[self.url.scheme]

    @property
    def next_hop(self) -> tuple[str, int]:
        """The name and port to connect to."""
        return (self.proxy.hostname or "", self.proxy.port or 80) if self.proxy else self.place

    def destinations(self, listed: Iterable[str], resolve: Resolve = by_system) -> Destinations:
        """Return where calls may go: to what is listed, or else to the provider that is configured.

        Raises `SettingsError` where that one is not listed. A proxy is the operator's, too; it looks names up itself.
        """
        provider, _ = self.place
        hosts = frozenset(host.strip("[]").lower() for host in listed)
        allowed = Destinations(hosts or frozenset({provider}))
        allowed.require(provider)
        return Destinations(allowed.hosts if self.proxy is None else frozenset({self.next_hop[0]}), resolve)

    def target(self, path: str) -> str:
        """Return the request target for ``path`` under the base URL, whose query is kept."""
        path = self.url.path.rstrip("/") + path + (f"?{self.url.query}" if self.url.query else "")
        return f"http://{self.host}{path}" if self.proxy and self.url.scheme == "http" else path

    def proxy_headers(self) -> dict[str, str]:
        """Return the headers that the proxy asks for: its credentials."""
        if not self.proxy or not self.proxy.username:
            return {}
        pair = f"{unquote(self.proxy.username)}:{unquote(self.proxy.password or '')}"
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@dataclass(slots=True)
class ConnectionPool:
    """Connections to one provider: the last one given back is the first one taken."""

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
        """Keep the connection for another call, unless there are enough of them."""
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            surplus = len(self._idle) - (0 if self._closed else MAX_IDLE)
            surplus = max(surplus, self._count_old())
            dropped = self._idle[:surplus] if surplus > 0 else []
            del self._idle[: len(dropped)]
        for old in dropped:
            old.close()

    def drop_idle(self) -> None:
        """Close the idle connections: one of them had died, and so may have the others."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def open(self, line: Line) -> Connection:
        """Return a new connection, held by ``line`` from before it connects.

        Raises `OSError` where none comes about, `ProviderBroke` where calls may not go where the name leads.
        The time limit is for TCP, proxy and TLS together; the look-up of the name has the system's own.
        """
        line.check()
        addresses = self.destinations.addresses(*self.route.next_hop)
        deadline = time.monotonic() + self.connect_timeout
        sock = _connect(addresses, deadline, line)
        try:
            sock = self._secure(sock, deadline, line)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return Connection(sock)

    def close(self) -> None:
        """Close the idle connections, and keep none from now on."""
        self._closed = True
        self.drop_idle()

    def _count_old(self) -> int:
        limit = time.monotonic() - IDLE_SECONDS
        return sum(connection.idle_since < limit for connection in self._idle)

    def _secure(self, sock: socket.socket, deadline: float, line: Line) -> socket.socket:
        if self.tls is None:
            return sock
        if self.route.proxy:
            sock.settimeout(_left(deadline))
            _tunnel(sock, self.route)
        sock.settimeout(_left(deadline))
        wrapped = self.tls.wrap_socket(sock, server_hostname=self.route.place[0], do_handshake_on_connect=False)
        try:
            line.hold(wrapped)
            if sys.platform == "win32":
                shake_hands_by_looks(wrapped, deadline, line)
            else:
                wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts what the system trusts; making one costs some 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("The time is over.")
    return left


def _connect(addresses: Sequence[Address], deadline: float, line: Line) -> socket.socket:
    """Return a socket connected to the first address that answers; each has its share of the time that is left."""
    failure: OSError = OSError("The name has no address.")
    for tried, (family, kind, protocol, _name, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            line.hold(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seconds = _left(deadline) / (len(addresses) - tried)
            if sys.platform == "win32":
                connect_by_looks(sock, address, seconds, line)
            else:
                sock.settimeout(seconds)
                sock.connect(address)
            line.check()
        except OSError as error:
            failure = error
            sock.close()
        else:
            return sock
    raise failure


def connect_by_looks(sock: socket.socket, address: Any, seconds: float, line: Line) -> None:
    """Connect a socket, and look now and then whether the line was cut: on Windows a cut does not end the wait.

    Raises `OSError`.
    """
    deadline = time.monotonic() + seconds
    sock.settimeout(0)
    error = sock.connect_ex(address)
    while error in _PENDING:
        line.check()
        _, *ready = select.select([], [sock], [sock], min(LOOK_S, _left(deadline)))
        if any(ready):
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def shake_hands_by_looks(sock: ssl.SSLSocket, deadline: float, line: Line) -> None:
    """Do the handshake of TLS as `connect_by_looks` connects. Raises `OSError`."""
    sock.settimeout(0)
    is_done = False
    while not is_done:
        line.check()
        try:
            sock.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            select.select([sock], [], [], min(LOOK_S, _left(deadline)))
        except ssl.SSLWantWriteError:
            select.select([], [sock], [], min(LOOK_S, _left(deadline)))


def _tunnel(sock: socket.socket, route: Route) -> None:
    """Ask the proxy for a tunnel to the provider; raise `OSError` where it gives none."""
    place = "{}:{}".format(*route.place)
    headers = {"Host": place, **route.proxy_headers()}
    lines = [f"CONNECT {place} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    sock.sendall("\r\n".join(lines).encode("ascii"))
    response = http.client.HTTPResponse(sock, method="CONNECT")
    try:
        response.begin()
        if response.status != http.HTTPStatus.OK:
            raise ConnectionRefusedError(f"The proxy answered {response.status} to CONNECT.")
    finally:
        response.close()
