"""Where replies come from: the protocol that every provider follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chatkeep.domain.conversation import Delta, Finish, Prompt

Receive = Callable[[Delta | Finish], None]
"""Takes a piece of a reply, without waiting for anything."""


class Call(Protocol):
    """One call to a provider: have it delivered once, abort it to be rid of it."""

    def deliver(self, receive: Receive) -> None:
        """Call ``receive`` with every `Delta` as it arrives and at last with a `Finish`; return when that is done.

        Deltas have text or reasoning. Raises a `ProviderError` for what goes wrong, before any delta or later; a reply
        that ends without the provider's finish reason is `ProviderBroke`. After `abort`, also by ``receive`` itself, it
        returns at once and without a `Finish`; whatever it raises then is of no interest.
        """

    def abort(self) -> None:
        """End the call from any thread at any time: the connection to the provider is closed at once."""


class Provider(Protocol):
    """A model behind some interface. One instance serves all threads of a process."""

    name: str
    """What logs and health say: ``openai``, ``demo`` …"""

    default_model: str
    """The model that answers where a request names none."""

    def stream_reply(self, prompt: Prompt) -> Call:
        """Return a call that is not begun yet: it connects when it is to be delivered."""

    def close(self) -> None:
        """Give back what the provider holds: idle connections."""
