"""Read a provider's error object: its words, its HTTP status, and the request fields it names. Pure: no I/O."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Collection, Iterator, Sequence

import msgspec

TEXT_LIMIT = 4000
# Providers' names for errors, and the HTTP status with the same meaning.
_NAMES = (
    (re.compile(r"overload|capacity|busy", re.IGNORECASE), 503),
    (re.compile(r"rate.?limit|too.?many|quota|throttl|exhausted", re.IGNORECASE), 429),
    (re.compile(r"auth|api.?key|credential", re.IGNORECASE), 401),
    (re.compile(r"permission|forbidden|access.?denied", re.IGNORECASE), 403),
    (re.compile(r"time.?out|deadline", re.IGNORECASE), 504),
    (re.compile(r"not.?found", re.IGNORECASE), 404),
    (re.compile(r"bad.?request|invalid|unsupported|unprocessable|validation", re.IGNORECASE), 400),
    (re.compile(r"content.?filter|policy|moderation|inspection|sensitive", re.IGNORECASE), 400),
    (re.compile(r"server.?error|internal|unavailable|connection|incomplete", re.IGNORECASE), 500),
)
# Words of errors without a name, and the status with the same meaning. An error that has none of these words is
# treated as the fault of the request.
_SENTENCES = (
    (re.compile(r"overloaded|capacity|\bbusy\b|繁忙|过载|饱和", re.IGNORECASE), 503),
    (re.compile(r"rate.?limit|too many requests|throttled|try again later|限流|频繁|稍后", re.IGNORECASE), 429),
    (
        re.compile(
            r"api.?key|unauthori[sz]ed|authenticat|credentials|access token|\blog(ged)?.in\b"
            r"|密钥|鉴权|未授权|令牌|身份验证",
            re.IGNORECASE,
        ),
        401,
    ),
    (re.compile(r"\binvalid|not support|unsupported|\bmust\b|不支持|无效|不合法", re.IGNORECASE), 400),
    (re.compile(r"time.?out|timed out|deadline exceeded|超时", re.IGNORECASE), 504),
    (
        re.compile(
            r"internal|server error|unavailable|\bengine|crash|went wrong|unexpected(ly\b| (error|end|eof)\b)"
            r"|unknown error|connection|broken pipe|\bnetwork|upstream|bad gateway|out of memory|cuda|try again"
            r"|\b(has|have|is|are) (failed|down|gone)\b|内部错误|服务异常|系统异常|系统错误|服务器错误|网络错误|不可用",
            re.IGNORECASE,
        ),
        500,
    ),
)
# Keys of an error object's name or number, and of an inner error.
_NAME_KEYS = (
    "code", "status", "status_code", "statusCode", "error_code", "http_status", "type", "error_type", "status_msg",
)  # fmt: skip
_INNER_KEYS = ("error", "errors", "detail")
# Keys of an error object's human-readable message, and of its cause.
_SENTENCE_KEYS = (
    "message", "error", "errors", "detail", "msg", "error_message", "error_msg", "error_description", "status_msg",
    "title", "reason", "description",
)  # fmt: skip
_CAUSE_KEYS = ("metadata", "raw", "cause", "innererror", "inner_error")
_MOST_SENTENCES = 3
# Request fields that some providers want in another form.
_FIELDS = {"max_tokens", "stream", "stream_options", "temperature"}
# A name such as invalid_request. It may stand in place of the message.
_NAME = re.compile(r"[\w.:-]{3,64}", re.ASCII)
_DEEPEST = 8
_TITLE = re.compile(r"<title[^<>]*>([^<]*)<", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def decode(body: bytes, content_type: str = "text/plain") -> object:
    """Return the JSON of ``body``, or else its text. A binary or truncated body is "" unless its type is text."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        words = words_in(body.decode(errors="replace"))
        is_cut_or_binary = words.startswith(("{", "[")) or "\N{REPLACEMENT CHARACTER}" in words
        return "" if is_cut_or_binary and not content_type.startswith("text/") else words


