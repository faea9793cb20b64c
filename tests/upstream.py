"""A scripted provider: a real Chat Completions server on raw sockets that answers or misbehaves as scripted.

As a library::

    with Upstream() as upstream:
        upstream.script("status=500", "")        # one answer each for the next requests; "" is the default answer
        ...                                      # upstream.url, .requests, .connections, .active, .aborted

As a program: ``python -m tests.upstream PORT`` prints its URL as the first line and serves until it is killed.
``GET /stats`` returns its counters, ``GET /v1/models`` the only model, unless the script says otherwise.

A *specification* of an answer is a comma-separated list of the words below. It comes from the script, or else from the
last user message, between two number signs, as in ``Tell me more #n=50,r=20#``. An empty one echoes the message.
`reply_to` computes the reply to a message. A model named ``llama``, ``mistral`` or ``gemma`` always refuses messages
that its chat template does not accept (`tests.templates`).

=======================  ===============================================================================================
``n=50`` ``seed=7``      fifty generated words (`generate`), including Chinese, emoji and right-to-left ones
``r=20``                 twenty tokens a second; 0, the default, is as fast as possible
``think=3``              three reasoning deltas first; ``think_as=reasoning`` spells the field the other way
``split``                bytes are written in random pieces, also within code points (seeded by ``seed``)
``crlf`` ``cr`` ``bom``  other line ends; a byte order mark at the beginning
``comments``             comment lines and named events between the chunks
``halves``               each emoji as two escaped surrogates in two deltas
``odd``                  null contents, missing deltas, empty choices, unknown fields
``no_usage`` ``close``   no usage chunk; the connection is closed after the answer
``vanish``               the connection is closed after the answer without an announcement
``length``               a body with Content-Length, not chunked
``json``                 one JSON object, not a stream
``finish=length``        the finish reason
``fault=NAME:ARGUMENT``  a fault: see the functions of `tests.upstream_faults`
``first=2``              the fault only for the first two requests with the same specification
``p=0.5``                the fault for half of the requests (seeded)
``window=80``            a prompt of more than eighty characters is too long for the model
``status=429``           an error status, with ``retry_after=3`` (or ``date``), ``retry_after_ms=``,
                         ``should_retry=``, ``leak`` (the message has the Authorization header), ``hang`` (within the
                         error's body)
``refuse=REFUSAL``       a refusal of some dialect, see `tests.refusals`
``echo``                 failures quote the request's headers and messages
=======================  ===============================================================================================
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import ssl
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from tests.client import SLOW
from tests.exchange import ClientGone, Exchange

MARKER = re.compile(r"#([a-z_]+(?:=[^#,]*)?(?:,[a-z_]+(?:=[^#,]*)?)*)#")
WORDS = re.split(  # at single spaces, because some words are other white space
    " ",
    "the quick brown fox jumps over a lazy dog and then some more text follows it with care "
    "你好 世界 对话 服务器 😀 👩‍👩‍👧 🇨🇳 naïve Ω ﷽ שלום مرحبا **bold** `code` \n\n - \u2028",
)


def generate(n: int, seed: int = 0) -> list[str]:
    """Return ``n`` tokens of text, which depend only on ``seed``."""
    chosen = random.Random(seed)  # noqa: S311 - reproducible
    tokens = [chosen.choice(WORDS) + " " for _ in range(n)]
    return tokens if "".join(tokens).strip() else [f"{WORDS[0]} "] * n  # a blank text is no reply


def parse(message: str) -> dict[str, str]:
    """Parse the last specification in ``message``."""
    found = MARKER.findall(message)
    text = found[-1] if found else ""
    return {name: value for name, _, value in (word.partition("=") for word in text.split(",") if word)}


def tokens_of(spec: dict[str, str], message: str) -> list[str]:
    """Return the tokens of the reply to ``message``."""
    if "n" in spec:
        return generate(int(spec["n"]), int(spec.get("seed", 0)))
    return re.findall(r"\S+\s*|\s+", f"You said: {message}")


def reply_to(message: str, script: str = "") -> str:
    """Return the whole reply to a request with the last user message ``message``."""
    return "".join(tokens_of(parse(f"#{script}#" if script else message), message))


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt's messages."""
        return list(self.body.get("messages", []))

    @property
    def message(self) -> str:
        """The last user message."""
        return next((item["content"] for item in reversed(self.messages) if item.get("role") == "user"), "")

    def tokens(self, spec: dict[str, str]) -> list[str]:
        """Return the tokens of the reply."""
        return tokens_of(spec, self.message)


