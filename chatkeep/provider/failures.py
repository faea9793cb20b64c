"""What goes wrong at a provider, as our errors: one mapping for statuses, in-band errors and broken connections."""

from __future__ import annotations

import html
import http
import itertools
import math
import re
import socket
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from chatkeep.errors import (
    ContextTooLong,
    ProviderBroke,
    ProviderBusy,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
    ProviderTimeout,
)
from chatkeep.httpclient.responses import MalformedResponse
from chatkeep.i18n import Text, _, text_of

Header = Callable[[str], str | None]
"""Looks a response header up by its name, in any case."""
MESSAGE_LIMIT = 300
TOLD_LIMIT = 4000
RETRY_AFTER_LIMIT = 3600.0
_SHORTEST_SECRET = 8
_REDIRECTS = range(300, 400)
_REFUSALS = range(400, 500)
# Gateways answer so whatever the provider behind them said; what is wrong then stands in the body. With the last one
# it may be no more than that they know no such model.
_GENERAL = {500, 502, 503}

_TOO_LONG = _("The provider says that the prompt is longer than the model's context window")
_SPENT = _("The quota at the provider is used up: check the plan and the balance there")
_ADVICE = {
    400: _("The provider did not accept the request ({status})", status=400),
    401: _("The provider refused the credentials (401): check OPENAI_API_KEY"),
    403: _("The provider refused access (403): check that the key may use this model"),
    404: _("The provider knows no such model or address (404): check CHATKEEP_MODEL and OPENAI_BASE_URL"),
    422: _("The provider did not accept the request ({status})", status=422),
    429: _("The provider's rate limit is reached ({status})", status=429),
    503: _("The provider is overloaded ({status})", status=503),
    529: _("The provider is overloaded ({status})", status=529),
}
# What providers call their errors, and the HTTP status that says the same.
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
# What providers say if they give an error no name, and the status that says the same. Whatever says none of this is
# taken for the fault of the request.
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
# Where an error object has its name or its number, and where those of an inner one are.
_NAME_KEYS = (
    "code", "status", "status_code", "statusCode", "error_code", "http_status", "type", "error_type", "status_msg",
)  # fmt: skip
_INNER_KEYS = ("error", "errors", "detail")
# Where an error object has its sentence for people, and where that of its cause is.
_SENTENCE_KEYS = (
    "message", "error", "errors", "detail", "msg", "error_message", "error_msg", "error_description", "status_msg",
    "title", "reason", "description",
)  # fmt: skip
_CAUSE_KEYS = ("metadata", "raw", "cause", "innererror", "inner_error")
_MOST_SENTENCES = 3
# Fields of a request that some providers want written otherwise.
_FIELDS = {"max_tokens", "stream", "stream_options", "temperature"}
# A name such as invalid_request: it may stand for the sentence, but is none.
_NAME = re.compile(r"[\w.:-]{3,64}", re.ASCII)
_DEEPEST = 8
_TITLE = re.compile(r"<title[^<>]*>([^<]*)<", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
# How providers say that a prompt is longer than the model's context window: in codes, or in words alone.
_TOO_LONG_CODES = {
    "1261",
    "context_length_exceeded",
    "context_window_exceeded",
    "exceed_context_size_error",
    "model_context_window_exceeded",
    "model_max_prompt_tokens_exceeded",
    "prompt_too_long",
    "request_too_large",
    "string_above_max_length",
}
_TOO_LONG_WORDS = (
    "context length", "context limit", "context size", "context window", "exceeded model token limit",
    "`inputs` tokens", "input is too long", "input length", "input token count", "input too long",
    "max input token", "max message tokens", "max_seq_len", "maximum input length", "maximum prompt length",
    "messages are too long", "prompt is too long", "prompt token count", "prompt too long", "reduce the length of",
    "string too long", "tokens in the prompt", "too large for model", "上下文长度", "输入过长", "输入长度",
    "最大长度", "超长",
)  # fmt: skip
# Of these statuses none is about the prompt, whatever is said with them.
_NOT_THE_PROMPT = {401, 403, 404, 408, 429, 503, 504, 529}
# How they say that the operator's account has nothing left, which no waiting helps: in codes, or in words alone.
_SPENT_CODES = {
    "1113",
    "arrearage",
    "billing_hard_limit_reached",
    "billing_not_active",
    "exceeded_current_quota_error",
    "insufficient_balance",
    "insufficient_quota",
    "insufficient_user_quota",
}
_SPENT_WORDS = (
    "balance is insufficient", "budget has been exceeded", "credit balance is too low",
    "exceeded your current quota, please check your plan", "insufficient balance", "insufficient credits",
    "insufficient quota", "out of credits", "overdue balance", "余额不足", "欠费", "额度不足", "额度已用尽",
)  # fmt: skip
_TOKENS = (
    (re.compile(r"bearer\s+\S+", re.IGNORECASE), "Bearer ***"),
    (re.compile(r"\bsk-[\w*-]{4,}"), "sk-***"),
)


def from_response(status: int, header: Header, body: bytes, secrets: Sequence[str] = ()) -> ProviderError:
    """Return the error that a response other than 2xx stands for, with the provider's own words and wishes in it."""
    payload = _decode(body, header("content-type") or "")
    said = words_of(payload)
    named = _named_status(payload)
    if status in _GENERAL and (named in _REFUSALS or (named and status != http.HTTPStatus.SERVICE_UNAVAILABLE)):
        status = named
    found = _told_by_words(status, payload)
    if found:
        kind, sentence = found
        refusal = kind(_sentence(sentence, said, secrets))
        refusal.upstream_status = status
        return refusal
    error = _kind(status)(_sentence(_advice(status), said, secrets), retry_after=_retry_after(header))
    error.should_retry, error.upstream_status = _should_retry(header), status
    error.told = _told(payload)
    return error


def from_payload(payload: object, secrets: Sequence[str] = (), *, begun: bool = False) -> ProviderError:
    """Return the error of an error object that came in place of the reply, or of more of a reply that has ``begun``."""
    status, said = _named_status(payload), words_of(payload)
    if found := _told_by_words(status, payload):
        kind, sentence = found
        error = kind(_sentence(sentence, said, secrets))
    else:
        status = status or _status_in(said)
        sentence = _advice(status) if status else _("The provider sent an error instead of the reply")
        error = _kind_told(status, begun=begun)(_sentence(sentence, said, secrets))
        error.told = _told(payload)
    error.upstream_status = status or None
    return error


def from_remark(words: str, secrets: Sequence[str] = ()) -> ProviderError:
    """Return the error of words, in prose, that came in place of the reply."""
    kind = _kind_told(_status_in(words), begun=False)
    return kind(_sentence(_("The provider sent something other than a reply"), words, secrets))


def from_body(body: bytes, secrets: Sequence[str] = (), *, begun: bool = False) -> ProviderError:
    """Return the error that a whole event or body is."""
    return from_payload(decoded(body), secrets, begun=begun)


def decoded(body: bytes) -> object:
    """Return the JSON that ``body`` is, or else its words."""
    return _decode(body, "text/plain")


def from_page(body: bytes, secrets: Sequence[str] = ()) -> ProviderError:
    """Return the error of a web page that came in place of a reply."""
    advice = _("The provider answered with a web page instead of a reply: check OPENAI_BASE_URL")
    error = ProviderBroke(_sentence(advice, words_in(body.decode(errors="replace")), secrets))
    error.should_retry = False
    return error


def from_connection(error: Exception) -> ProviderError:
    """Return the error of a connection that could not be made, or broke; readers are not told to which address."""
    if isinstance(error, TimeoutError):
        return ProviderTimeout(_("Connecting to the provider took too long."))
    if isinstance(error, socket.gaierror):
        return ProviderBroke(_("The provider's address cannot be found: check OPENAI_BASE_URL."))
    if isinstance(error, ssl.SSLError):
        return _from_tls(error)
    if isinstance(error, MalformedResponse):
        return ProviderBroke(_("The provider's answer is not valid HTTP: {reason}.", reason=text_of(error)))
    if isinstance(error, ConnectionRefusedError):
        return ProviderBroke(_("The provider refuses connections: check OPENAI_BASE_URL and that the provider runs."))
    return ProviderBroke(_("The connection to the provider broke."))


def _from_tls(error: ssl.SSLError) -> ProviderError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProviderBroke(_("The provider's certificate is not trusted: {reason}.", reason=error.verify_message))
    return ProviderBroke(_("TLS with the provider failed: check OPENAI_BASE_URL."))


def scrub(text: str, secrets: Sequence[str]) -> str:
    """Return ``text`` on one line of at most `MESSAGE_LIMIT` characters, without the secrets and bearer tokens."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    for pattern, shown in _TOKENS:
        text = pattern.sub(shown, text)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…"


def _kind(status: int) -> type[ProviderError]:
    if status in {429, 503, 529}:
        return ProviderBusy
    if status in {408, 504}:
        return ProviderTimeout
    return ProviderRefused if status in _REFUSALS else ProviderBroke


def _kind_told(status: int, *, begun: bool) -> type[ProviderError]:
    """Return the kind of an error in band: one that tells no status refuses the request, unless the reply has begun."""
    if status:
        return _kind(status)
    return ProviderBroke if begun else ProviderRefused


def _told_by_words(status: int, payload: object) -> tuple[type[ProviderError], Text] | None:
    """Return what an error is that its status alone doesn't tell, and the sentence for it; None if there is no more."""
    if _is_too_long(status, payload):
        return ContextTooLong, _TOO_LONG
    if _is_spent(status, payload):
        return ProviderQuotaExceeded, _SPENT
    return None


def _is_too_long(status: int, payload: object) -> bool:
    """Return whether an error says that the prompt is too long; a 413 says so without a word."""
    if status in _NOT_THE_PROMPT:
        return False
    if status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return True
    return _says(payload, _TOO_LONG_CODES, _TOO_LONG_WORDS)


def _is_spent(status: int, payload: object) -> bool:
    """Return whether an error says that the account has nothing left; a 402 says so without a word."""
    return status == http.HTTPStatus.PAYMENT_REQUIRED or _says(payload, _SPENT_CODES, _SPENT_WORDS)


def _says(payload: object, codes: Collection[str], words: Sequence[str]) -> bool:
    texts = [text.lower() for text in _texts(payload)]
    return any(text in codes or any(some in text for some in words) for text in texts)


def _texts(value: object, depth: int = 5) -> Iterator[str]:
    """Yield every text in an error object."""
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner, depth - 1)


