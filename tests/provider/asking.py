"""Call a provider and collect the results."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from chatkeep.domain.conversation import Delta, Finish, Prompt, PromptMessage, Role
from chatkeep.errors import ProviderError
from chatkeep.provider import Call, Provider
from tests.client import SLOW


@dataclass
class Outcome:
    """The results of a call: its items, and the error that ended it."""

    items: list[Delta | Finish] = field(default_factory=list)
    error: ProviderError | None = None
    ended: float = 0.0

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, Delta))

    @property
    def reasoning(self) -> str:
        return "".join(item.reasoning for item in self.items if isinstance(item, Delta))

    @property
    def finish(self) -> Finish | None:
        last = self.items[-1] if self.items else None
        return last if isinstance(last, Finish) else None

    def collect(self, call: Call) -> Outcome:
        try:
            call.deliver(self.items.append)
        except ProviderError as error:
            self.error = error
        self.ended = time.monotonic()
        return self


def prompt(*messages: str, model: str = "m") -> Prompt:
    """Return a prompt of user messages."""
    return Prompt(model, tuple(PromptMessage(Role.USER, message) for message in messages))


def ask(provider: Provider, *messages: str) -> Outcome:
    return Outcome().collect(provider.stream_reply(prompt(*messages)))


class Asking:
    """A call in its own thread."""

    def __init__(self, provider: Provider, message: str = "hi") -> None:
        self.call = provider.stream_reply(prompt(message))
        self.outcome = Outcome()
        self.thread = threading.Thread(target=self.outcome.collect, args=(self.call,))
        self.thread.start()

    def abort(self) -> float:
        """Abort the call. Return the seconds until it ended."""
        start = time.monotonic()
        self.call.abort()
        self.thread.join(10 * SLOW)
        return self.outcome.ended - start if self.outcome.ended else float("inf")
