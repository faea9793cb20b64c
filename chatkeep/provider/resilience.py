"""Retry failed calls, and stop calling a provider that keeps failing (circuit breaker).

A call is retried only before the first piece of its reply, at most `RETRIES` times, and as the provider asks
(Retry-After, x-should-retry). A budget allows at most one retry per eleven calls over time: more would keep an
overloaded provider down. The breaker opens when half of the recent calls failed. Then one call at a time probes.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from chatkeep.domain.conversation import Delta, Finish, Prompt
from chatkeep.errors import ProviderBroke, ProviderBusy, ProviderError, ProviderRefused, ProviderTimeout
from chatkeep.i18n import _
from chatkeep.provider import Call, Provider, Receive
from chatkeep.runtime.concurrency import Event, event, short_lock
from chatkeep.runtime.metrics import PROVIDER_ERRORS, Registry

RETRIES = 2
PAUSE_S = 0.25  # before the first retry, doubled for the second
LONGEST_PAUSE_S = 10.0
BUDGET_SHARE, BUDGET_MOST = 0.09, 3.0
WINDOW_S, WINDOW_CALLS, FAILED_SHARE = 10.0, 20, 0.5
OPEN_S = 5.0
# An abort this near to the first token's deadline, as a share of it, means that the provider was silent.
SLACK = 0.1


class Budget:
    """The retry budget: each call earns a share of a retry. Thread-safe."""

    def __init__(self) -> None:
        self._left = 1.0
        self._lock = short_lock()

    def earn(self) -> None:
        """Add a call's share."""
        with self._lock:
            self._left = min(self._left + BUDGET_SHARE, BUDGET_MOST)

    def spend(self) -> bool:
        """Spend a retry. Return False if none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


class BreakerOpen(ProviderBusy):
    """The breaker is open and refused the call."""

    should_retry = False


class Breaker:
    """A circuit breaker. Thread-safe; the clock is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._open_until: float | None = None
        self._probing = False
        self._lock = short_lock()

    def admit(self) -> bool:
        """Admit a call. Return whether it is a probe. Raises `BreakerOpen`."""
        with self._lock:
            if self._open_until is None:
                return False
            wait = self._open_until - self._clock()
            if wait > 0 or self._probing:
                raise BreakerOpen(
                    _("The provider keeps failing; it is asked again shortly."), retry_after=max(wait, 1.0)
                )
            self._probing = True
            return True

    def record(self, *, ok: bool | None, probe: bool) -> None:
        """Record whether an admitted call succeeded; None if that says nothing about the provider."""
        now = self._clock()
        with self._lock:
            if probe:
                self._probing = False
                if ok is not None:
                    self._open_until = None if ok else now + OPEN_S
                return
            # While the breaker is open only the probe counts: other calls began before.
            if ok is None or self._open_until is not None:
                return
            self._calls.append((now, ok))
            self._failed += not ok
            while self._calls[0][0] < now - WINDOW_S:
                self._failed -= not self._calls.popleft()[1]
            if len(self._calls) >= WINDOW_CALLS and self._failed >= FAILED_SHARE * len(self._calls):
                self._open_until = now + OPEN_S
                self._calls.clear()
                self._failed = 0


class ResilientProvider:
    """Wraps a provider with retries and a breaker. ``patience`` is the first token's deadline in seconds."""

    def __init__(self, provider: Provider, patience: float, registry: Registry | None = None) -> None:
        self.name, self.default_model = provider.name, provider.default_model
        self.patience = patience
        self.registry = registry or Registry()
        self.budget, self.breaker = Budget(), Breaker()
        self._provider = provider

    def stream_reply(self, prompt: Prompt) -> ResilientCall:
        """Return a call that is retried."""
        return ResilientCall(self, self._provider, prompt)

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()


