"""The Chat Completions protocol: a prompt as the request's body, and a response's body as a reply. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from chatkeep.domain.conversation import REFUSAL, STOP, TOOL_CALLS, Delta, Finish, Prompt, Usage
from chatkeep.errors import ProviderBroke, ProviderError
from chatkeep.httpclient.compression import Inflater, inflater_of
from chatkeep.i18n import Text, _
from chatkeep.provider import Receive, chunks, failures
from chatkeep.provider.dialects import Dialect
from chatkeep.provider.finish_reasons import is_context_exceeded, is_failure, reason_of, says_cut, word_of
from chatkeep.provider.sse import BUFFER_LIMIT, Event, EventReader
from chatkeep.provider.thinking import ThinkBlock

ENDING_SECONDS = 2.0
"""How long usage and the mark of the end are waited for after the finish reason, or after a piece that follows it."""
REASONED_SECONDS = 10.0
"""The same if the first piece had a finish reason: then it may be no end."""
# What may precede the body of a reply: blanks, and a byte order mark.
_BLANKS = b" \t\r\n\xef\xbb\xbf"
# The column's length.
_MOST_OF_MODEL = 255

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


class ReplyReader:
    """Reads the reply that the body of a 2xx holds: an event stream, or JSON. The bytes tell which, not their label.

    Every method calls ``receive`` with the pieces that it completes. `feed` and `close` raise `ProviderBroke` if the
    body is neither, or the error that it reports.
    """

    __slots__ = (
        "_body", "_decoder", "_encoding", "_events", "_inflater", "_is_object", "_receive", "_secrets", "is_over",
    )  # fmt: skip

    def __init__(
        self, content_encoding: str, receive: Receive, secrets: Sequence[str] = (), *, thinking: bool = False
    ) -> None:
        """Set how the body is compressed, who receives the pieces, and the secrets that no error may show.

        With ``thinking`` the reply begins amid the reasoning.
        """
        self.is_over = False
        """Whether the reply is whole; it may be before the body is."""
        self._receive = receive
        self._encoding = content_encoding.strip().lower()
        self._inflater: Inflater | None = None
        self._secrets = secrets
        self._decoder = ReplyDecoder(secrets, thinking=thinking)
        self._events: EventReader | None = None
        self._body = bytearray()  # up to the first byte that tells what it is, or the whole of it
        self._is_object = False

    @property
    def is_ending(self) -> bool:
        """Whether a finish reason has come: no more than usage and the mark of the end are still due."""
        return self._decoder.reason is not None

    @property
    def ending_seconds(self) -> float:
        """How long to wait for the end after a piece while the reply `is_ending`."""
        return REASONED_SECONDS if self._decoder.is_reasoned else ENDING_SECONDS

    @property
    def pieces(self) -> int:
        """How many pieces of the reply have come."""
        return self._decoder.pieces

    def feed(self, body: bytes) -> None:
        """Take a piece of the body, however it is cut."""
        try:
            if body and not (self._inflater or self._events or self._body):
                self._inflater = inflater_of(self._encoding, body)
            if self._inflater is None:
                self._take_plain(body)
            else:
                for plain in self._inflater.feed(body):
                    self._take_plain(plain)
        except ProviderError:
            if not self._is_past_its_end():
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
            if not self._is_past_its_end():
                raise

    def break_off(self) -> bool:
        """Take the end of the connection amid the body; return whether the reply had ended all the same."""
        # An object that can be read is whole, whatever length the provider has announced.
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
        """Look at the first byte that is no blank. Of JSON or a page, all is kept."""
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
        """Return the JSON of a body that is no event stream: itself, the items of a list, or its lines."""
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
            if b"\n" in event.data and (apart := _apart(event)):
                self._take(apart)
            elif delta := self._decoder.decode(event):
                self._receive(delta)
            elif self._decoder.is_done:
                self._end()

    def _is_past_its_end(self) -> bool:
        """Return whether the reply had a finish reason when an error came, which then takes nothing from it."""
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
    """Decodes the events of one reply, and remembers what its `Finish` must tell."""

    __slots__ = (
        "_has_choices", "_has_deltas", "_has_refused", "_known", "_model", "_reasoning", "_remark", "_said", "_secrets",
        "_text", "_thinking", "_tool", "_usage", "is_complete", "is_done", "is_reasoned", "pieces", "reason",
    )  # fmt: skip

    def __init__(self, secrets: Sequence[str] = (), *, thinking: bool = False) -> None:
        """Set the secrets that no error may show, and whether the reply begins amid the reasoning."""
        self.reason: str | None = None
        """The finish reason as the provider writes it."""
        self.is_done = False
        """Whether the protocol's own mark of the end has come."""
        self.is_complete = False
        """Whether nothing is missing without that mark: all usage was told, or the reply was one object."""
        self.is_reasoned = False
        """Whether the first piece had a finish reason already: some providers send one with every piece."""
        self.pieces = 0
        self._secrets = secrets
        self._text = _Surrogates()
        self._reasoning = _Surrogates()
        self._thinking = ThinkBlock(is_open=thinking)
        self._known = [False, False, False]  # whether pieces have brought text, reasoning and a refusal
        self._said = self._has_refused = self._has_choices = self._has_deltas = False
        self._usage: Usage | None = None
        self._model: str | None = None
        self._tool: str | None = None
        self._remark = ""

    @property
    def is_whole(self) -> bool:
        """Whether the reply is whole if nothing more comes, however the connection ends."""
        return not is_failure(self.reason) if self.reason else self.is_done or self.is_complete

    def decode(self, event: Event) -> Delta | None:
        """Return what ``event`` adds to the reply, or None; raise the `ProviderError` that it is or reports."""
        payload = event.data if event.data.startswith(b"{") else _bare(event.data)
        if event.name == b"error":
            raise failures.from_body(payload, self._secrets, begun=self._said)
        if not payload.startswith(b"{"):
            self._note(payload)
            return None
        chunk = chunks.decode(payload)
        if chunk.model != self._model and chunk.model and isinstance(chunk.model, str):
            self._model = chunk.model.encode(errors="replace").decode()[:_MOST_OF_MODEL]
        if text := chunk.text_alone():
            return self._text_alone(text)
        if complaint := chunk.complaint():
            if complaint is chunks.WHOLE:
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
        """Return what was held back because of what could have followed, if anything was."""
        text, reasoning = self._thinking.split(self._text.flush())
        held, thought = self._thinking.flush()
        return self._delta(text + held, self._reasoning.flush() + reasoning + thought)

    def finish(self) -> Iterator[Delta | Finish]:
        """Yield the reply's `Finish`, after what was held back; raise the `ProviderError` of one that is not whole."""
        if rest := self.flush():
            yield rest
        if self.reason is None and self._remark and not self._said:
            raise failures.from_remark(self._remark, self._secrets)
        if not (self.reason or self.is_whole):
            raise ProviderBroke(self._told(_("The provider ended the reply without a finish reason")))
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
                self._told(
                    _("The provider ended the reply with the finish reason {finish_reason}", finish_reason=shown)
                )
            )
            broke.finish = finish
            raise broke
        yield finish

    def _note(self, words: bytes) -> None:
        """Take words that are no piece of the reply; one of them is the mark of the end."""
        if words.strip(b'"').upper() == b"[DONE]":
            self.is_done = True
        elif words.startswith(b"[{"):
            raise failures.from_body(words, self._secrets, begun=self._said)
        elif not self._remark and words != b"null":
            self._remark = failures.words_in(words.decode(errors="replace"))

    def note_other(self, body: bytes) -> None:
        """Take the words of a body that is one object, and no completion."""
        if not (self._has_choices or self._remark or self.is_done):
            found = failures.decoded(body)
            self._remark = failures.words_of(found) if isinstance(found, dict) and "choices" not in found else ""

    def _told(self, sentence: Text) -> Text:
        said = failures.scrub(self._remark, self._secrets)
        if not said:
            return _("{error}.", error=sentence)
        return _("{error}. It said: {words}", error=sentence, words=said)

    def _text_alone(self, text: str) -> Delta | None:
        """Return what a piece adds that has text and nothing else."""
        self._has_choices = self._has_deltas = self._known[0] = True
        self.is_complete = False
        text = self._text.join(text)
        return self._delta(text, "") if self._thinking.is_over else self._delta(*self._thinking.split(text))

    def _decode_choice(self, choice: chunks.Choice, *, is_whole: bool) -> Delta | None:
        word = word_of(choice.finish_reason)
        if word and not (self.reason and says_cut(self.reason) and reason_of(word) == STOP):
            self.reason = word
        said = choice.said(self._known, is_whole=is_whole or word is not None or self._has_deltas)
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
    """Return data without blanks around it, and without what some gateways put before every line once more."""
    data = data.strip()
    while data.startswith(b"data:"):
        data = data.removeprefix(b"data:").lstrip()
    return data


def _apart(event: Event) -> list[Event]:
    """Return the events that one is if the blank lines between them are missing, none if it is one."""
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
    """Return the usage as it was told last; some providers tell the two counts apart."""
    if not (known and told):
        return told or known
    return Usage(told.input_tokens or known.input_tokens, told.output_tokens or known.output_tokens)


class _Surrogates:
    """Joins a character whose UTF-16 halves came in two pieces; what it returns can always be encoded."""

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
