"""The protocol of providers, from which replies come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chatkeep.domain.conversation import Delta, Finish, Prompt

Receive = Callable[[Delta | Finish], None]
"""Takes a piece of a reply. Must not block."""


class Call(Protocol):
    """One call to a provider. `deliver` it once; `abort` ends it early."""

    def deliver(self, receive: Receive) -> None:
        """Pass every `Delta` to ``receive`` as it arrives, then a `Finish`.

        Deltas have text or reasoning. Raises a `ProviderError`, before the first delta or later; `ProviderBroke` if the
        reply ends without a finish reason. After `abort`, which ``receive`` itself may call, it returns at once without
        a `Finish`; ignore what it raises then.
        """

    def abort(self) -> None:
        """End the call, from any thread at any time. Closes the connection to the provider at once."""


class Provider(Protocol):
    """Access to models. Thread-safe: one instance serves a process."""

    name: str
    """The name in logs and health reports: ``openai``, ``demo`` …"""

    default_model: str
    """The model for requests that name none."""

    def stream_reply(self, prompt: Prompt) -> Call:
        """Return a call. It connects in `Call.deliver`."""

    def close(self) -> None:
        """Close idle connections."""
