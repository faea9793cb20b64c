"""Where replies come from: the protocol that every provider follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from chatkeep.model import Delta, Finish, Prompt


class Call(Protocol):
    """One running call to a provider: iterate it for the reply, abort it to be rid of it.

    Iterating yields `Delta`s as they arrive and, where the provider closed the reply properly, a `Finish` as the last
    item. Deltas without text and reasoning are not yielded. It raises a `ProviderError`: at the first ``next()`` for
    what goes wrong before any delta, at a later one for what goes wrong amid the reply. A reply that ends without the
    provider's finish reason raises `ProviderBroke`. After `abort`, iterating ends at once: without `Finish`, and
    whatever it raises is of no interest.
    """

    def __iter__(self) -> Iterator[Delta | Finish]:
        """Yield the reply."""

    def abort(self) -> None:
        """End the call from any thread at any time: the connection to the provider is closed at once."""


class Provider(Protocol):
    """A model behind some interface. One instance serves all threads of a process."""

    name: str
    """What logs and health say: ``openai``, ``demo`` …"""

    default_model: str
    """The model that answers where a request names none."""

    def stream_reply(self, prompt: Prompt) -> Call:
        """Return a call that is not begun yet: it connects when it is iterated."""

    def close(self) -> None:
        """Give back what the provider holds: idle connections."""
