"""One request and its response on gunicorn's gevent worker; only that worker imports this module.

It depends on gunicorn's HTTP classes, which are not a public API: `tests/server/test_gunicorn.py` fails if they change.
gunicorn has no setting for what this module adds: write timeouts, `100 Continue` on demand, safe handling of unread
bodies, and one packet for the head and the first chunk.
"""

from __future__ import annotations

import contextlib
import math
import struct
from datetime import datetime
from typing import Any

import gevent
from gevent import socket
from gunicorn.http import errors as http_errors
from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader

from chatkeep.errors import (
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    InternalError,
    Problem,
    UnsupportedTransferCoding,
    UriTooLong,
)
from chatkeep.runtime import logs
from chatkeep.web import problems

# The unread rest of a body that is drained before the response, so that the connection stays usable.
DRAIN_BYTES, DRAIN_S = 1024 * 1024, 1.0
# What is read and discarded after the last response: otherwise a client that is still sending gets a reset instead.
LINGER_BYTES, LINGER_S = 32 * 1024 * 1024, 10.0
BUFFER_BYTES = 64 * 1024
_discarded = bytearray(BUFFER_BYTES)
# Disconnect a client that reads nothing for this long. Exports allow more.
WRITE_TIMEOUT_S = 10.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# The first match counts.
_PROBLEMS: tuple[tuple[type[Exception], type[Problem]], ...] = (
    (http_errors.ConfigurationProblem, InternalError),
    (http_errors.LimitRequestLine, UriTooLong),
    (http_errors.LimitRequestHeaders, HeadersTooLarge),
    (http_errors.ExpectationFailed, ExpectationFailed),
    (http_errors.UnsupportedTransferCoding, UnsupportedTransferCoding),
    (http_errors.ParseException, BadRequest),
)


def refuse(sock: Any, problem: Problem) -> None:
    """Send a problem for a request that doesn't reach the application, then close the connection gracefully."""
    with contextlib.suppress(OSError):
        sock.settimeout(WRITE_TIMEOUT_S)
        sock.sendall(problems.message(problem))
    linger(sock)


def problem_of(error: BaseException) -> Problem:
    """Map an exception to a problem: gunicorn's parse errors to 4xx, all others to 500."""
    return next((problem() for kind, problem in _PROBLEMS if isinstance(error, kind)), InternalError())


