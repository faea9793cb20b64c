"""How Flask's own server answers a connection, for `python app.py`."""

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


class Server(ThreadedWSGIServer):
    """Answers each connection by a thread of its own, and shares its port with no other program."""

    allow_reuse_address = allow_reuse_port = False

    def server_bind(self) -> None:
        """Take the address."""
        listening.take_alone(self.socket)
        super().server_bind()


class Answering(WSGIRequestHandler):
    """Answers as the production servers do, with chunked streams, and logs no more than they may."""

    protocol_version = "HTTP/1.1"
    timeout = WRITE_TIMEOUT_S
    request_s = 10.0
    _asks = False

    def setup(self) -> None:
        """Let a request arrive in time."""
        super().setup()
        self.rfile = io.BufferedReader(_Timely(self.connection, self.request_s))

    def parse_request(self) -> bool:
        """Read a request's head; answer it and return False if it is malformed, or asks for what there is not."""
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
        """Leave it to the body to be asked for."""
        del self.headers["Expect"]
        self._asks = True
        return True

    def make_environ(self) -> WSGIEnvironment:
        """Return the environment of the application's call."""
        environ = super().make_environ()
        received: Any = self.rfile
        body = _Chunks(received) if isinstance(environ["wsgi.input"], DechunkedInput) else received
        environ["wsgi.input"] = _Incoming(body, self.wfile, asks=self._asks)
        self.rfile = _Remainder(received)
        self.close_connection = True
        return environ

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - Python's signature
        """Answer what is no request with a problem."""
        self.log_error("")
        self.wfile.write(problems.message(problems.of_status(code)()))
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002 - Werkzeug's signature
        """Log a request without its query, which may hold what people search for."""
        path = getattr(self, "path", "").partition("?")[0]
        self.log("info", "%s %r %s", self.command or "-", path, getattr(code, "value", code))

    def log_error(self, format: str, *args: Any) -> None:  # noqa: ARG002 - Werkzeug's signature
        """Log that a request could not be read, and nothing of it."""
        self.log("error", "a request could not be read")


class _Timely(io.RawIOBase):
    """What comes on a connection, until a request must have arrived."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        try:
            return self._socket.recv_into(buffer)
        finally:
            self._socket.settimeout(WRITE_TIMEOUT_S)


class _Remainder(io.BufferedIOBase):
    """What a client sends behind its request, which Werkzeug throws away before it closes the response.

    A client that has left by then is no error: it would keep the response from being closed, and the drain waiting.
    """

    def __init__(self, received: io.BufferedReader) -> None:
        self._received = received

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, none where no more can come."""
        try:
            return self._received.read(size)
        except OSError:
            return b""

    def close(self) -> None:
        """Give up what was not read."""
        self._received.close()
        super().close()


class _Incoming:
    """A request's body. A client that waits for `100 Continue` gets it when the body is first wanted."""

    def __init__(self, body: Any, answers: Any, *, asks: bool) -> None:
        self._body = body
        self._answers = answers
        self._asks = asks

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes. Raises `BadRequest` if it is malformed or cut off, and `RequestTimeout`."""
        if self._asks:
            self._asks = False
            self._answers.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._answers.flush()
        try:
            return self._body.read(size)  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise RequestTimeout from error
        except OSError as error:
            raise BadRequest(problems.MALFORMED_BODY) from error


class _Chunks(DechunkedInput):
    """A chunked body whose sizes are written as RFC 9112 has them; Python reads more than that as numbers."""

    def read_chunk_len(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self._rfile.readline(1024))
        if found is None:
            raise OSError
        return int(found[1], 16)
