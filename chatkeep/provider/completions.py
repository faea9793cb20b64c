"""The Chat Completions protocol: a prompt as the request's body, and a response's body as a reply. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chatkeep.errors import ProviderBroke
from chatkeep.model import Delta, Finish, Prompt, Usage
from chatkeep.provider import Receive, failures
from chatkeep.provider.dialects import Dialect
from chatkeep.provider.sse import BUFFER_LIMIT, Event, EventReader

# What is not read is not checked, and what may be odd is Any: a gateway's extra or empty field breaks no reply.


class _Text(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Any = None
    completion_tokens: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    object: str | None = None
    error: Any = None
    detail: Any = None
    message: Any = None
    code: Any = None
    type: Any = None

    def complaint(self) -> Any:
        """Return the error object that this is in place of a piece of a reply, in whichever dialect; else None."""
        if self.error:
            return self.error
        if self.object == "error" or (self.detail and not self.choices):
            return {"message": self.message or self.detail, "code": self.code, "type": self.type}
        return None


# The finish reason of a reply that has no room in the model's context window.
CONTEXT_EXCEEDED = "model_context_window_exceeded"
_chunks = msgspec.json.Decoder(_Chunk)
_requests = msgspec.json.Encoder()


def request_body(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    """Return the fields of a request for ``prompt``."""
    body: dict[str, Any] = {"model": prompt.model, "messages": dialect.messages(prompt)}
    if dialect.stream:
        body["stream"] = True
    if dialect.stream and dialect.stream_options:
        body["stream_options"] = {"include_usage": True}
    if dialect.temperature and prompt.temperature is not None:
        body["temperature"] = prompt.temperature
    if prompt.max_tokens is not None:
        body[dialect.max_tokens] = prompt.max_tokens
    return body


def encode_request(prompt: Prompt, dialect: Dialect) -> bytes:
    """Return the JSON of `request_body`."""
    return _requests.encode(request_body(prompt, dialect))


def reader_of(
    content_type: str, content_encoding: str, receive: Receive, secrets: Sequence[str] = ()
) -> StreamReader | ObjectReader:
    """Return a reader of the reply that the body of a 200 holds: an event stream, or one JSON object.

    It calls ``receive`` with each piece. Raises `ProviderBroke` where the body is neither.
    """
    if content_encoding.strip().lower() not in {"", "identity"}:
        raise ProviderBroke("The provider compressed its reply, which was not asked for.")
    kind = content_type.partition(";")[0].strip().lower()
    if kind in {"text/event-stream", ""}:
        return StreamReader(receive, secrets)
    if kind == "application/json":
        return ObjectReader(receive, secrets)
    shown = failures.scrub(kind, secrets)
    raise ProviderBroke(f"The provider answered with {shown} instead of an event stream: check OPENAI_BASE_URL.")


class StreamReader:
    """Reads a reply that is an event stream.

    `feed` and `close` raise `ProviderBroke`, or the error that the stream itself reports.
    """

    __slots__ = ("_decoder", "_events", "_receive", "is_over")

    def __init__(self, receive: Receive, secrets: Sequence[str] = ()) -> None:
        """Set who receives the pieces, and the secrets that no error may show."""
        self.is_over = False
        """Whether the reply is whole; it may be before the body is."""
        self._receive = receive
        self._events = EventReader()
        self._decoder = ReplyDecoder(secrets)

    def feed(self, body: bytes) -> None:
        """Take a piece of the body, however it is cut."""
        for event in self._events.feed(body):
            if self._take(event):
                return

    def close(self) -> None:
        """Take the end of the body."""
        if not self.is_over and not any(self._take(event) for event in self._events.close()):
            self._end()

    def _take(self, event: Event) -> bool:
        if event.data.strip() == b"[DONE]":
            self._end()
        elif delta := self._decoder.decode(event):
            self._receive(delta)
        return self.is_over

    def _end(self) -> None:
        self.is_over = True
        for piece in self._decoder.finish():
            self._receive(piece)


class ObjectReader:
    """Reads a reply that is one JSON object; `feed` and `close` raise as those of `StreamReader` do."""

    __slots__ = ("_body", "_decoder", "_receive", "is_over")

    def __init__(self, receive: Receive, secrets: Sequence[str] = ()) -> None:
        """Set who receives the pieces, and the secrets that no error may show."""
        self.is_over = False
        self._receive = receive
        self._body = bytearray()
        self._decoder = ReplyDecoder(secrets)

    def feed(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body += body
        if len(self._body) > BUFFER_LIMIT:
            raise ProviderBroke(f"The provider sent a JSON answer of over {BUFFER_LIMIT} bytes.")

    def close(self) -> None:
        """Take the end of the body."""
        self.is_over = True
        if delta := self._decoder.decode(Event(bytes(self._body))):
            self._receive(delta)
        for piece in self._decoder.finish():
            self._receive(piece)


class ReplyDecoder:
    """Decodes the events of one reply, and remembers what its `Finish` must tell."""

    __slots__ = ("_model", "_reason", "_reasoning", "_said", "_secrets", "_text", "_usage")

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        """Set the secrets that no error may show."""
        self._secrets = secrets
        self._text = _Surrogates()
        self._reasoning = _Surrogates()
        self._reason: str | None = None
        self._said = False
        self._usage: Usage | None = None
        self._model: str | None = None

    def decode(self, event: Event) -> Delta | None:
        """Return what ``event`` adds to the reply, or None; raise the `ProviderError` that it is or reports."""
        chunk = _decode(event.data)
        if (complaint := chunk.complaint()) or event.name == b"error":
            raise failures.from_payload(complaint or {"message": chunk.message, "code": chunk.code}, self._secrets)
        if chunk.model:
            self._model = chunk.model
        if chunk.usage:
            self._usage = Usage(_count(chunk.usage.prompt_tokens), _count(chunk.usage.completion_tokens))
        return self._decode_choice(chunk.choices[0]) if chunk.choices else None

    def finish(self) -> Iterator[Delta | Finish]:
        """Yield the reply's `Finish`, after what a cut character left; raise `ProviderBroke` where none is due."""
        if not self._reason:
            raise ProviderBroke("The provider ended the reply without a finish reason.")
        if self._reason == "error":
            raise ProviderBroke("The provider broke the reply off with an error.")
        if self._reason == CONTEXT_EXCEEDED and not self._said:
            raise failures.from_payload({"code": self._reason}, self._secrets)
        rest = Delta(self._text.flush(), self._reasoning.flush())
        if rest.text or rest.reasoning:
            yield rest
        yield Finish(self._reason, self._usage, self._model)

    def _decode_choice(self, choice: _Choice) -> Delta | None:
        self._reason = choice.finish_reason or self._reason
        piece = choice.delta or choice.message
        if piece is None:
            return None
        thought = piece.reasoning_content or piece.reasoning
        text = self._text.join(piece.content) if isinstance(piece.content, str) else ""
        reasoning = self._reasoning.join(thought) if isinstance(thought, str) else ""
        self._said = self._said or bool(text or reasoning)
        return Delta(text, reasoning) if text or reasoning else None


class _Surrogates:
    """Joins a character whose UTF-16 halves came in two pieces; what it returns can always be encoded."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        text, self._half = self._half + piece, ""
        try:
            text.encode()
        except UnicodeEncodeError:
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._half = text[:-1], text[-1]
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text

    def flush(self) -> str:
        left, self._half = self._half, ""
        return "\N{REPLACEMENT CHARACTER}" if left else ""


def _decode(payload: bytes) -> _Chunk:
    try:
        try:
            return _chunks.decode(payload)
        except msgspec.DecodeError:
            if b"\\u" not in payload:
                raise
            # Half a character, escaped on its own: msgspec refuses it, json keeps it for _Surrogates.
            return msgspec.convert(json.loads(payload.decode()), _Chunk)
    except (ValueError, RecursionError) as error:
        raise ProviderBroke("The provider sent what is not a piece of a reply in JSON.") from error


def _count(tokens: object) -> int:
    return tokens if isinstance(tokens, int) and 0 <= tokens < 1 << 53 else 0
