"""A provider whose replies are judged before anybody has them: what is stored and shown is what this lets through."""

from __future__ import annotations

from functools import partial

from chatkeep.errors import ProviderError
from chatkeep.model import CONTENT_FILTER, Delta, Finish, Prompt
from chatkeep.provider import Call, Provider, Receive
from chatkeep.redaction.policies import Gate


class Redacting:
    """The provider that it wraps, behind a gate."""

    def __init__(self, provider: Provider, gate: Gate) -> None:
        self.name, self.default_model = provider.name, provider.default_model
        self._provider = provider
        self._gate = gate

    def stream_reply(self, prompt: Prompt) -> RedactingCall:
        """Return a call whose reply is judged."""
        return RedactingCall(self._provider.stream_reply(prompt), self._gate)

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()


class RedactingCall:
    """A call whose text and reasoning are judged, each as one text; what could become sensitive waits."""

    def __init__(self, call: Call, gate: Gate) -> None:
        self._call = call
        self._text, self._reasoning = gate.stream(), gate.stream()
        self._blocks = gate.blocks

    def deliver(self, receive: Receive) -> None:
        """Deliver what may be shown. A reply that may not go on ends there, with a `Finish` that says so."""
        try:
            self._call.deliver(partial(self._judge, receive))
        except ProviderError:
            if not self._is_blocked:
                raise
        finally:
            # Of a reply that breaks off, too, all is shown that was sent and may be.
            self._show_rest(receive)
        if self._is_blocked:
            receive(Finish(CONTENT_FILTER, whole=False))

    def _judge(self, receive: Receive, piece: Delta | Finish) -> None:
        if isinstance(piece, Finish):
            self._show_rest(receive)
        else:
            self._show(receive, self._text.feed(piece.text), self._reasoning.feed(piece.reasoning))
        if self._is_blocked:
            self._call.abort()
        elif isinstance(piece, Finish):
            receive(piece)

    def abort(self) -> None:
        """End the call."""
        self._call.abort()

    @property
    def _is_blocked(self) -> bool:
        return self._blocks and bool(self._text.kinds or self._reasoning.kinds)

    def _show_rest(self, receive: Receive) -> None:
        self._show(receive, self._text.end(), self._reasoning.end())

    def _show(self, receive: Receive, text: str, reasoning: str) -> None:
        if text or reasoning:
            receive(Delta(text, reasoning))
