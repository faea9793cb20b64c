"""Adapt requests to the dialect of each model, and learn it from the provider's refusals.

The first request to a model is in the most common dialect. If the provider refuses it and says why, it is changed and
sent again at once. If that succeeds, the change is kept for the model, so a difference costs one request per model and
process. That a model does not stream is forgotten after a while, because it may have been a transient fault of a
gateway. Fields that the operator sets (CHATKEEP_PROVIDER_DIALECTS) never change.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from chatkeep.config.parsing import DialectRule
from chatkeep.domain.conversation import Delta, Finish, Prompt, PromptMessage, Role
from chatkeep.errors import ProviderBroke, ProviderError, ProviderRefused
from chatkeep.provider import Call, Receive
from chatkeep.runtime.concurrency import short_lock

log = logging.getLogger(__name__)
# A bound, because callers may name any model.
MOST_MODELS = 1000
UNSTREAMED_SECONDS = 600.0
"""How long requests to a model are not streamed after its provider refused to stream."""
# The key, the address or the account is wrong, so another dialect does not help.
_NOT_THE_REQUEST = {401, 402, 403}


class Dialect(msgspec.Struct, frozen=True):
    """How requests to one model are encoded, and its replies decoded."""

    system: str = "system"
    """The role of the system prompt: ``system``, ``developer``, or ``user`` to prepend it to the first user message."""
    max_tokens: str = "max_tokens"
    """The name of the field with the token limit."""
    temperature: bool = True
    """Whether the model accepts a temperature."""
    stream_options: bool = True
    """Whether to ask for the usage of streams."""
    stream: bool = True
    """Whether to stream the reply; otherwise it is one JSON object."""
    thinking: bool = False
    """Whether replies begin within the reasoning, because the chat template adds its opening tag to the prompt."""

    def messages(self, prompt: Prompt) -> list[dict[str, str]]:
        """Return the prompt's messages."""
        told = _with_system_as_user(prompt.messages) if self.system == Role.USER else prompt.messages
        return [
            {"role": self.system if one.role is Role.SYSTEM else one.role.value, "content": one.content} for one in told
        ]