def _told(payload: object) -> str:
    return " ".join((*_blamed(payload), *_texts(payload)))[:TOLD_LIMIT]


def _blamed(payload: object, depth: int = 5) -> Iterator[str]:
    """Yield the fields of a request that an error object has complaints about, by their names."""
    if depth and isinstance(payload, dict):
        for key, value in payload.items():
            if key in _FIELDS and isinstance(value, (str, list)):
                yield key
            yield from _blamed(value, depth - 1)


def _advice(status: int) -> Text:
    if status in _ADVICE:
        return _ADVICE[status]
    if status in {408, 504}:
        return _("The provider timed out ({status})", status=status)
    if status in _REDIRECTS:
        return _("The provider redirects ({status}), which is not followed: check OPENAI_BASE_URL", status=status)
    return (
        _("The provider refused the request ({status})", status=status)
        if status in _REFUSALS
        else _("The provider failed ({status})", status=status)
    )


def _sentence(advice: Text, said: str, secrets: Sequence[str]) -> Text:
    said = scrub(said, secrets)
    if not said:
        return _("{error}.", error=advice)
    return _("{error}. It said: {words}", error=advice, words=said)


def words_in(text: str) -> str:
    """Return what a page or a plain text says; a page may say it in its title alone."""
    if not text.lstrip().startswith("<"):
        return text
    title = _TITLE.search(text)
    return html.unescape((title and title[1].strip()) or _TAG.sub(" ", text))


