"""One exchange of the scripted provider: a request and its specified answer (`tests.upstream`)."""

from __future__ import annotations

import json
import random
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from tests import refusals, templates, upstream_faults

if TYPE_CHECKING:
    from tests.upstream import Request, Upstream


class ClientGone(Exception):
    """The client closed its connection during the reply."""


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

    # Whole answers

    def run(self) -> bool:
        """Answer. Return whether the connection stays open."""
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
        """Return the status and body of the refusal, if the request is refused."""
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
        """Answer with a correct event stream."""
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
        """Return a failure's message."""
        if "echo" not in self.spec:
            return sentence
        common = ("host", "user-agent", "content-", "accept")
        headers = [value for name, value in self.request.headers.items() if not name.startswith(common)]
        # Clients truncate long messages, so the secrets come first.
        return " ".join([sentence, *headers, *(message["content"] for message in self.request.messages)])

    # Parts

    @property
    def model(self) -> str:
        """The model's full name, like providers return it."""
        return f"{self.request.body.get('model')}-2026"

    def tokens(self) -> list[str]:
        """Return the reply's tokens."""
        return self.request.tokens(self.spec)

    def usage(self) -> dict[str, int]:
        """Return the usage: messages in, tokens out."""
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
        """Send legal but unusual data, if specified."""
        if "comments" in self.spec:
            self.write(b": keep-alive\n\n" if number % 2 else b"event: ping\nid: 7\nretry: 10\ndata: {}\n\n")
        if "odd" in self.spec:
            self.event({"choices": []})
            self.event({"choices": None, "error": None, "x": {"y": [1]}})
            self.event({"choices": [{"index": 0}]})
            self.event({"choices": [{"delta": {"content": None, "tool_calls": None}, "finish_reason": ""}]})
            self.event({"choices": [{"delta": {"content": ""}, "finish_reason": None}], "model": "", "id": None})
            self.event({"choices": [{"delta": {"content": [{"type": "text"}]}}], "usage": None})

    # Sending

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
        """Send bytes of the body with the specified line ends and splits."""
        if "crlf" in self.spec:
            text = text.replace(b"\n", b"\r\n")
        if "cr" in self.spec:
            text = text.replace(b"\n", b"\r")
        for piece in self._split(text) if "split" in self.spec else [text]:
            self.send(piece)

    def end(self) -> bool:
        """End the body. Return whether the connection stays open."""
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
        """Wait until the token with this number is due."""
        rate = float(self.spec.get("r", 0))
        if rate and number:
            self.sleep(1 / rate)

    def sleep(self, seconds: float) -> None:
        """Wait. Raises `ClientGone` when the client closes the connection."""
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
        """Send nothing until the client closes the connection."""
        while True:
            self.sleep(60)

    def send(self, piece: bytes) -> None:
        """Send bytes of the body unchanged, in a chunk of their own."""
        if self.held is not None:
            self.held.append(piece)
        else:
            self.raw(b"%x\r\n%b\r\n" % (len(piece), piece))

    def raw(self, text: bytes) -> None:
        """Send raw bytes."""
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
    """Yield the token with every character beyond the BMP split into its surrogates."""
    for char in token:
        if char > "\uffff":
            pair = char.encode("utf-16-be")
            yield pair[:2].decode("utf-16-be", "surrogatepass")
            yield pair[2:].decode("utf-16-be", "surrogatepass")
        else:
            yield char
