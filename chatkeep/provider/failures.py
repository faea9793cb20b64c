"""Map provider failures to our errors: HTTP statuses, in-band errors and broken connections."""

from __future__ import annotations

import http
import math
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
from chatkeep.provider import error_objects

Header = Callable[[str], str | None]
"""Look up a response header by its name, case-insensitive."""
MESSAGE_LIMIT = 300
RETRY_AFTER_LIMIT = 3600.0
_SHORTEST_SECRET = 8
_REDIRECTS = range(300, 400)
_REFUSALS = range(400, 500)
# Gateways return these whatever their upstream provider said; the body has the cause. A 503 may only mean that the
# gateway does not know the model.
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
# Codes and words of providers for a prompt that is longer than the model's context window.
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
# With these statuses, the prompt is never the cause.
_NOT_THE_PROMPT = {401, 403, 404, 408, 429, 503, 504, 529}
# Codes and words of providers for an exhausted account. Retries do not help.
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
    """Return the error of a response other than 2xx, with the provider's message and its wishes about retries."""
    payload = error_objects.decode(body, header("content-type") or "")
    said = error_objects.words_of(payload)
    named = error_objects.named_status(payload)
    if status in _GENERAL and (named in _REFUSALS or (named and status != http.HTTPStatus.SERVICE_UNAVAILABLE)):
        status = named
    found = _exact_kind(status, payload)
    if found:
        kind, sentence = found
        refusal = kind(_sentence(sentence, said, secrets))
        refusal.upstream_status = status
        return refusal
    error = _kind(status)(_sentence(_advice(status), said, secrets), retry_after=_retry_after(header))
    error.should_retry, error.upstream_status = _should_retry(header), status
    error.told = error_objects.text_of(payload)
    return error


def from_payload(payload: object, secrets: Sequence[str] = (), *, begun: bool = False) -> ProviderError:
    """Return the error of an in-band error object. ``begun`` says that a part of the reply came before it."""
    status, said = error_objects.named_status(payload), error_objects.words_of(payload)
    if found := _exact_kind(status, payload):
        kind, sentence = found
        error = kind(_sentence(sentence, said, secrets))
    else:
        status = status or error_objects.status_in(said)
        sentence = _advice(status) if status else _("The provider sent an error instead of the reply")
        error = _in_band_kind(status, begun=begun)(_sentence(sentence, said, secrets))
        error.told = error_objects.text_of(payload)
    error.upstream_status = status or None
    return error


def from_text(words: str, secrets: Sequence[str] = ()) -> ProviderError:
    """Return the error of plain text that came in place of the reply."""
    kind = _in_band_kind(error_objects.status_in(words), begun=False)
    return kind(_sentence(_("The provider sent something other than a reply"), words, secrets))


def from_body(body: bytes, secrets: Sequence[str] = (), *, begun: bool = False) -> ProviderError:
    """Return the error of a whole event or body."""
    return from_payload(error_objects.decode(body), secrets, begun=begun)


def from_page(body: bytes, secrets: Sequence[str] = ()) -> ProviderError:
    """Return the error of an HTML page that came in place of a reply."""
    advice = _("The provider answered with a web page instead of a reply: check OPENAI_BASE_URL")
    error = ProviderBroke(_sentence(advice, error_objects.words_in(body.decode(errors="replace")), secrets))
    error.should_retry = False
    return error


def from_connection(error: Exception) -> ProviderError:
    """Return the error of a connection that failed or broke. It does not reveal the address."""
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
    """Return ``text`` on one line, without secrets and bearer tokens, cut to `MESSAGE_LIMIT` characters."""
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


def _in_band_kind(status: int, *, begun: bool) -> type[ProviderError]:
    """Return the class of an in-band error. Without a status it is a refusal, unless the reply has begun."""
    if status:
        return _kind(status)
    return ProviderBroke if begun else ProviderRefused


def _exact_kind(status: int, payload: object) -> tuple[type[ProviderError], Text] | None:
    """Return a more exact class than that of the status, and its sentence; None if there is none."""
    if _is_too_long(status, payload):
        return ContextTooLong, _TOO_LONG
    if _is_spent(status, payload):
        return ProviderQuotaExceeded, _SPENT
    return None


def _is_too_long(status: int, payload: object) -> bool:
    """Return whether the prompt is too long for the model. A 413 always means that."""
    if status in _NOT_THE_PROMPT:
        return False
    if status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return True
    return error_objects.mentions(payload, _TOO_LONG_CODES, _TOO_LONG_WORDS)


def _is_spent(status: int, payload: object) -> bool:
    """Return whether the provider's account is exhausted. A 402 always means that."""
    return status == http.HTTPStatus.PAYMENT_REQUIRED or error_objects.mentions(payload, _SPENT_CODES, _SPENT_WORDS)


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


def _retry_after(header: Header) -> float | None:
    """Return the seconds the provider asks to wait, at most `RETRY_AFTER_LIMIT`; None if absent or invalid."""
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