class RequestBody:
    """A request's body, which sends `100 Continue` at the first read if the client expects it."""

    __slots__ = ("_body", "_expects_continue", "_socket")

    def __init__(self, body: Any, sock: Any, *, expects_continue: bool) -> None:
        self._body = body
        self._socket = sock
        self._expects_continue = expects_continue
        # Without `100 Continue` the body may or may not come, so the connection is not reusable.
        body.failed = expects_continue and not (isinstance(body.reader, LengthReader) and not body.reader.length)

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes. Raises `BadRequest` if the body is malformed or incomplete."""
        if self._expects_continue:
            self._expects_continue = self._body.failed = False
            self._socket.sendall(_CONTINUE)
        try:
            return self._body.read(size)  # type: ignore[no-any-return]
        except (http_errors.ParseException, OSError) as error:
            raise BadRequest(problems.MALFORMED_BODY) from error


class CorkedSocket:
    """A request's socket that sends the head of the response together with the first chunk of the body.

    A packet and a system call for the head alone cost more than building the response. Any other use of the socket
    flushes the buffer first.
    """

    __slots__ = ("_buffer", "_socket", "_to_buffer", "is_plain")

    def __init__(self, sock: Any, *, is_plain: bool = True) -> None:
        self.is_plain = is_plain
        """Whether bytes can be written to the file descriptor: False for TLS."""
        self._socket = sock
        self._buffer = b""
        self._to_buffer = 1.0  # writes

    def sendall(self, data: bytes) -> None:
        """Buffer the first write, which is the head; send later ones together with the buffer."""
        if len(data) > BUFFER_BYTES:
            self.uncork()
        self._buffer = self._buffer + data if self._buffer else data
        if self._to_buffer:
            self._to_buffer -= 1
        else:
            self.uncork()

    def cork(self) -> None:
        """Buffer all writes until `uncork`: the response ends now."""
        self._to_buffer = math.inf

    def uncork(self) -> None:
        """Flush the buffer."""
        data, self._buffer = self._buffer, b""
        if data:
            # gevent's sendall asks for the buffer's size at each call, and has one timeout for all of the data.
            rest = memoryview(data)
            while rest:
                rest = rest[self._socket.send(rest) :]

    @property
    def socket(self) -> Any:
        """The underlying socket."""
        return self._socket

    def __getattr__(self, name: str) -> Any:
        self.uncork()
        return getattr(self._socket, name)


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """A response that closes the connection if the request's body was not read completely.

    Otherwise the unread rest would be parsed as the next request (RFC 9112 §9.3).
    """

    has_unread_body = False

    def send_headers(self) -> None:
        """Drain the body or force `Connection: close`; then send the head."""
        if not self.headers_sent and not drain_body(self.req.body):
            self.has_unread_body = True
            self.force_close()
        super().send_headers()


def drain_body(body: Body) -> bool:
    """Read the rest of a request's body; return False if it is large, slow or malformed, and so was not drained."""
    rest = body.reader.length if isinstance(body.reader, LengthReader) else None  # None: chunked
    if rest == 0:
        return True
    if body.failed or (rest or 0) > DRAIN_BYTES:
        return False
    with contextlib.suppress(Exception), gevent.Timeout(DRAIN_S, False):  # noqa: FBT003 - gevent's own signature
        for _ in range(DRAIN_BYTES // BUFFER_BYTES + 1):
            if not body.read(BUFFER_BYTES):
                return True
    return False


def linger(sock: Any) -> None:
    """Shut down the sending side, and discard what the client still sends (RFC 9112 §9.6)."""
    left = LINGER_BYTES
    with contextlib.suppress(OSError), gevent.Timeout(LINGER_S, False):  # noqa: FBT003 - gevent's own signature
        sock.shutdown(socket.SHUT_WR)
        while left > 0 and (count := sock.recv_into(_discarded)):
            left -= count
            gevent.sleep(0)  # a socket that always has data would never yield to other greenlets


class Exchange:
    """One request and its response."""

    def __init__(self, worker: Any, req: Any, sock: CorkedSocket, listener_name: Any, addr: Any) -> None:
        self._worker = worker
        self._req = req
        self._socket = sock
        self._begun = datetime.now()  # noqa: DTZ005 - the clock of gunicorn's access log
        # Otherwise gunicorn would send `100 Continue` before the application wants the body.
        expects_continue, req._expected_100_continue = req._expected_100_continue, False  # noqa: SLF001
        self._response, self._environ = wsgi.create(req, sock, addr, listener_name, worker.cfg, response_class=Response)
        self._environ["wsgi.input"] = RequestBody(req.body, sock.socket, expects_continue=expects_continue)
        self._environ["wsgi.multithread"] = True

    @property
    def is_last(self) -> bool:
        """Whether the connection closes after this exchange."""
        return bool(self._response.should_close())

    @property
    def has_begun(self) -> bool:
        """Whether the head of the response was sent."""
        return bool(self._response.headers_sent)

    def run(self, *, closes: bool) -> None:
        """Call the application and send its response; ``closes`` forces `Connection: close`."""
        if closes:
            self._response.force_close()
        body = self._worker.wsgi(self._environ, self._response.start_response)
        if self._socket.socket.gettimeout() is None:
            self._socket.socket.settimeout(WRITE_TIMEOUT_S)
        try:
            for chunk in body:
                self._response.write(chunk)
            self._response.close()
        finally:
            self._worker.log.access(self._response, self._req, self._environ, datetime.now() - self._begun)  # noqa: DTZ005
            if hasattr(body, "close"):
                body.close()
        self._socket.uncork()

    def reset(self) -> None:
        """Make the coming close reset the connection: the client doesn't read what is buffered for it."""
        self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def end(self) -> None:
        """Prepare the connection for its next request or its close, and call gunicorn's `post_request` hook."""
        if self._response.has_unread_body:
            linger(self._socket.socket)
        else:
            self._socket.socket.settimeout(None)  # the keep-alive timeout is the worker's
        logs.request_id.set("")
        try:
            self._worker.cfg.post_request(self._worker, self._req, self._environ, self._response)
        except Exception:
            self._worker.log.exception("Exception in post_request hook")