class Upstream:
    """The server. Enter it to serve."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Bind to a loopback ``port``, a free one by default. ``tls`` makes it an https server."""
        self.requests: list[Request] = []
        self.connections = 0
        self.active = 0
        self.aborted: list[float] = []
        self.tls = tls
        self.random = random.Random(0)  # noqa: S311 - the same
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._scripts: deque[str] = deque()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def script(self, *specs: str) -> None:
        """Answer the next requests by these specifications, in order."""
        self._scripts.extend(specs)

    def close(self) -> None:
        """Close the listener and every connection, and wait for the threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def wait_for(self, condition: Callable[[Upstream], bool], seconds: float = 5.0) -> bool:
        """Return whether the condition becomes true within ``seconds``."""
        deadline = time.monotonic() + seconds * SLOW
        while not condition(self):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def spec_for(self, request: Request) -> dict[str, str]:
        """Return the specification of the answer to ``request``."""
        with self.lock:
            if not self._scripts:
                return parse(request.message)
            script = self._scripts.popleft()
        return parse(f"#{script}#")

    def stats(self) -> dict[str, Any]:
        """Return the counters."""
        return {
            "requests": len(self.requests),
            "connections": self.connections,
            "active": self.active,
            "aborted": len(self.aborted),
        }

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self._open.add(sock)
                self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        raw = sock
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls and not self._is_plain(sock):
                sock = self._wrap(raw)
            with sock.makefile("rb") as reader:
                while self._answer(sock, reader):
                    pass
        except OSError:
            pass
        finally:
            with self.lock:
                self._open.discard(raw)
                self._open.discard(sock)
            sock.close()

    def _is_plain(self, sock: socket.socket) -> bool:
        return sock.recv(1, socket.MSG_PEEK) == b"C"  # CONNECT: it acts as a proxy, TLS follows

    def _wrap(self, sock: socket.socket) -> socket.socket:
        assert self.tls is not None
        wrapped = self.tls.wrap_socket(sock, server_side=True)
        with self.lock:
            self._open.add(wrapped)
        return wrapped

    def _answer(self, sock: socket.socket, reader: Any) -> bool:
        """Answer one request. Return whether the connection stays open."""
        method, target, version = (reader.readline(65536).decode("latin-1").split() + [""] * 3)[:3]
        if not version.startswith("HTTP/"):
            return False  # the end, an incomplete request, or another protocol
        headers = dict(_headers(reader))
        if method == "CONNECT":
            return self._connect(sock, target, headers)
        body = reader.read(int(headers.get("content-length", 0)))
        if len(body) < int(headers.get("content-length", 0)):
            return False
        if method == "GET" and not target.endswith("/models"):
            return Exchange(self, sock, Request(target, headers, {}), {}).whole(json.dumps(self.stats()).encode())
        request = Request(target, headers, json.loads(body or b"{}"))
        self.requests.append(request)
        return self._run(Exchange(self, sock, request, self.spec_for(request)))

    def _connect(self, sock: socket.socket, target: str, headers: dict[str, str]) -> bool:
        self.requests.append(Request(target, headers, {}))
        if not self.tls:
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return False
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        wrapped = self._wrap(sock)
        with wrapped, wrapped.makefile("rb") as reader:
            while self._answer(wrapped, reader):
                pass
        return False

    def _run(self, exchange: Exchange) -> bool:
        with self.lock:
            self.active += 1
        try:
            return exchange.run()
        except (ClientGone, ConnectionError, ssl.SSLError):
            self.aborted.append(time.monotonic())
            return False
        finally:
            with self.lock:
                self.active -= 1


def _headers(reader: Any) -> Iterator[tuple[str, str]]:
    while line := reader.readline(65536).decode("latin-1").strip():
        name, _, value = line.partition(":")
        yield name.lower(), value.strip()


def main() -> None:
    """Serve until killed."""
    with Upstream(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as upstream:
        print(upstream.url, flush=True)  # noqa: T201 - a program
        threading.Event().wait()


if __name__ == "__main__":
    main()