class Dialects:
    """The dialects of a provider's models, set or learned. Thread-safe."""

    def __init__(
        self,
        rules: Iterable[tuple[str, DialectRule]] = (),
        *,
        stream_usage: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the operator's rules by prefixes of model names, the longest first."""
        self._rules = tuple(rules)
        self._default = Dialect(stream_options=stream_usage)
        self._learnt: dict[str, tuple[Dialect, float]] = {}  # and when it was learned
        self._clock = clock
        self._lock = short_lock()

    def of(self, model: str) -> Dialect:
        """Return the current dialect of ``model``."""
        if model not in self._learnt:
            return replace(self._default, **self._fixed_fields(model))
        learnt, at = self._learnt[model]
        if learnt.stream or self._clock() < at + UNSTREAMED_SECONDS:
            return learnt
        return replace(learnt, stream=self._fixed_fields(model).get("stream", True))

    def changes_for(self, error: ProviderError, prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
        """Return the changes to ``dialect`` that a refusal asks for; empty if it asks for none."""
        if not isinstance(error, ProviderRefused | ProviderBroke) or error.upstream_status in _NOT_THE_REQUEST:
            return {}
        fixed = self._fixed_fields(prompt.model).keys()
        return next((change for change in _changes(error, prompt, dialect) if not change.keys() & fixed), {})

    def learn(self, model: str, changes: dict[str, Any]) -> None:
        """Store changes that worked, in addition to those that other calls have learned."""
        with self._lock:
            learnt = replace(self.of(model), **changes)
            if len(self._learnt) >= MOST_MODELS:
                self._learnt.pop(next(iter(self._learnt)))
            self._learnt[model] = learnt, self._clock()
        told = ", ".join(f"{name}={value}" for name, value in changes.items())
        log.info("requests to the model %r use %s from now on, because its provider asked for it", model, told)

    def call(self, prompt: Prompt, ask: Callable[[Prompt, Dialect], Call]) -> AdaptingCall:
        """Return a call that changes its dialect while refusals ask for it."""
        return AdaptingCall(self, prompt, ask)

    def _fixed_fields(self, model: str) -> dict[str, Any]:
        """Return the fields that the operator sets for a model."""
        rule = next((rule for name, rule in self._rules if model.startswith(name)), None)
        return (
            {name: value for name, value in msgspec.structs.asdict(rule).items() if value is not None} if rule else {}
        )


class AdaptingCall:
    """A call that repeats a refused request in another dialect."""

    __slots__ = ("_aborted", "_ask", "_begun", "_call", "_dialects", "_prompt")

    def __init__(self, dialects: Dialects, prompt: Prompt, ask: Callable[[Prompt, Dialect], Call]) -> None:
        self._dialects = dialects
        self._prompt = prompt
        self._ask = ask
        self._call: Call | None = None
        self._aborted = False
        self._begun = False

    def deliver(self, receive: Receive) -> None:
        """Pass the reply to ``receive`` as it arrives."""
        dialect = self._dialects.of(self._prompt.model)
        changes: dict[str, Any] = {}

        def begin(piece: Delta | Finish) -> None:
            if not self._begun:
                self._begun = True
                if changes:
                    self._dialects.learn(self._prompt.model, changes)
            receive(piece)

        while True:
            try:
                self._deliver(dialect, begin)
            except ProviderError as error:
                is_final = self._begun or self._aborted
                change = {} if is_final else self._dialects.changes_for(error, self._prompt, dialect)
                if not change:
                    raise
                changes |= change
                dialect = replace(dialect, **change)
            else:
                return

    def abort(self) -> None:
        """End the call."""
        self._aborted = True
        if self._call is not None:
            self._call.abort()

    def _deliver(self, dialect: Dialect, receive: Receive) -> None:
        self._call = self._ask(self._prompt, dialect)
        if self._aborted:
            self._call.abort()
        self._call.deliver(receive)


def _with_system_as_user(messages: Sequence[PromptMessage]) -> Sequence[PromptMessage]:
    """Return messages with the system prompt prepended to the first user message."""
    system = [message.content for message in messages if message.role is Role.SYSTEM]
    spoken = [message for message in messages if message.role is not Role.SYSTEM]
    if not system:
        return spoken
    if spoken and spoken[0].role is Role.USER:
        system.append(spoken.pop(0).content)
    return [PromptMessage(Role.USER, "\n\n".join(system)), *spoken]


# The provider does not accept a field at all …
_UNWANTED = re.compile(
    r"unsupported|not[ _](be )?(support|permit|allow|accept|recogni|enabled|available|one of)"
    r"|n't (support|accept|allow)|unknown|unrecogni|unexpected|\bextra|deprecated|forbidden|\binvalid\b|incorrect"
    r"|\bonly\b|\bmust\b|should be|不支持|不允许|不正确|无效|非法|未知",
    re.IGNORECASE,
)
# … unless a value is out of range: that is the caller's mistake, and is reported.
_BOUNDS = re.compile(
    r"\b(between|range|(less|greater|larger|smaller|higher|lower|more) than|too (large|small|high|low|big)"
    r"|max|maximum|min|minimum|limits?|exceed\w*|positive|negative|integer"
    r"|at (most|least)|((above|below|exceeds?|over|under) \d+))\b|[<>]=? ?\d|[≤≥]"
    r"|范围|大于|小于|超过|超出|上限",
    re.IGNORECASE,
)
_USAGE = re.compile(r"stream[ _]options|include_usage", re.IGNORECASE)
_ROLE = re.compile(r"\broles?\b|\b(system|developer)\W{0,3}(message|prompt|instruction)|角色", re.IGNORECASE)
_STREAM = re.compile(r"\bstream(ing|ed)?\b|流式", re.IGNORECASE)


def _changes(error: ProviderError, prompt: Prompt, dialect: Dialect) -> Iterator[dict[str, Any]]:
    """Yield the changes that the words of a refusal ask for, the surest first."""
    said = error.told
    if dialect.stream and dialect.stream_options and _USAGE.search(said):
        yield {"stream_options": False}
    limited = prompt.max_tokens is not None and dialect.max_tokens == "max_tokens"
    if limited and ("max_completion_tokens" in said or _is_unwanted("max_tokens", said)):
        yield {"max_tokens": "max_completion_tokens"}
    if prompt.temperature is not None and dialect.temperature and _is_unwanted("temperature", said):
        yield {"temperature": False}
    if role := _other_role(said, prompt, dialect):
        yield {"system": role}
    # A server error may mention a broken stream.
    if dialect.stream and isinstance(error, ProviderRefused) and _STREAM.search(said) and _UNWANTED.search(said):
        yield {"stream": False}


def _is_unwanted(field: str, said: str) -> bool:
    return field in said and bool(_UNWANTED.search(said)) and not _BOUNDS.search(said)


def _other_role(said: str, prompt: Prompt, dialect: Dialect) -> str | None:
    """Return the role to try for the system prompt if its current one is refused; as a last resort ``user``."""
    if not any(message.role is Role.SYSTEM for message in prompt.messages):
        return None
    if dialect.system == Role.USER or not (_ROLE.search(said) and _UNWANTED.search(said)):
        return None
    return "developer" if dialect.system == Role.SYSTEM and "developer" in said else Role.USER.value
