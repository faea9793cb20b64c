"""The Chat Completions protocol: encode requests and decode replies. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from chatkeep.domain.conversation import REFUSAL, STOP, TOOL_CALLS, Delta, Finish, Prompt, Usage
from chatkeep.errors import ProviderBroke, ProviderError
from chatkeep.httpclient.compression import Inflater, inflater_of
from chatkeep.i18n import Text, _
from chatkeep.provider import Receive, chunks, error_objects, failures
from chatkeep.provider.dialects import Dialect
from chatkeep.provider.finish_reasons import is_context_exceeded, is_failure, reason_of, says_cut, word_of
from chatkeep.provider.sse import BUFFER_LIMIT, Event, EventReader
from chatkeep.provider.thinking import ThinkBlock

ENDING_SECONDS = 2.0
"""How long to wait for usage and [DONE] after the finish reason, or after a chunk that follows it."""
REASONED_SECONDS = 10.0
"""The same if the first chunk had a finish reason already: then it may not be the end."""
# White space and a byte order mark may precede a reply.
_BLANKS = b" \t\r\n\xef\xbb\xbf"
# The column's length.
_MOST_OF_MODEL = 255

_requests = msgspec.json.Encoder()


def request_body(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    """Return the body of a request for ``prompt``."""
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
    """Return `request_body` as JSON."""
    return _requests.encode(request_body(prompt, dialect))


class ReplyReader:
    """Decodes the body of a 2xx response: an event stream or JSON, which the bytes decide and not the Content-Type.

    Each method passes completed pieces to ``receive``. `feed` and `close` raise `ProviderBroke` if the body is neither,
    or the error that it reports.
    """

    __slots__ = (
        "_body", "_decoder", "_encoding", "_events", "_inflater", "_is_object", "_receive", "_secrets", "is_over",
    )  # fmt: skip

    def __init__(
        self, content_encoding: str, receive: Receive, secrets: Sequence[str] = (), *, thinking: bool = False
    ) -> None:
        """Set the body's Content-Encoding, the receiver, and secrets to remove from errors.

        With ``thinking``, the reply begins within the reasoning.
        """
        self.is_over = False
        """Whether the reply is complete, which may be before the end of the body."""
        self._receive = receive
        self._encoding = content_encoding.strip().lower()
        self._inflater: Inflater | None = None
        self._secrets = secrets
        self._decoder = ReplyDecoder(secrets, thinking=thinking)
        self._events: EventReader | None = None
        self._body = bytearray()  # until the format is known; of JSON, the whole body
        self._is_object = False

    @property
    def is_ending(self) -> bool:
        """Whether the finish reason has arrived: only usage and [DONE] may follow."""
        return self._decoder.reason is not None

    @property
    def ending_seconds(self) -> float:
        """How long to wait for the end after each chunk once the reply `is_ending`."""
        return REASONED_SECONDS if self._decoder.is_reasoned else ENDING_SECONDS

    @property
    def pieces(self) -> int:
        """How many pieces of the reply have arrived."""
        return self._decoder.pieces

    def feed(self, body: bytes) -> None:
        """Take a piece of the body, split anywhere."""
        try:
            if body and not (self._inflater or self._events or self._body):
                self._inflater = inflater_of(self._encoding, body)
            if self._inflater is None:
                self._take_plain(body)
            else:
                for plain in self._inflater.feed(body):
                    self._take_plain(plain)
        except ProviderError:
            if not self._has_ended():
                raise

    def close(self) -> None:
        """Take the end of the body."""
        try:
            if self._events is None:
                self._take(Event(piece) for piece in self._objects())
                self._decoder.is_complete = bool(self._body.strip(_BLANKS))
                self._decoder.note_other(bytes(self._body))
            else:
                self._take(self._events.close())
            if not self.is_over:
                self._end()
        except ProviderError:
            if not self._has_ended():
                raise

    def break_off(self) -> bool:
        """Take the loss of the connection. Return whether the reply was complete nevertheless."""
        # Valid JSON is complete, whatever Content-Length says.
        if self.is_ending or self._decoder.is_whole or (self._is_object and _is_json(bytes(self._body))):
            self.close()
        else:
            self._flush()
        return self.is_over

    def _take_plain(self, body: bytes) -> None:
        if self._events is None:
            self._begin(body)
        else:
            self._take(self._events.feed(body))

    def _begin(self, body: bytes) -> None:
        """Detect the format by the first non-blank byte. JSON and HTML are buffered whole."""
        self._body += body
        begun = b"" if self._is_object else self._body.lstrip(_BLANKS)[:1]
        if bytes(begun) in {b"{", b"[", b"<"}:
            self._is_object = True
        elif begun:
            self._events = EventReader()
            self._take(self._events.feed(bytes(self._body)))
        if self._events is None and len(self._body) > BUFFER_LIMIT:
            raise ProviderBroke(_("The provider sent a JSON answer of over {bytes} bytes.", bytes=BUFFER_LIMIT))

    def _objects(self) -> Iterable[bytes]:
        """Return the JSON objects of a body that is not an event stream: itself, its items, or its lines."""
        body = bytes(self._body).strip(_BLANKS)
        if body.startswith(b"<"):
            raise failures.from_page(body, self._secrets)
        try:
            if body.startswith(b"["):
                return map(bytes, msgspec.json.decode(body, type=list[msgspec.Raw]))
            msgspec.json.decode(body, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError):
            if b"\n{" in body or b"\ndata:" in body:
                return (line.removeprefix(b"data:") for line in body.splitlines())
        return [body]

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            if self.is_over:
                return
            if b"\n" in event.data and (apart := _split_event(event)):
                self._take(apart)
            elif delta := self._decoder.decode(event):
                self._receive(delta)
            elif self._decoder.is_done:
                self._end()

    def _has_ended(self) -> bool:
        """Return whether the reply was complete when an error came, which is then ignored."""
        if self.is_ending and self._decoder.is_whole:
            self._end()
        else:
            self._flush()
        return self.is_over

    def _flush(self) -> None:
        if rest := self._decoder.flush():
            self._receive(rest)

    def _end(self) -> None:
        for piece in self._decoder.finish():
            self._receive(piece)
        self.is_over = True


class ReplyDecoder:
    """Decodes the events of one reply, and collects what its `Finish` reports."""

    __slots__ = (
        "_has_choices", "_has_deltas", "_has_refused", "_known", "_model", "_reasoning", "_remark", "_said", "_secrets",
        "_text", "_thinking", "_tool", "_usage", "is_complete", "is_done", "is_reasoned", "pieces", "reason",
    )  # fmt: skip

    def __init__(self, secrets: Sequence[str] = (), *, thinking: bool = False) -> None:
        """Set secrets to remove from errors, and whether the reply begins within the reasoning."""
        self.reason: str | None = None
        """The finish reason in the provider's words."""
        self.is_done = False
        """Whether [DONE] has arrived."""
        self.is_complete = False
        """Whether the reply is complete without [DONE]: usage has arrived, or the reply was one object."""
        self.is_reasoned = False
        """Whether the first chunk had a finish reason: some providers send one with every chunk."""
        self.pieces = 0
        self._secrets = secrets
        self._text = _Surrogates()
        self._reasoning = _Surrogates()
        self._thinking = ThinkBlock(is_open=thinking)
        self._known = [False, False, False]  # whether text, reasoning and a refusal have arrived
        self._said = self._has_refused = self._has_choices = self._has_deltas = False
        self._usage: Usage | None = None
        self._model: str | None = None
        self._tool: str | None = None
        self._remark = ""

    @property
    def is_whole(self) -> bool:
        """Whether the reply is complete if nothing more arrives."""
        return not is_failure(self.reason) if self.reason else self.is_done or self.is_complete

    def decode(self, event: Event) -> Delta | None:
        """Return what ``event`` adds to the reply, or None. Raises the `ProviderError` that it reports."""
        payload = event.data if event.data.startswith(b"{") else _bare(event.data)
        if event.name == b"error":
            raise failures.from_body(payload, self._secrets, begun=self._said)
        if not payload.startswith(b"{"):
            self._note(payload)
            return None
        chunk = chunks.decode(payload)
        if chunk.model != self._model and chunk.model and isinstance(chunk.model, str):
            self._model = chunk.model.encode(errors="replace").decode()[:_MOST_OF_MODEL]
        if text := chunk.text_only():
            return self._decode_text(text)
        if complaint := chunk.in_band_error():
            if complaint is chunks.WHOLE_CHUNK:
                raise failures.from_body(payload, self._secrets, begun=self._said)
            raise failures.from_payload(complaint, self._secrets, begun=self._said)
        usage = chunk.tokens()
        self._usage = _latest(self._usage, usage)
        if chunk.choices:
            self._has_choices = True
            return self._decode_choice(chunk.choices[0], is_whole=chunk.object == "chat.completion")
        self.is_complete = self.is_complete or bool(self._said and usage and usage.output_tokens)
        self._remark = self._remark or chunk.remark()
        return None

    def flush(self) -> Delta | None:
        """Return the text and reasoning held back until now, or None."""
        text, reasoning = self._thinking.split(self._text.flush())
        held, thought = self._thinking.flush()
        return self._delta(text + held, self._reasoning.flush() + reasoning + thought)

    def finish(self) -> Iterator[Delta | Finish]:
        """Yield what was held back, then the `Finish`. Raises `ProviderError` if the reply is not complete."""
        if rest := self.flush():
            yield rest
        if self.reason is None and self._remark and not self._said:
            raise failures.from_text(self._remark, self._secrets)
        if not (self.reason or self.is_whole):
            raise ProviderBroke(self._with_remark(_("The provider ended the reply without a finish reason")))
        word = self.reason or STOP
        if is_context_exceeded(word) and not self._said:
            raise failures.from_payload({"code": "context_window_exceeded"}, self._secrets)
        reason = reason_of(word)
        if reason == STOP:
            reason = REFUSAL if self._has_refused else TOOL_CALLS if self._tool else STOP
        finish = Finish(reason, self._usage, self._model, tool=self._tool)
        if is_failure(word):
            shown = failures.scrub(word, self._secrets)
            broke = ProviderBroke(
                self._with_remark(
                    _("The provider ended the reply with the finish reason {finish_reason}", finish_reason=shown)
                )
            )
            broke.finish = finish
            raise broke
        yield finish

    def _note(self, words: bytes) -> None:
        """Take data other than a chunk, such as [DONE]."""
        if words.strip(b'"').upper() == b"[DONE]":
            self.is_done = True
        elif words.startswith(b"[{"):
            raise failures.from_body(words, self._secrets, begun=self._said)
        elif not self._remark and words != b"null":
            self._remark = error_objects.words_in(words.decode(errors="replace"))

    def note_other(self, body: bytes) -> None:
        """Take the message of a body that is one object but not a completion."""
        if not (self._has_choices or self._remark or self.is_done):
            found = error_objects.decode(body)
            self._remark = error_objects.words_of(found) if isinstance(found, dict) and "choices" not in found else ""

    def _with_remark(self, sentence: Text) -> Text:
        said = failures.scrub(self._remark, self._secrets)
        if not said:
            return _("{error}.", error=sentence)
        return _("{error}. It said: {words}", error=sentence, words=said)

    def _decode_text(self, text: str) -> Delta | None:
        """Return what a chunk with nothing but text adds."""
        self._has_choices = self._has_deltas = self._known[0] = True
        self.is_complete = False
        text = self._text.join(text)
        return self._delta(text, "") if self._thinking.is_over else self._delta(*self._thinking.split(text))

    def _decode_choice(self, choice: chunks.Choice, *, is_whole: bool) -> Delta | None:
        word = word_of(choice.finish_reason)
        if word and not (self.reason and says_cut(self.reason) and reason_of(word) == STOP):
            self.reason = word
        said = choice.texts(self._known, is_whole=is_whole or word is not None or self._has_deltas)
        if any(said):
            self.is_complete = False
            self._has_deltas = self._has_deltas or choice.delta is not None
            self._known = [had or bool(has) for had, has in zip(self._known, said, strict=True)]
        if not self._tool and (tool := choice.tool()) is not None:
            self._tool = failures.scrub(tool, self._secrets)
        self._has_refused = self._has_refused or bool(said.refusal)
        text, thought = self._thinking.split(self._text.join(said.text + said.refusal))
        return self._delta(text, self._reasoning.join(said.reasoning) + thought)

    def _delta(self, text: str, reasoning: str) -> Delta | None:
        if not (text or reasoning):
            return None
        if not self._said:
            self._said, self.is_reasoned = True, self.reason is not None
        self.pieces += 1
        return Delta(text, reasoning)


def _bare(data: bytes) -> bytes:
    """Return data without white space around it and without the second ``data:`` that some gateways add."""
    data = data.strip()
    while data.startswith(b"data:"):
        data = data.removeprefix(b"data:").lstrip()
    return data


def _split_event(event: Event) -> list[Event]:
    """Split an event into several if the blank lines between them are missing. Return [] if it is one event."""
    if (b"\n{" in event.data or b"\n[DONE]" in event.data) and not _is_json(event.data):
        return [Event(line, event.name) for line in event.data.split(b"\n")]
    return []


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _latest(known: Usage | None, told: Usage | None) -> Usage | None:
    """Merge two usages; some providers report the two counts separately."""
    if not (known and told):
        return told or known
    return Usage(told.input_tokens or known.input_tokens, told.output_tokens or known.output_tokens)


class _Surrogates:
    """Joins surrogate pairs that were split between two chunks. Its output is always valid Unicode."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        if piece.isascii() and not self._half:
            return piece
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
