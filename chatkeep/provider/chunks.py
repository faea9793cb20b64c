"""Decode a reply's JSON chunks as real providers write them: a value of the wrong type counts as absent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from chatkeep.domain.conversation import Usage
from chatkeep.errors import ProviderBroke
from chatkeep.i18n import _

# Fields that we don't read are not checked, and fields with odd values are Any, so that an extra or empty field of a
# gateway breaks no reply.
# Types of content parts with reasoning, and keys of a part's text.
_THOUGHT_PARTS = ("thinking", "reasoning", "thought")
_TEXT_KEYS = ("text", "content", "value", "summary", "refusal")
_DEEPEST = 4
_DEEPEST_ERROR = 8
WHOLE_CHUNK = object()
"""Returned by `Chunk.in_band_error` if the whole chunk is the error object."""
# Codes of error objects that report no error.
_SUCCESS = {"", "0", "200", "none", "null", "ok", "success", "true"}
_NO_ERROR = (_SUCCESS - {"true"}) | {"false"}
# The column's limit.
_MOST_TOKENS = 1 << 31


class Texts(NamedTuple):
    """The texts of a chunk."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_text: Any = None
    thinking: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None

    def texts(self) -> Texts:
        """Return the texts of the message or delta."""
        if isinstance(self.content, str):
            text, thought, refusal = self.content, "", ""
        else:
            text, thought, refusal = _texts_of_parts(self.content)
        apart = self.reasoning_content or self.reasoning or self.reasoning_text or self.thinking
        return Texts(text, _text_of(apart or self.reasoning_details) or thought, _text_of(self.refusal) or refusal)

    def tool(self) -> str | None:
        """Return the name of the called tool, "" if it has no name, or None if no tool is called."""
        if not (self.tool_calls or self.function_call):
            return None
        calls = [_object(call.get("function")) or call for call in _objects(self.tool_calls)]
        names = (call.get("name") for call in (*calls, *_objects(self.function_call)))
        return next((name for name in names if isinstance(name, str)), "")


class Choice(msgspec.Struct, gc=False):
    """A reply; requests ask for one."""

    delta: _Message | None = None
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None
    error: Any = None
    usage: Any = None

    def texts(self, known: Sequence[bool], *, is_whole: bool) -> Texts:
        """Return the texts that the choice adds to earlier chunks.

        A ``message`` is another piece, or the whole reply if ``is_whole`` or if there are deltas. Of a whole reply, the
        texts that ``known`` marks have arrived already.
        """
        said = self.delta.texts() if self.delta else Texts(_text_of(self.text))
        if self.message is None:
            return said
        told = self.message.texts()
        if is_whole or self.delta is not None:
            told = Texts(*("" if has_come else text for text, has_come in zip(told, known, strict=True)))
        return Texts(*(new or whole for new, whole in zip(said, told, strict=True)))

    def tool(self) -> str | None:
        """Return the name of the called tool, "" if it has no name, or None if no tool is called."""
        called = self.delta.tool() if self.delta else None
        return self.message.tool() if called is None and self.message else called


class Chunk(msgspec.Struct, gc=False):
    """A chunk of a stream, or a whole completion."""

    choices: list[Choice] | None = None
    usage: Any = None
    model: Any = None
    object: Any = None
    error: Any = None
    errors: Any = None
    error_message: Any = None
    error_msg: Any = None
    error_code: Any = None
    error_type: Any = None
    base_resp: Any = None
    success: Any = None
    detail: Any = None
    message: Any = None
    msg: Any = None
    code: Any = None
    status: Any = None
    type: Any = None
    x_groq: Any = None

    def text_only(self) -> str:
        """Return the text if the chunk has nothing else, as nearly all have; else ""."""
        if not self.choices or self.usage or self.error or self.error_message or self.error_msg or self.error_code:
            return ""
        choice = self.choices[0]
        delta = choice.delta
        if delta is None or choice.finish_reason or choice.message is not None or choice.error or choice.usage:
            return ""
        more = delta.reasoning_content or delta.reasoning or delta.reasoning_text or delta.thinking
        more = more or delta.reasoning_details or delta.refusal or delta.tool_calls or delta.function_call
        return "" if more or not isinstance(delta.content, str) else delta.content

    def in_band_error(self) -> Any:
        """Return the error object of the chunk in any provider's dialect, or None."""
        if self.choices and not (self.error or self.error_message or self.error_msg):
            error = self.choices[0].error or self._groq_field("error")
            return _error_or_none(error) if error else None
        named = {"code": self.code, "status": self.status, "type": self.type}
        if found := _error_or_none(self.error):
            is_alone = isinstance(found, (dict, list)) and not (self.message or self.msg)
            return found if is_alone or _has_words(found) else WHOLE_CHUNK
        told = self.error_message or self.error_msg
        if told or not _is_success(self.error_code):
            return {"message": told or self.message, "code": self.error_code, "type": self.error_type}
        return None if self.choices else self._standalone_error(named)

    def _groq_field(self, name: str) -> Any:
        """Return one of Groq's extra fields."""
        return self.x_groq.get(name) if isinstance(self.x_groq, dict) else None

    def _standalone_error(self, named: dict[str, Any]) -> Any:
        """Return the error object of a chunk without choices, or None."""
        if found := _error_or_none(self.errors) or self.detail:
            return {"errors": found, **named}
        if isinstance(self.base_resp, dict) and not _is_success(self.base_resp.get("status_code")):
            return self.base_resp
        told = self.remark()
        is_coded = not _is_success(self.code) or (isinstance(self.status, int) and not _is_success(self.status))
        return {"message": told, **named} if self.object == "error" or self.success is False or is_coded else None

    def remark(self) -> str:
        """Return the message beside the reply, or ""."""
        return _text_of(self.message) or _text_of(self.msg)

    def tokens(self) -> Usage | None:
        """Return the usage, or None if the chunk has none."""
        told = self.usage or (self.choices and self.choices[0].usage) or self._groq_field("usage")
        if not told or not isinstance(told, dict):
            return None
        inward = _count(told.get("prompt_tokens") or told.get("input_tokens"))
        outward = _count(told.get("completion_tokens") or told.get("output_tokens"))
        return Usage(inward, outward) if inward or outward else None


