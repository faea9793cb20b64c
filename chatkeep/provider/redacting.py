"""A provider that is asked, and answers, behind screens: what is sent, stored and shown is what they let through."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from chatkeep.domain.conversation import CONTENT_FILTER, Delta, Finish, Prompt, PromptMessage, Role
from chatkeep.errors import ProviderError
from chatkeep.provider import Call, Provider, Receive
from chatkeep.redaction.policies import RedactionPolicy


class RedactingProvider:
    """The provider that it wraps, behind a screen for what people say, and one for what it answers."""

    def __init__(
        self, provider: Provider, *, asking: RedactionPolicy | None = None, answering: RedactionPolicy | None = None
    ) -> None:
        self.name, self.default_model = provider.name, provider.default_model
        self._provider = provider
        self._asking = asking
        self._answering = answering

    def stream_reply(self, prompt: Prompt) -> Call:
        """Return a call whose prompt and reply are judged."""
        asked = _judged(prompt, self._asking) if self._asking else prompt
        call = self._provider.stream_reply(asked)
        return RedactingCall(call, self._answering) if self._answering else call

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()


def _judged(prompt: Prompt, policy: RedactionPolicy) -> Prompt:
    """Return a prompt with labels for what was said before there was a screen; a model's own words it knows already."""
    return replace(prompt, messages=tuple(_passed(message, policy) for message in prompt.messages))


def _passed(message: PromptMessage, policy: RedactionPolicy) -> PromptMessage:
    if message.role is Role.ASSISTANT:
        return message
    return PromptMessage(message.role, policy.redacted(message.content).text)


class RedactingCall:
    """A call whose text and reasoning are judged, each as one text; what could become sensitive waits."""

    def __init__(self, call: Call, policy: RedactionPolicy) -> None:
        self._call = call
        self._policy = policy
        self._text, self._reasoning = policy.stream(), policy.stream()

    def deliver(self, receive: Receive) -> None:
        """Deliver what may be shown. A reply that may not go on ends there, with a `Finish` that says so."""
        try:
            self._call.deliver(partial(self._judge, receive))
        except ProviderError as error:
            if not self._is_blocked:
                # It is stored, and providers quote what they were sent.
                error.detail = error.detail.rewritten(lambda words: self._policy.redacted(words).text)
                error.finish = self._labelled(error.finish) if error.finish else None
                raise
        finally:
            # Of a reply that breaks off, too, all is shown that was sent and may be.
            self._show_rest(receive)
        if self._is_blocked:
            receive(Finish(CONTENT_FILTER, screened=True))

    def _judge(self, receive: Receive, piece: Delta | Finish) -> None:
        if isinstance(piece, Finish):
            self._show_rest(receive)
        else:
            self._show(receive, self._text.feed(piece.text), self._reasoning.feed(piece.reasoning))
        if self._is_blocked:
            self._call.abort()
        elif isinstance(piece, Finish):
            receive(self._labelled(piece))

    def _labelled(self, finish: Finish) -> Finish:
        """Return the provider's last word with labels for what is sensitive in its texts."""
        reason, model, tool = (
            text and self._policy.redacted(text).text for text in (finish.reason, finish.model, finish.tool)
        )
        return replace(finish, reason=reason, model=model, tool=tool)

    def abort(self) -> None:
        """End the call."""
        self._call.abort()

    @property
    def _is_blocked(self) -> bool:
        return self._policy.blocks and bool(self._text.kinds or self._reasoning.kinds)

    def _show_rest(self, receive: Receive) -> None:
        self._show(receive, self._text.end(), self._reasoning.end())

    def _show(self, receive: Receive, text: str, reasoning: str) -> None:
        if text or reasoning:
            receive(Delta(text, reasoning))