class ResilientCall:
    """A call that is retried until its reply begins."""

    def __init__(self, resilient: ResilientProvider, provider: Provider, prompt: Prompt) -> None:
        self._resilient = resilient
        self._provider = provider
        self._prompt = prompt
        self._call: Call | None = None
        self._aborted = False
        self._pausing: Event | None = None
        self._deadline = time.monotonic() + resilient.patience

    def deliver(self, receive: Receive) -> None:
        """Hand the reply to ``receive`` as it arrives."""
        self._resilient.budget.earn()
        tried = 0
        while True:
            attempt = _Attempt(self._resilient, receive)
            try:
                self._try(attempt)
            except ProviderError as error:
                tried += 1 + error.resent
                pause = None if attempt.begun else self._pause(error, tried)
                if pause is None:
                    raise
                # The turn counts the error that ends its reply.
                self._resilient.registry.count(PROVIDER_ERRORS, error.code)
            else:
                return
            if self._wait(pause):
                return

    def abort(self) -> None:
        """End the call, or the pause before the next one."""
        self._aborted = True
        if self._pausing is not None:
            self._pausing.set()
        if self._call is not None:
            self._call.abort()

    def _wait(self, seconds: float) -> bool:
        """Wait before the retry. Return whether the call was aborted."""
        self._pausing = event()
        if not self._aborted:
            self._pausing.wait(seconds)
        return self._aborted

    def _try(self, attempt: _Attempt) -> None:
        """Call once, and record the result in the breaker."""
        ok = None
        try:
            self._call = self._provider.stream_reply(self._prompt)
            if self._aborted:
                self._call.abort()
            self._call.deliver(attempt.receive)
            ok = self._health_after_silence()
        except ProviderError as error:
            ok = is_healthy(error)
            raise
        finally:
            attempt.end(ok=ok)

    def _health_after_silence(self) -> bool | None:
        """Return False if an aborted call means a silent provider, because the deadline was reached; else None."""
        silent = time.monotonic() > self._deadline - SLACK * self._resilient.patience
        return False if silent else None

    def _pause(self, error: ProviderError, tried: int) -> float | None:
        """Return the seconds before the next retry after ``tried`` attempts, or None for no retry."""
        if tried > RETRIES or not is_retryable(error):
            return None
        jittered = PAUSE_S * 2 ** (tried - 1) * random.uniform(0.5, 1)  # noqa: S311 - not a secret
        pause = jittered if error.retry_after is None else error.retry_after
        if pause > LONGEST_PAUSE_S or time.monotonic() + pause > self._deadline:
            return None
        return pause if self._resilient.budget.spend() else None


class _Attempt:
    """One attempt that the breaker admitted."""

    __slots__ = ("_breaker", "_probe", "_receive", "begun")

    def __init__(self, resilient: ResilientProvider, receive: Receive) -> None:
        self._breaker = resilient.breaker
        self._probe = resilient.breaker.admit()
        self._receive = receive
        self.begun = False
        """Whether the reply has begun: the provider is healthy, and a retry is impossible."""

    def receive(self, piece: Delta | Finish) -> None:
        """Pass a piece on."""
        if not self.begun:
            self.begun = True
            self._breaker.record(ok=True, probe=self._probe)
        self._receive(piece)

    def end(self, *, ok: bool | None) -> None:
        """Record the end of an attempt whose reply has not begun."""
        if not self.begun:
            self._breaker.record(ok=ok, probe=self._probe)


def is_retryable(error: ProviderError) -> bool:
    """Return whether to retry after ``error``: as the provider says, else if it broke, is busy or timed out."""
    if error.should_retry is not None:
        return error.should_retry
    return isinstance(error, (ProviderBroke, ProviderBusy, ProviderTimeout))


def is_healthy(error: ProviderError) -> bool | None:
    """Return the provider's health by an error: a refusal is healthy, a rate limit says nothing (None)."""
    if isinstance(error, ProviderBusy) and error.upstream_status in {None, HTTPStatus.TOO_MANY_REQUESTS}:
        return None
    return isinstance(error, ProviderRefused)
