"""A scripted provider: a real server of Chat Completions on raw sockets that answers or misbehaves by request.

As a library::

    with Upstream() as upstream:
        upstream.script("status=500", "")        # one answer each for the next requests; "" is the default answer
        ...                                      # upstream.url, .requests, .connections, .active, .aborted

As a program: ``python -m tests.upstream PORT`` prints its URL as the first line and serves until it is killed;
``GET /stats`` tells what it has seen, ``GET /v1/models`` the only model, unless the script has something else to say.

What an answer is like is a *specification*, a comma-separated list of the words below. It is taken from the script,
else from the last user message, between two number signs, as in ``Tell me more #n=50,r=20#``, else it is empty: the
reply echoes the message. `reply_to` computes the reply that a message will get. Whatever is specified, a model named
``llama``, ``mistral`` or ``gemma`` refuses messages that its chat template does not take (`tests.templates`).

=======================  ===============================================================================================
``n=50`` ``seed=7``      fifty generated words (`generate`), with Chinese, emoji and right-to-left ones among them
``r=20``                 twenty tokens a second; 0, the default, is as fast as possible
``think=3``              three reasoning deltas first; ``think_as=reasoning`` spells the field the other way
``split``                bytes are written in random pieces, code points cut (seeded by ``seed``)
``crlf`` ``cr`` ``bom``  other line ends; a byte order mark first
``comments``             comment lines and named events between the chunks
``halves``               each emoji comes as two escaped surrogates in two deltas
``odd``                  null contents, missing deltas, empty choices, unknown fields
``no_usage`` ``close``   no usage chunk; the connection is closed after the answer
``vanish``               the connection is closed after the answer without having been announced
``length``               a body with Content-Length instead of chunks
``json``                 one JSON object instead of a stream
``finish=length``        the finish reason
``fault=NAME:ARGUMENT``  what goes wrong, see the functions of `tests.upstream_faults`
``first=2``              the fault is for the first two requests with this very specification only
``p=0.5``                the fault is for half of the requests (seeded)
``window=80``            a prompt of more than eighty characters is refused as too long for the model
``status=429``           an error status instead, with ``retry_after=3`` (or ``date``), ``retry_after_ms=``,
                         ``should_retry=``, ``leak`` (the message contains the Authorization header), ``hang`` (amid
                         the error's body)
``refuse=REFUSAL``       what some providers do not take is refused, see `tests.refusals`
``echo``                 a failure also contains the request: its headers and its messages
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
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self

from tests import refusals, templates, upstream_faults
from tests.client import SLOW

MARKER = re.compile(r"#([a-z_]+(?:=[^#,]*)?(?:,[a-z_]+(?:=[^#,]*)?)*)#")
WORDS = re.split(  # at single spaces: some words are other white space
    " ",
    "the quick brown fox jumps over a lazy dog and then some more text follows it with care "
    "你好 世界 对话 服务器 😀 👩‍👩‍👧 🇨🇳 naïve Ω ﷽ שלום مرحبا **bold** `code` \n\n - \u2028",
)


def generate(n: int, seed: int = 0) -> list[str]:
    """Return ``n`` tokens of text that depend on nothing but ``seed``."""
    chosen = random.Random(seed)  # noqa: S311 - it must repeat itself
    tokens = [chosen.choice(WORDS) + " " for _ in range(n)]
    return tokens if "".join(tokens).strip() else [f"{WORDS[0]} "] * n  # blanks alone are no reply


def parse(message: str) -> dict[str, str]:
    """Return the words of the specification that ``message`` holds, or is; of several the last one counts."""
    found = MARKER.findall(message)
    text = found[-1] if found else ""
    return {name: value for name, _, value in (word.partition("=") for word in text.split(",") if word)}


def tokens_of(spec: dict[str, str], message: str) -> list[str]:
    """Return the tokens of the reply to ``message``."""
    if "n" in spec:
        return generate(int(spec["n"]), int(spec.get("seed", 0)))
    return re.findall(r"\S+\s*|\s+", f"You said: {message}")


def reply_to(message: str, script: str = "") -> str:
    """Return the whole text that a request gets whose last user message is ``message``."""
    return "".join(tokens_of(parse(f"#{script}#" if script else message), message))


class ClientGone(Exception):
    """The client closed its connection while the reply was going on."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked; header names are in lower case."""

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