def _decode(body: bytes, content_type: str) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        words = words_in(body.decode(errors="replace"))
        is_cut_or_binary = words.startswith(("{", "[")) or "\N{REPLACEMENT CHARACTER}" in words
        return "" if is_cut_or_binary and not content_type.startswith("text/") else words


def words_of(payload: object) -> str:
    """Return the provider's words: the sentence for people, or else the first texts of the error object."""
    return _message(payload) or "; ".join(itertools.islice(filter(None, _texts(payload)), _MOST_SENTENCES))


def _message(value: object, depth: int = _DEEPEST) -> str:
    """Return the sentence for people that an error object holds, followed by its cause."""
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
    """Return the object that a text is in JSON, as gateways quote the provider behind them; None if it is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _named_status(payload: object, depth: int = _DEEPEST) -> int:
    """Return the HTTP status that an error object names, as a number or in words; 0 if it names none."""
    if depth and isinstance(payload, list):
        return next(filter(None, (_named_status(one, depth - 1) for one in payload[:_MOST_SENTENCES])), 0)
    if isinstance(payload, str) and depth < _DEEPEST and _NAME.fullmatch(payload):
        return _status_of(payload)
    if not depth or not isinstance(payload, dict):
        return 0
    own = (_status_of(str(payload[key])) for key in _NAME_KEYS if isinstance(payload.get(key), (str, int, float)))
    inner = (_named_status(payload.get(key), depth - 1) for key in _INNER_KEYS)
    return next(filter(None, (*own, *inner)), 0)


def _status_of(name: str) -> int:
    return int(name) if re.fullmatch(r"[45]\d\d", name) else _first_status(_NAMES, name)


def _status_in(sentence: str) -> int:
    """Return the HTTP status that says the same as a sentence; 0 if there is none."""
    return _first_status(_SENTENCES, sentence)


def _first_status(known: Sequence[tuple[re.Pattern[str], int]], text: str) -> int:
    return next((status for pattern, status in known if pattern.search(text)), 0)


def _retry_after(header: Header) -> float | None:
    """Return the seconds that the provider asks to wait, at most `RETRY_AFTER_LIMIT`; None for nothing sane."""
    millis = _number(header("retry-after-ms"))
    seconds = millis / 1000 if millis is not None else _number(header("retry-after"))
    if seconds is None:
        seconds = _seconds_until(header("retry-after"))
    return min(seconds, RETRY_AFTER_LIMIT) if seconds is not None and seconds >= 0 else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _seconds_until(date: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _should_retry(header: Header) -> bool | None:
    return {"true": True, "false": False}.get((header("x-should-retry") or "").strip().lower())
