"""A provider whose replies are judged before anybody has them: what is stored and shown is what this lets through."""

from __future__ import annotations

from functools import partial

from chatkeep.errors import ProviderError
from chatkeep.model import CONTENT_FILTER, Delta, Finish, Prompt
from chatkeep.provider import Call, Provider, Receive
from chatkeep.redaction.policies import Screen


class Redacting:
    """The provider that it wraps, behind a screen."""

    def __init__(self, provider: Provider, screen: Screen) -> None:
        self.name, self.default_model = provider.name, provider.default_model
        self._provider = provider
        self._screen = screen

    def stream_reply(self, prompt: Prompt) -> RedactingCall:
        """Return a call whose reply is judged."""
        return RedactingCall(self._provider.stream_reply(prompt), self._screen)

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()


class RedactingCall:
    """A call whose text and reasoning are judged, each as one text; what could become sensitive waits."""

    def __init__(self, call: Call, screen: Screen) -> None:
        self._call = call
        self._text, self._reasoning = screen.stream(), screen.stream()
        self._blocks = screen.blocks

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
