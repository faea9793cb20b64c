"""Limits and error responses for Waitress.

Waitress reads a whole request before it calls the application, also from unauthenticated clients. Its default limits
suit servers behind a proxy: 100 connections, bodies of 1 GB in a temporary file, no deadline.

It has no setting for these limits, so this module overrides its parser, task and channel classes, which are not a
public API: `tests/server/test_waitress.py` fails if they change.
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

# Above this number of connections each new one closes the connection that is idle longest.
MAX_CONNECTIONS = 400
SPARE_CONNECTIONS = 100
IDLE_S = 75
WRITE_TIMEOUT_S = 10.0
LINGER_S = 10.0
HEAD_BYTES = 64 * 1024
# A body that is slightly too large reaches the application, whose error message is more helpful.
TOLERANCE_BYTES = 64 * 1024
# How much response data is buffered for a client before its task waits.
BUFFER_BYTES = 1024 * 1024
MEMORY_BYTES = 1024**3
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def configure(settings: Settings, stop: Callable[[ChatkeepError], NoReturn]) -> None:
    """Set the default limits of all Waitress servers of this process; options of `waitress-serve` override them.

    A server that can't bind its address calls ``stop`` with the reason.
    """
    Adjustments.connection_limit = MAX_CONNECTIONS + SPARE_CONNECTIONS
    Adjustments.channel_timeout = IDLE_S
    Adjustments.cleanup_interval = 5
    Adjustments.asyncore_use_poll = True  # select supports file descriptors below 1024 only
    Adjustments.max_request_header_size = HEAD_BYTES
    Adjustments.max_request_body_size = settings.max_body + TOLERANCE_BYTES
    Adjustments.inbuf_overflow = MEMORY_BYTES  # keep what users write out of temporary files
    Adjustments.outbuf_overflow = MEMORY_BYTES
    Adjustments.outbuf_high_watermark = BUFFER_BYTES
    Channel.request_timeout_s = settings.body_timeout
    BaseWSGIServer.channel_class = Channel
    server: Any = TcpWSGIServer
    server.set_reuse_addr = _set_exclusive
    server.bind_server_socket = partialmethod(_bind, stop)


def _set_exclusive(server: Any) -> None:
    with contextlib.suppress(OSError):  # a socket that was passed to Waitress may be bound already
        listening.take_alone(server.socket)


def _bind(server: Any, stop: Callable[[ChatkeepError], NoReturn]) -> None:
    _, _, _, address = server.sockinfo
    try:
        server.bind(address)
    except OSError as error:
        stop(SettingsError([listening.reason(error, *address[:2])]))


class RequestError(Error):
    """An error that Waitress answers in place of the application."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__("")
        self.code = status


class Parser(HTTPRequestParser):
    """A parser that rejects unknown expectations, and sends no `100 Continue` for a rejected request."""

    path = ""  # logged if the request is rejected before its path is parsed

    def received(self, data: bytes) -> int:
        """Parse received data; return the number of bytes consumed."""
        consumed: int = super().received(data)
        if self.headers_finished and self.headers.get("EXPECT", "100-continue").lower() != "100-continue":
            self.reject(HTTPStatus.EXPECTATION_FAILED)
        if self.error is not None:
            self.expect_continue = False
        return consumed

    def reject(self, status: HTTPStatus) -> None:
        """Answer the request with a problem, without waiting for the rest of it."""
        self.error = self.error or RequestError(status)
        self.expect_continue = False
        self.completed = True


class ProblemTask(ErrorTask):
    """Sends a problem for a request that doesn't reach the application."""

    channel: Any  # here and below: the published types are too narrow
    request: Any
    response_headers: Any

    def execute(self) -> None:
        """Send the problem."""
        self.channel.is_rejected = True
        problem = problems.of_status(self.request.error.code)()
        headers, body = problems.standalone(problem)
        self.status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
        self.response_headers.extend(headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class ApplicationTask(WSGITask):
    """Calls the application; responses to HEAD have no body."""

    request: Any

    def finish(self) -> None:
        """End the response."""
        if self.request.command != "HEAD":
            super().finish()
        elif not self.wrote_header:
            self.write(b"")


class Channel(HTTPChannel):
    """A connection with deadlines for receiving requests and sending responses."""

    parser_class = Parser
    task_class = ApplicationTask
    error_task_class = ProblemTask
    request_timeout_s = 10.0
    is_rejected = False
    """Whether a request was rejected; its client may still be sending it."""
    request: Any
    requests: Any
    requests_lock: Any
    socket: Any

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        self.waiting_since = time.monotonic()
        """The earliest time at which the current request may have begun."""
        self._progress = 0.0
        self._progress_at = self.waiting_since
        self._lingers_until: float | None = None
        super().__init__(server, *args, **kwargs)
        open_channels = [channel for channel in server.active_channels.values() if not channel.will_close]
        idle = [channel for channel in open_channels if not channel.requests]
        if len(open_channels) > MAX_CONNECTIONS and idle:
            min(idle, key=lambda channel: channel.waiting_since).will_close = True

    def received(self, data: bytes) -> bool:
        """Parse received data."""
        if self.request is None:
            self.waiting_since = time.monotonic()
        return bool(super().received(data))

    def readable(self) -> bool:
        """Return whether to read from the socket; True for a rejected client, whose data is discarded.

        Waitress calls this at least once a second, before anything else, so it also enforces the deadlines.
        """
        self._enforce_deadlines(time.monotonic())
        if not self.connected:
            return False
        return self._lingers_until is not None or bool(super().readable())

    def writable(self) -> bool:
        """Return whether there is data to write, or the connection is due to close."""
        return bool(self.connected and self._lingers_until is None and super().writable())

    def handle_read(self) -> None:
        """Read data; discard it if the client was rejected."""
        if self._lingers_until is None:
            super().handle_read()
        else:
            self.recv(BUFFER_BYTES)

    def handle_write(self) -> None:
        """Write data; after a rejection, shut down the sending side and linger.

        Closing immediately would reset the connection, and the client would lose the response (RFC 9112 §9.6).
        """
        if self.is_rejected and self.close_when_flushed and not self.total_outbufs_len:
            self._lingers_until = time.monotonic() + LINGER_S
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.handle_close()
        else:
            super().handle_write()

    def _enforce_deadlines(self, now: float) -> None:
        """Close the connection if its client reads nothing; answer 408 if its request is late."""
        if self._lingers_until is not None:
            if self.will_close or now > self._lingers_until:
                self.handle_close()
        elif self._is_stuck(now):
            # Waitress closes a connection only when it can write.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.handle_close()
        elif self.requests:
            self.waiting_since = now
        elif self.request is not None and now - self.waiting_since > self.request_timeout_s:
            self._reject_late()

    def _is_stuck(self, now: float) -> bool:
        """Return whether the client has read none of its data for `WRITE_TIMEOUT_S`."""
        if not self.total_outbufs_len or self.last_activity != self._progress:
            self._progress, self._progress_at = self.last_activity, now
            return False
        return now - self._progress_at > WRITE_TIMEOUT_S

    def _reject_late(self) -> None:
        """Answer a request that didn't arrive in time with 408."""
        with self.requests_lock:
            request, self.request = self.request, None
            request.reject(HTTPStatus.REQUEST_TIMEOUT)
            self.requests.append(request)
        self.server.add_task(self)  # type: ignore[arg-type]  # Waitress passes its channels