def words_in(text: str) -> str:
    """Return a plain text as it is, and of an HTML page the title or else the text."""
    if not text.lstrip().startswith("<"):
        return text
    title = _TITLE.search(text)
    return html.unescape((title and title[1].strip()) or _TAG.sub(" ", text))


def words_of(payload: object) -> str:
    """Return an error object's human-readable message, or else its first texts."""
    return _message(payload) or "; ".join(itertools.islice(filter(None, _texts(payload)), _MOST_SENTENCES))


def _message(value: object, depth: int = _DEEPEST) -> str:
    """Return an error object's human-readable message, followed by that of its cause."""
    if not depth:
        return ""
    if isinstance(value, str):
        return _message(inner, depth - 1) if (inner := _object_in(value)) else words_in(value)
    if isinstance(value, list):
        each = (_message(one, depth - 1) for one in value[:_MOST_SENTENCES])
        return "; ".join(dict.fromkeys(filter(None, each)))
    if not isinstance(value, dict):
        return ""
    is_named = isinstance(value.get("error"), str) and _NAME.fullmatch(value["error"])
    keys = sorted(_SENTENCE_KEYS, key="error".__eq__) if is_named else _SENTENCE_KEYS
    told = next(filter(None, (_message(value.get(key), depth - 1) for key in keys)), "")
    cause = next(filter(None, (_message(value.get(key), depth - 1) for key in _CAUSE_KEYS)), "")
    return f"{told}: {cause}" if told and cause and cause not in told else told or cause


def _object_in(text: str) -> object:
    """Return the JSON object that a text holds, or None. Gateways quote their upstream provider in this way."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def named_status(payload: object, depth: int = _DEEPEST) -> int:
    """Return the HTTP status that an error object gives by number or name; 0 if it gives none."""
    if depth and isinstance(payload, list):
        return next(filter(None, (named_status(one, depth - 1) for one in payload[:_MOST_SENTENCES])), 0)
    if isinstance(payload, str) and depth < _DEEPEST and _NAME.fullmatch(payload):
        return _status_of(payload)
    if not depth or not isinstance(payload, dict):
        return 0
    own = (_status_of(str(payload[key])) for key in _NAME_KEYS if isinstance(payload.get(key), (str, int, float)))
    inner = (named_status(payload.get(key), depth - 1) for key in _INNER_KEYS)
    return next(filter(None, (*own, *inner)), 0)


def status_in(sentence: str) -> int:
    """Return the HTTP status with the meaning of a sentence; 0 if it has none."""
    return _first_status(_SENTENCES, sentence)


def _status_of(name: str) -> int:
    return int(name) if re.fullmatch(r"[45]\d\d", name) else _first_status(_NAMES, name)


def _first_status(known: Sequence[tuple[re.Pattern[str], int]], text: str) -> int:
    return next((status for pattern, status in known if pattern.search(text)), 0)


def mentions(payload: object, codes: Collection[str], words: Sequence[str]) -> bool:
    """Return whether a text of an error object is one of the codes or contains one of the words, in lower case."""
    texts = [text.lower() for text in _texts(payload)]
    return any(text in codes or any(some in text for some in words) for text in texts)


def text_of(payload: object) -> str:
    """Return all texts of an error object and the request fields it names, at most `TEXT_LIMIT` characters."""
    return " ".join((*_rejected_fields(payload), *_texts(payload)))[:TEXT_LIMIT]


def _rejected_fields(payload: object, depth: int = 5) -> Iterator[str]:
    """Yield the names of the request fields that an error object complains about."""
    if depth and isinstance(payload, dict):
        for key, value in payload.items():
            if key in _FIELDS and isinstance(value, (str, list)):
                yield key
            yield from _rejected_fields(value, depth - 1)


def _texts(value: object, depth: int = 5) -> Iterator[str]:
    """Yield every text in an error object."""
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner, depth - 1)