_chunks = msgspec.json.Decoder(Chunk)


def decode(payload: bytes) -> Chunk:
    """Decode a chunk. Raises `ProviderBroke` if it is not a JSON object."""
    try:
        return _chunks.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # msgspec refuses lone surrogates, NaN and bare tabs.
        return msgspec.convert(_normalised(json.loads(payload.decode(), strict=False)), Chunk)
    except (ValueError, TypeError, RecursionError) as error:
        raise ProviderBroke(_("The provider sent what is not a piece of a reply in JSON.")) from error


def _normalised(value: object) -> dict[str, Any]:
    """Return an object in which choices and messages have the right types."""
    if not isinstance(value, dict):
        raise TypeError("not an object")
    choices = _objects(value.get("choices"))
    names = ("delta", "message")
    return {**value, "choices": [{**one, **{name: _message(one.get(name)) for name in names}} for one in choices]}


def _message(value: object) -> dict[str, Any] | None:
    return {"content": value} if isinstance(value, (str, list)) else _object(value)


def _object(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _objects(value: object) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, dict)]


def _texts_of_parts(content: object) -> Texts:
    """Return the texts of a content that is a list of parts, or one part."""
    if not content:
        return Texts()
    text: list[str] = []
    reasoning: list[str] = []
    refusal: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        kind = str(part.get("type", "")) if isinstance(part, dict) else ""
        where = reasoning if kind.startswith(_THOUGHT_PARTS) else refusal if kind == "refusal" else text
        where.append(_text_of(part))
    return Texts("".join(text), "".join(reasoning), "".join(refusal))


def _text_of(value: object, depth: int = _DEEPEST) -> str:
    """Return the text of a part, however deeply it is nested."""
    if isinstance(value, str):
        return value
    return "".join(_texts(value, depth)) if depth else ""


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        yield from (_text_of(one, depth - 1) for one in value)
    elif isinstance(value, dict):
        found = (_text_of(value.get(key), depth - 1) for key in (*_THOUGHT_PARTS, *_TEXT_KEYS))
        yield next(filter(None, found), "")


def _error_or_none(value: Any, depth: int = _DEEPEST_ERROR) -> Any:
    """Return an error object unless it is empty: some providers send an empty one with every chunk."""
    if depth and isinstance(value, dict):
        told = (_error_or_none(one, depth - 1) for key, one in value.items() if key not in {"code", "status"})
        return value if any(told) or not (_is_success(value.get("code")) and _is_success(value.get("status"))) else None
    if depth and isinstance(value, list):
        return value if any(_error_or_none(one, depth - 1) for one in value) else None
    return None if not value or (isinstance(value, str) and value.strip().lower() in _NO_ERROR) else value


def _has_words(error: object) -> bool:
    """Return whether an error object has a sentence, not only names and numbers."""
    texts = error.values() if isinstance(error, dict) else ()
    return any(isinstance(text, str) and (" " in text or not text.isascii()) for text in texts)


def _is_success(code: object) -> bool:
    return not isinstance(code, (str, int, float)) or str(code).strip().lower() in _SUCCESS


def _count(tokens: object) -> int:
    """Return a token count, given as a number or a string; 0 if it is invalid."""
    try:
        number = float(tokens) if isinstance(tokens, (int, float, str)) else 0.0
    except (ValueError, OverflowError):
        return 0
    return int(number) if math.isfinite(number) and 0 <= number < _MOST_TOKENS else 0
