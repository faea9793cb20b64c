"""The development server of `python app.py`: Werkzeug's, with the HTTP behaviour of the production servers.

It depends on details of Werkzeug's handler, which `tests/server/test_werkzeug.py` guards.
"""

from __future__ import annotations

import io
import re
import socket
import time
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from typing import TYPE_CHECKING, Any

from werkzeug.serving import DechunkedInput, ThreadedWSGIServer, WSGIRequestHandler

from chatkeep.errors import BadRequest, RequestTimeout
from chatkeep.server import listening
from chatkeep.web import problems

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

WRITE_TIMEOUT_S = 10.0
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_MALFORMED = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class DevelopmentServer(ThreadedWSGIServer):
    """A server with a thread for each connection and exclusive use of its port."""

    allow_reuse_address = allow_reuse_port = False

    def server_bind(self) -> None:
        """Bind the socket to its address."""
        listening.take_alone(self.socket)
        super().server_bind()


class RequestHandler(WSGIRequestHandler):
    """Handles requests like the production servers: streams are chunked, and the log has no query strings."""

    protocol_version = "HTTP/1.1"
    timeout = WRITE_TIMEOUT_S
    request_timeout_s = 10.0
    _expects_continue = False

    def setup(self) -> None:
        """Set the deadline for receiving the request."""
        super().setup()
        self.rfile = io.BufferedReader(_DeadlineReader(self.connection, self.request_timeout_s))

    def parse_request(self) -> bool:
        """Parse the head; send an error and return False if it is malformed or asks for an unsupported feature."""
        if not super().parse_request():
            return False
        names = [self.command, *self.headers.keys()]
        coding, expectation = (self.headers.get(name, "").lower() for name in ("Transfer-Encoding", "Expect"))
        status = None
        if any(isinstance(defect, _MALFORMED) for defect in self.headers.defects) or not all(
            map(_TOKEN.fullmatch, names)
        ):
            status = 400
        elif coding not in {"", "chunked"}:
            status = 501
        elif expectation not in {"", "100-continue"}:
            status = 417
        if status is not None:
            self.send_error(status)
        return status is None

    def handle_expect_100(self) -> bool:
        """Postpone `100 Continue` until the body is read."""
        del self.headers["Expect"]
        self._expects_continue = True
        return True

    def make_environ(self) -> WSGIEnvironment:
        """Return the WSGI environ with a strict request body."""
        environ = super().make_environ()
        received: Any = self.rfile
        body = _StrictChunks(received) if isinstance(environ["wsgi.input"], DechunkedInput) else received
        environ["wsgi.input"] = _RequestBody(body, self.wfile, expects_continue=self._expects_continue)
        self.rfile = _UnreadInput(received)
        self.close_connection = True
        return environ

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - Python's signature
        """Send a problem for a request that could not be parsed."""
        self.log_error("")
        self.wfile.write(problems.message(problems.of_status(code)()))
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002 - Werkzeug's signature
        """Log a request without its query string, which may contain search terms."""
        path = getattr(self, "path", "").partition("?")[0]
        self.log("info", "%s %r %s", self.command or "-", path, getattr(code, "value", code))

    def log_error(self, format: str, *args: Any) -> None:  # noqa: ARG002 - Werkzeug's signature
        """Log that a request could not be parsed, without quoting it."""
        self.log("error", "a request could not be read")


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until the request's deadline, then raises `TimeoutError`."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        try:
            return self._socket.recv_into(buffer)
        finally:
            self._socket.settimeout(WRITE_TIMEOUT_S)


class _UnreadInput(io.BufferedIOBase):
    """Input after the request, which Werkzeug discards before it closes the response.

    Reading returns no data if the client has disconnected. An exception would skip closing the response, and the drain
    would wait for it.
    """

    def __init__(self, received: io.BufferedReader) -> None:
        self._received = received

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, or none if the client is gone."""
        try:
            return self._received.read(size)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the input."""
        self._received.close()
        super().close()


class _RequestBody:
    """A request's body, which sends `100 Continue` at the first read if the client expects it."""

    def __init__(self, body: Any, output: Any, *, expects_continue: bool) -> None:
        self._body = body
        self._output = output
        self._expects_continue = expects_continue

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes. Raises `RequestTimeout`, or `BadRequest` for a malformed or incomplete body."""
        if self._expects_continue:
            self._expects_continue = False
            self._output.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._output.flush()
        try:
            return self._body.read(size)  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise RequestTimeout from error
        except OSError as error:
            raise BadRequest(problems.MALFORMED_BODY) from error


class _StrictChunks(DechunkedInput):
    """A chunked body with the chunk sizes of RFC 9112 only: `int` would accept more, such as signs."""

    def read_chunk_len(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self._rfile.readline(1024))
        if found is None:
            raise OSError
        return int(found[1], 16)