class Upstream:
    """The server; it serves while it is entered."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Bind to ``port`` of the loopback address, a free one by default; ``tls`` makes it an https server."""
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
        """Answer the next requests by these specifications, in order, whatever their messages say."""
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
        """Return whether the condition comes true within ``seconds``."""
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
        return sock.recv(1, socket.MSG_PEEK) == b"C"  # CONNECT: it plays the proxy, TLS comes after it

    def _wrap(self, sock: socket.socket) -> socket.socket:
        assert self.tls is not None
        wrapped = self.tls.wrap_socket(sock, server_side=True)
        with self.lock:
            self._open.add(wrapped)
        return wrapped

    def _answer(self, sock: socket.socket, reader: Any) -> bool:
        """Answer one request; return whether the connection stays."""
        method, target, version = (reader.readline(65536).decode("latin-1").split() + [""] * 3)[:3]
        if not version.startswith("HTTP/"):
            return False  # the end, a request that was cut off, or another protocol
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


class Exchange:
    """One request and the answer to it."""

    def __init__(self, upstream: Upstream, sock: socket.socket, request: Request, spec: dict[str, str]) -> None:
        self.upstream = upstream
        self.sock = sock
        self.request = request
        self.spec = spec
        self.pieces = random.Random(int(spec.get("seed", 0)))  # noqa: S311 - the same
        self.chunked = "length" not in spec
        self.held: list[bytes] | None = None if self.chunked else []

    # The answer as a whole

    def run(self) -> bool:
        """Answer; return whether the connection stays open."""
        if refusal := self.refusal():
            status, error = refusal
            return self.whole(json.dumps(error).encode(), status=status)
        if "status" in self.spec and self._is_faulty():
            return self.error_status()
        fault, _, argument = self.spec.get("fault", "").partition(":")
        if fault and self._is_faulty():
            return bool(getattr(upstream_faults, fault)(self, argument))
        if self.request.path.endswith("/models"):
            return self.whole(json.dumps({"object": "list", "data": [{"id": "gpt-4o-mini"}]}).encode())
        if "json" in self.spec or not self.request.body.get("stream"):
            return self.whole(json.dumps(self.completion()).encode())
        return self.stream()

    def refusal(self) -> refusals.Refusal | None:
        """Return the status and the body with which the request is refused, if it is."""
        if sum(len(message["content"]) for message in self.request.messages) > int(self.spec.get("window", 1 << 30)):
            said = f"Only {self.spec['window']} characters fit."
            error = {"message": said, "type": "invalid_request_error", "code": "context_length_exceeded"}
            return 400, {"error": error}
        model = self.request.body.get("model")
        if model in templates.TEMPLATES:
            try:
                templates.render(model, self.request.messages)
            except templates.Refused as reason:
                return 400, {"object": "error", "message": str(reason), "type": "BadRequestError", "code": 400}
        return refusals.refuse(self.spec.get("refuse", ""), self.request.body)

    def stream(self) -> bool:
        """Answer with an event stream that is in order."""
        self.head()
        self.deltas(self.tokens())
        self.event(self.chunk({}, finish_reason=self.spec.get("finish", "stop")))
        options = self.request.body.get("stream_options") or {}
        if options.get("include_usage") and "no_usage" not in self.spec:
            self.event({"choices": [], "model": self.model, "usage": self.usage()})
        self.write(b"data: [DONE]\n\n")
        return self.end()

    def error_status(self) -> bool:
        """Answer with an error status and its headers."""
        status = int(self.spec["status"])
        said = self.told(f"Scripted failure {status}.")
        if "leak" in self.spec:
            said += f" The request had {self.request.headers.get('authorization')}."
        body = json.dumps({"error": {"message": said, "type": "scripted", "code": None}}).encode()
        if "hang" in self.spec:
            self.raw(f"HTTP/1.1 {status} X\r\nContent-Length: 9999\r\n\r\n".encode() + body)
            return self.hang()
        return self.whole(body, status=status, headers=self._retry_headers())

    def told(self, sentence: str) -> str:
        """Return what a failure says."""
        if "echo" not in self.spec:
            return sentence
        common = ("host", "user-agent", "content-", "accept")
        headers = [value for name, value in self.request.headers.items() if not name.startswith(common)]
        # Readers cut long sentences off: first what is worth most.
        return " ".join([sentence, *headers, *(message["content"] for message in self.request.messages)])

    # What it consists of

    @property
    def model(self) -> str:
        """The model's full name, as providers give it."""
        return f"{self.request.body.get('model')}-2026"

    def tokens(self) -> list[str]:
        """Return the reply's tokens."""
        return tokens_of(self.spec, self.request.message)

    def usage(self) -> dict[str, int]:
        """Return token counts: of messages in, of tokens out."""
        inward, outward = len(self.request.messages), len(self.tokens())
        return {"prompt_tokens": inward, "completion_tokens": outward, "total_tokens": inward + outward}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """Return a chunk of the stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.model,
            "system_fingerprint": "fp",
            "choices": [choice],
        }

    def completion(self) -> dict[str, Any]:
        """Return the reply as one object."""
        message = {"role": "assistant", "content": "".join(self.tokens())}
        choice = {"index": 0, "message": message, "finish_reason": self.spec.get("finish", "stop")}
        return {"object": "chat.completion", "model": self.model, "choices": [choice], "usage": self.usage()}

    def deltas(self, tokens: list[str]) -> None:
        """Send the tokens at their rate."""
        self.event(self.chunk({"role": "assistant", "content": ""}))
        for number in range(int(self.spec.get("think", 0))):
            self.pause(number)
            self.event(self.chunk({self.spec.get("think_as", "reasoning_content"): f"thought {number} "}))
        for number, token in enumerate(tokens):
            self.pause(number)
            for piece in _halves(token) if "halves" in self.spec else [token]:
                self.event(self.chunk({"content": piece}))
            self.oddities(number)

    def begin(self, tokens: str) -> None:
        """Send the head and this many tokens, none by default."""
        self.head()
        self.deltas(self.tokens()[: int(tokens or 0)])

    def oddities(self, number: int) -> None:
        """Send what is legal and unusual, where that is asked for."""
        if "comments" in self.spec:
            self.write(b": keep-alive\n\n" if number % 2 else b"event: ping\nid: 7\nretry: 10\ndata: {}\n\n")
        if "odd" in self.spec:
            self.event({"choices": []})
            self.event({"choices": None, "error": None, "x": {"y": [1]}})
            self.event({"choices": [{"index": 0}]})
            self.event({"choices": [{"delta": {"content": None, "tool_calls": None}, "finish_reason": ""}]})
            self.event({"choices": [{"delta": {"content": ""}, "finish_reason": None}], "model": "", "id": None})
            self.event({"choices": [{"delta": {"content": [{"type": "text"}]}}], "usage": None})

    # How it is sent

    def head(self, kind: str = "text/event-stream; charset=utf-8", **more: str) -> None:
        """Send the head of a 200."""
        if not self.chunked:
            return
        length = {} if "Content-Length" in more else {"Transfer-Encoding": "chunked"}
        self.raw(self._head(200, {"Content-Type": kind, **length, **more}))
        if "bom" in self.spec:
            self.write(b"\xef\xbb\xbf")

    def event(self, value: dict[str, Any]) -> None:
        """Send a chunk as an event."""
        self.write(self.rendered(value))

    def rendered(self, value: dict[str, Any]) -> bytes:
        """Return a chunk as an event."""
        text = json.dumps(value, ensure_ascii="halves" in self.spec)
        return b"data: " + text.encode() + b"\n\n"

    def write(self, text: bytes) -> None:
        """Send bytes of the body, in the shape that is asked for."""
        if "crlf" in self.spec:
            text = text.replace(b"\n", b"\r\n")
        if "cr" in self.spec:
            text = text.replace(b"\n", b"\r")
        for piece in self._split(text) if "split" in self.spec else [text]:
            self.send(piece)

    def end(self) -> bool:
        """End the body; return whether the connection stays open."""
        if self.held is not None:
            body = b"".join(self.held)
            self.raw(self._head(200, {"Content-Type": "text/event-stream", "Content-Length": str(len(body))}) + body)
        else:
            self.raw(b"0\r\n\r\n")
        return not {"close", "vanish"} & self.spec.keys()

    def whole(
        self, body: bytes, status: int = 200, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> bool:
        """Answer with a body of known length."""
        length = {"Content-Type": kind, "Content-Length": str(len(body))}
        self.raw(self._head(status, length | (headers or {})) + body)
        return "close" not in self.spec

    def pause(self, number: int) -> None:
        """Wait for the turn of the token with this number."""
        rate = float(self.spec.get("r", 0))
        if rate and number:
            self.sleep(1 / rate)

    def sleep(self, seconds: float) -> None:
        """Wait; raise `ClientGone` as soon as the client closes the connection."""
        self.sock.settimeout(seconds)
        try:
            gone = not socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
        except TimeoutError:
            return
        finally:
            self.sock.settimeout(None)
        if gone or not isinstance(self.sock, ssl.SSLSocket):
            raise ClientGone
        self.sock.recv(1)  # TLS: the close comes as an alert
        raise ClientGone

    def hang(self) -> bool:
        """Say nothing until the client goes."""
        while True:
            self.sleep(60)

    def send(self, piece: bytes) -> None:
        """Send bytes of the body as they are, in a chunk of their own."""
        if self.held is not None:
            self.held.append(piece)
        else:
            self.raw(b"%x\r\n%b\r\n" % (len(piece), piece))

    def raw(self, text: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(text)

    def _split(self, text: bytes) -> Iterator[bytes]:
        while text:
            size = self.pieces.randint(1, 40)
            yield text[:size]
            text = text[size:]

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        if "close" in self.spec:
            headers = {**headers, "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode()

    def _retry_headers(self) -> dict[str, str]:
        after = self.spec.get("retry_after")
        if after == "date":
            after = format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
        names = {"Retry-After": after, "Location": "/v2" if self.spec["status"].startswith("3") else None}
        names |= {"retry-after-ms": self.spec.get("retry_after_ms"), "x-should-retry": self.spec.get("should_retry")}
        return {name: value for name, value in names.items() if value is not None}

    def _is_faulty(self) -> bool:
        with self.upstream.lock:
            name = repr(self.spec)
            self.upstream.seen[name] += 1
            if self.upstream.seen[name] > int(self.spec.get("first", sys.maxsize)):
                return False
            return self.upstream.random.random() < float(self.spec.get("p", 1))


def _halves(token: str) -> Iterator[str]:
    """Yield the token with every character beyond the 16-bit plane cut into its surrogates."""
    for char in token:
        if char > "\uffff":
            pair = char.encode("utf-16-be")
            yield pair[:2].decode("utf-16-be", "surrogatepass")
            yield pair[2:].decode("utf-16-be", "surrogatepass")
        else:
            yield char


def main() -> None:
    """Serve until killed."""
    with Upstream(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as upstream:
        print(upstream.url, flush=True)  # noqa: T201 - a program
        threading.Event().wait()


if __name__ == "__main__":
    main()
