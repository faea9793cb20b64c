"""A request and its response on gunicorn's gevent worker; imported by the worker alone.

A stream that waits for its next event needs no greenlet: whoever brings a delta sends it. So the greenlet that began
the response leaves it, and another one goes on with it when there is something that takes waiting.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import gevent
from gevent import socket
from gunicorn.http import errors as refusals
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

# The rest of a body that is read before the response, so that the connection can serve another request.
REST_BYTES, REST_S = 1024 * 1024, 1.0
# What is read and dropped after the last response. A client that is still sending would get a reset instead of it.
LINGER_BYTES, LINGER_S = 32 * 1024 * 1024, 10.0
PIECE = 64 * 1024
_dropped = bytearray(PIECE)
# A client that takes nothing for this long is let go, whatever it was sent. Exports give their clients longer.
WRITE_TIMEOUT_S = 10.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AT_ONCE = struct.pack("ii", 1, 0)
# The first kind that fits counts.
_REFUSALS: tuple[tuple[type[Exception], type[Problem]], ...] = (
    (refusals.ConfigurationProblem, InternalError),
    (refusals.LimitRequestLine, UriTooLong),
    (refusals.LimitRequestHeaders, HeadersTooLarge),
    (refusals.ExpectationFailed, ExpectationFailed),
    (refusals.UnsupportedTransferCoding, UnsupportedTransferCoding),
    (refusals.ParseException, BadRequest),
)


def refuse(sock: Any, problem: Problem) -> None:
    """Answer what did not become a request of the application, and close the connection once its client was told."""
    with contextlib.suppress(OSError):
        sock.settimeout(WRITE_TIMEOUT_S)
        sock.sendall(problems.message(problem))
    linger(sock)


def problem_of(error: BaseException) -> Problem:
    """Return the problem that stands for what gunicorn found in a request, or for a fault."""
    return next((problem() for kind, problem in _REFUSALS if isinstance(error, kind)), InternalError())


class Incoming:
    """A request's body. A client that waits for `100 Continue` gets it when the body is first wanted."""

    __slots__ = ("_asks", "_body", "_socket")

    def __init__(self, body: Any, sock: Any, *, asks: bool) -> None:
        self._body = body
        self._socket = sock
        self._asks = asks
        # Until a body is asked for it may come or not, so the connection cannot serve another request.
        body.failed = asks and not (isinstance(body.reader, LengthReader) and not body.reader.length)

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes. Raises `BadRequest` if the body is malformed or ends too early."""
        if self._asks:
            self._asks = self._body.failed = False
            self._socket.sendall(_CONTINUE)
        try:
            return self._body.read(size)  # type: ignore[no-any-return]
        except (refusals.ParseException, OSError) as error:
            raise BadRequest(problems.MALFORMED_BODY) from error


class Corked:
    """The socket of one request: the head of its response leaves together with the first piece of the body.

    Each of them alone is a packet, and a system call that costs more than making the response's bytes. Whatever else
    is asked of the socket lets go first what is held.
    """

    __slots__ = ("_held", "_request", "_socket", "_to_hold", "go_on", "heard", "is_left", "is_plain")

    def __init__(self, sock: Any, request: Any = None, *, is_plain: bool = True) -> None:
        self.is_plain = is_plain
        """Whether what is written to the file descriptor is what the client reads: not over TLS."""
        self._socket = sock
        self._held = b""
        self._to_hold = 1.0  # pieces
        self._request = request
        self.go_on: Callable[[], object] | None = None
        """What has somebody go on with a response that was left; None where it cannot be."""
        self.is_left = False
        self.heard = 0.0
        """When whoever left the response was last seen to send something (`time.monotonic`)."""

    def leave(self) -> bool:
        """Let the greenlet leave the response with its next piece, which is empty; return False where it cannot.

        That is where something of the request, or of the next one, waits to be read.
        """
        if self.go_on is None:
            return False
        reader = self._request.body.reader
        self.is_left = (
            isinstance(reader, LengthReader) and not reader.length and not self._request.unreader.buf.getvalue()
        )
        return self.is_left

    def resume(self) -> None:
        """Have the response gone on with, if it was left."""
        if self.is_left and self.go_on is not None:
            self.is_left = False
            self.go_on()

    def sendall(self, data: bytes) -> None:
        """Hold the first piece, which is the head; send others together with what is held, unless they are large."""
        if len(data) > PIECE:
            self.uncork()
        self._held = self._held + data if self._held else data
        if self._to_hold:
            self._to_hold -= 1
        else:
            self.uncork()

    def cork(self) -> None:
        """Hold all that comes: it is the end of the response."""
        self._to_hold = math.inf

    def uncork(self) -> None:
        """Send what is held."""
        held, self._held = self._held, b""
        if held:
            # gevent's own sendall asks the kernel for the size of its buffer every time, and has one timeout for all.
            rest = memoryview(held)
            while rest:
                rest = rest[self._socket.send(rest) :]

    def take_over(self) -> None:
        """Make the socket a new object: whoever closes the old one closes nothing any more."""
        old = self._socket
        timeout = old.gettimeout()
        self._socket = socket.socket(old.family, old.type, old.proto, fileno=old.detach())
        self._socket.settimeout(timeout)

    @property
    def socket(self) -> Any:
        """The socket itself."""
        return self._socket

    def __getattr__(self, name: str) -> Any:
        self.uncork()
        return getattr(self._socket, name)


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """A response that closes the connection if a part of the request's body is unread.

    Such a part would be taken for the next request, in the name of whoever else uses the connection (RFC 9112 §9.3).
    """

    is_body_left = False

    def send_headers(self) -> None:
        """Read a small rest of the body, or announce that the connection closes; then send the head."""
        if not self.headers_sent and not finish_body(self.req.body):
            self.is_body_left = True
            self.force_close()
        super().send_headers()


def finish_body(body: Body) -> bool:
    """Read the rest of a request's body; return False if it is large, slow or malformed, and so is not read."""
    rest = body.reader.length if isinstance(body.reader, LengthReader) else None  # None: as many chunks as come
    if rest == 0:
        return True
    if body.failed or (rest or 0) > REST_BYTES:
        return False
    with contextlib.suppress(Exception), gevent.Timeout(REST_S, False):  # noqa: FBT003 - gevent's own signature
        for _ in range(REST_BYTES // PIECE + 1):
            if not body.read(PIECE):
                return True
    return False


def linger(sock: Any) -> None:
    """Say that nothing more comes, and read what the client still sends (RFC 9112 §9.6)."""
    left = LINGER_BYTES
    with contextlib.suppress(OSError), gevent.Timeout(LINGER_S, False):  # noqa: FBT003 - gevent's own signature
        sock.shutdown(socket.SHUT_WR)
        while left > 0 and (count := sock.recv_into(_dropped)):
            left -= count
            gevent.sleep(0)  # a socket that always has something to read never lets others run


class Exchange:
    """One request and the response that is being sent to it."""

    def __init__(self, worker: Any, req: Any, corked: Corked, listener_name: Any, addr: Any) -> None:
        self.corked = corked
        self.listener_name = listener_name
        self.addr = addr
        self._worker = worker
        self._req = req
        self._begun = datetime.now()  # noqa: DTZ005 - as gunicorn's access log counts
        asks, req._expected_100_continue = req._expected_100_continue, False  # noqa: SLF001 - or gunicorn would answer it
        self._response, self._environ = wsgi.create(
            req, corked, addr, listener_name, worker.cfg, response_class=Response
        )
        self._environ["wsgi.input"] = Incoming(req.body, corked.socket, asks=asks)
        self._environ["wsgi.multithread"] = True
        self._answer: Any = None
        self._pieces: Iterator[bytes] = iter(())

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with this exchange."""
        return bool(self._response.should_close())

    @property
    def is_begun(self) -> bool:
        """Whether the client has been sent something."""
        return bool(self._response.headers_sent)

    def begin(self, *, closes: bool) -> None:
        """Call the application and send what there is of its answer."""
        if closes:
            self._response.force_close()
        self._answer = self._worker.wsgi(self._environ, self._response.start_response)
        self._pieces = iter(self._answer)
        if self.corked.socket.gettimeout() is None:
            self.corked.socket.settimeout(WRITE_TIMEOUT_S)
        self.send()

    def send(self) -> None:
        """Send the answer up to its end, or to where it is left."""
        try:
            if isinstance(self._answer, wsgi.FileWrapper):
                self._response.write_file(self._answer)
            else:
                for piece in self._pieces:
                    if piece:
                        self._response.write(piece)
                    elif self.corked.is_left:
                        return
            self._response.close()
        finally:
            if not self.corked.is_left:
                self._worker.log.access(self._response, self._req, self._environ, datetime.now() - self._begun)  # noqa: DTZ005
                if hasattr(self._answer, "close"):
                    self._answer.close()

    def abandon(self) -> None:
        """Have the connection closed at once, with what its client has not taken."""
        self.corked.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def end(self) -> None:
        """Tell gunicorn's hook that the request is over; wait for a client that is still sending a body."""
        if self._response.is_body_left:
            linger(self.corked.socket)
        else:
            self.corked.socket.settimeout(None)  # for as long as the next request takes to come
        logs.request_id.set("")
        self.corked.go_on = None  # it knows the exchange, and only the garbage collector would find such a circle
        try:
            self._worker.cfg.post_request(self._worker, self._req, self._environ, self._response)
        except Exception:
            self._worker.log.exception("Exception in post_request hook")
