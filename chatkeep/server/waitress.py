"""How Waitress takes requests: within limits of number, size and time, and with problems for what it refuses.

Waitress reads a whole request before it calls the application, from clients without a key, too. Its own limits are for
servers behind a proxy: 100 connections, 1 GB of a body in a file, any time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from functools import partialmethod
from http import HTTPStatus
from typing import Any, NoReturn

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer, TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from chatkeep.config.settings import Settings
from chatkeep.errors import ChatkeepError, SettingsError
from chatkeep.server import listening
from chatkeep.web import problems

# So many connections are kept; those beyond end the one that has waited longest for a request.
MOST_CONNECTIONS = 400
SPARE_CONNECTIONS = 100
IDLE_S = 75
WRITE_TIMEOUT_S = 10.0
LINGER_S = 10.0
HEAD_BYTES = 64 * 1024
# A body that is a little too large reaches the application, which refuses it in its own words.
TOO_LARGE_BYTES = 64 * 1024
# What a task is ahead of its client.
AHEAD_BYTES = 1024 * 1024
MEMORY_BYTES = 1024**3
_AT_ONCE = struct.pack("ii", 1, 0)


def limit(settings: Settings, stop: Callable[[ChatkeepError], NoReturn]) -> None:
    """Have every server that Waitress makes in this process obey the limits; its own options override them.

    A server that cannot have its address calls ``stop`` with the reason.
    """
    Adjustments.connection_limit = MOST_CONNECTIONS + SPARE_CONNECTIONS
    Adjustments.channel_timeout = IDLE_S
    Adjustments.cleanup_interval = 5
    Adjustments.asyncore_use_poll = True  # select knows no file descriptor over 1023
    Adjustments.max_request_header_size = HEAD_BYTES
    Adjustments.max_request_body_size = settings.max_body + TOO_LARGE_BYTES
    Adjustments.inbuf_overflow = MEMORY_BYTES  # what people say belongs into no temporary file
    Adjustments.outbuf_overflow = MEMORY_BYTES
    Adjustments.outbuf_high_watermark = AHEAD_BYTES
    Channel.request_s = settings.body_timeout
    BaseWSGIServer.channel_class = Channel
    server: Any = TcpWSGIServer
    server.set_reuse_addr = _take_alone
    server.bind_server_socket = partialmethod(_bind, stop)


def _take_alone(server: Any) -> None:
    with contextlib.suppress(OSError):  # a socket that Waitress was given may be bound already
        listening.take_alone(server.socket)


def _bind(server: Any, stop: Callable[[ChatkeepError], NoReturn]) -> None:
    _, _, _, address = server.sockinfo
    try:
        server.bind(address)
    except OSError as error:
        stop(SettingsError([listening.reason(error, *address[:2])]))


class Refusal(Error):
    """What the channel refuses in a request."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__("")
        self.code = status


class Parser(HTTPRequestParser):
    """Refuses expectations that it does not know, and asks for no body of a request that is refused already."""

    path = ""  # for the log, where a request ends before its path is known

    def received(self, data: bytes) -> int:
        """Take a part of a request; return how many bytes of it were taken."""
        taken: int = super().received(data)
        if self.headers_finished and self.headers.get("EXPECT", "100-continue").lower() != "100-continue":
            self.refuse(HTTPStatus.EXPECTATION_FAILED)
        if self.error is not None:
            self.expect_continue = False
        return taken

    def refuse(self, status: HTTPStatus) -> None:
        """Have the request answered with a problem, whatever is still to come of it."""
        self.error = self.error or Refusal(status)
        self.expect_continue = False
        self.completed = True


class Refusing(ErrorTask):
    """Answers a request that does not reach the application with a problem."""

    channel: Any  # here and below: the published types are narrower than what there is
    request: Any
    response_headers: Any

    def execute(self) -> None:
        """Send the problem."""
        self.channel.is_refused = True
        problem = problems.of_status(self.request.error.code)()
        headers, body = problems.standalone(problem)
        self.status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
        self.response_headers.extend(headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Answering(WSGITask):
    """Answers a request by the application, one for a head with nothing more than that."""

    request: Any

    def finish(self) -> None:
        """End the response."""
        if self.request.command != "HEAD":
            super().finish()
        elif not self.wrote_header:
            self.write(b"")


class Channel(HTTPChannel):
    """A connection whose client sends each request, and takes each answer, in time."""

    parser_class = Parser
    task_class = Answering
    error_task_class = Refusing
    request_s = 10.0
    is_refused = False
    """Whether a request was refused, whose client may still be sending it."""
    request: Any
    requests: Any
    requests_lock: Any
    socket: Any

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        self.waits_since = time.monotonic()
        """When the request that is awaited or arriving could have begun."""
        self._progress = 0.0
        self._progress_at = self.waits_since
        self._lingers_until: float | None = None
        super().__init__(server, *args, **kwargs)
        kept = [channel for channel in server.active_channels.values() if not channel.will_close]
        waiting = [channel for channel in kept if not channel.requests]
        if len(kept) > MOST_CONNECTIONS and waiting:
            min(waiting, key=lambda channel: channel.waits_since).will_close = True

    def received(self, data: bytes) -> bool:
        """Take what has arrived."""
        if self.request is None:
            self.waits_since = time.monotonic()
        return bool(super().received(data))

    def readable(self) -> bool:
        """Return whether something is to be read: also what a refused client still sends.

        Waitress asks every second, and before all else, so this also keeps the deadlines.
        """
        self._keep_deadlines(time.monotonic())
        if not self.connected:
            return False
        return self._lingers_until is not None or bool(super().readable())

    def writable(self) -> bool:
        """Return whether something is to be written, or the connection is to be closed."""
        return bool(self.connected and self._lingers_until is None and super().writable())

    def handle_read(self) -> None:
        """Read; what a refused client still sends is dropped."""
        if self._lingers_until is None:
            super().handle_read()
        else:
            self.recv(AHEAD_BYTES)

    def handle_write(self) -> None:
        """Write; a client that was refused is told that nothing more comes, and may end what it sends.

        To close at once would reset the connection, and the answer be lost (RFC 9112, section 9.6).
        """
        if self.is_refused and self.close_when_flushed and not self.total_outbufs_len:
            self._lingers_until = time.monotonic() + LINGER_S
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.handle_close()
        else:
            super().handle_write()

    def _keep_deadlines(self, now: float) -> None:
        """Close the connection whose client takes nothing, and refuse the request that does not arrive in time."""
        if self._lingers_until is not None:
            if self.will_close or now > self._lingers_until:
                self.handle_close()
        elif self._takes_nothing(now):
            # As nothing can be written, Waitress would never come to close it.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.handle_close()
        elif self.requests:
            self.waits_since = now
        elif self.request is not None and now - self.waits_since > self.request_s:
            self._refuse_late()

    def _takes_nothing(self, now: float) -> bool:
        """Return whether the client has taken nothing of what there is for it for too long."""
        if not self.total_outbufs_len or self.last_activity != self._progress:
            self._progress, self._progress_at = self.last_activity, now
            return False
        return now - self._progress_at > WRITE_TIMEOUT_S

    def _refuse_late(self) -> None:
        """Answer the request that does not arrive in time."""
        with self.requests_lock:
            request, self.request = self.request, None
            request.refuse(HTTPStatus.REQUEST_TIMEOUT)
            self.requests.append(request)
        self.server.add_task(self)  # type: ignore[arg-type]  # it calls its own kind
