"""Redact prompts before they are sent, and replies before they are stored and shown."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from chatkeep.domain.conversation import CONTENT_FILTER, Delta, Finish, Prompt, PromptMessage, Role
from chatkeep.errors import ProviderError
from chatkeep.provider import Call, Provider, Receive
from chatkeep.redaction.policies import RedactionPolicy


class RedactingProvider:
    """Wraps a provider with a redaction policy for prompts and one for replies."""

    def __init__(
        self,
        provider: Provider,
        *,
        prompt_policy: RedactionPolicy | None = None,
        reply_policy: RedactionPolicy | None = None,
    ) -> None:
        self.name, self.default_model = provider.name, provider.default_model
        self._provider = provider
        self._prompt_policy = prompt_policy
        self._reply_policy = reply_policy

    def stream_reply(self, prompt: Prompt) -> Call:
        """Return a call with a redacted prompt and reply."""
        asked = _redacted_prompt(prompt, self._prompt_policy) if self._prompt_policy else prompt
        call = self._provider.stream_reply(asked)
        return RedactingCall(call, self._reply_policy) if self._reply_policy else call

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()


def _redacted_prompt(prompt: Prompt, policy: RedactionPolicy) -> Prompt:
    """Redact messages that were stored before the policy was set. The model knows its own replies already."""
    return replace(prompt, messages=tuple(_redacted_message(message, policy) for message in prompt.messages))


def _redacted_message(message: PromptMessage, policy: RedactionPolicy) -> PromptMessage:
    if message.role is Role.ASSISTANT:
        return message
    return PromptMessage(message.role, policy.redact(message.content).text)


class RedactingCall:
    """A call whose text and reasoning are redacted as two streams. Text that may become sensitive is held back."""

    def __init__(self, call: Call, policy: RedactionPolicy) -> None:
        self._call = call
        self._policy = policy
        self._text, self._reasoning = policy.stream(), policy.stream()

    def deliver(self, receive: Receive) -> None:
        """Deliver the redacted reply. A blocked reply ends there, with a content filter `Finish`."""
        try:
            self._call.deliver(partial(self._redact, receive))
        except ProviderError as error:
            if not self._is_blocked:
                # The error is stored, and providers quote the prompt.
                error.detail = error.detail.rewritten(lambda words: self._policy.redact(words).text)
                error.finish = self._redacted_finish(error.finish) if error.finish else None
                raise
        finally:
            # Also after an error, show all text that was received.
            self._show_rest(receive)
        if self._is_blocked:
            receive(Finish(CONTENT_FILTER, screened=True))

    def _redact(self, receive: Receive, piece: Delta | Finish) -> None:
        if isinstance(piece, Finish):
            self._show_rest(receive)
        else:
            self._show(receive, self._text.feed(piece.text), self._reasoning.feed(piece.reasoning))
        if self._is_blocked:
            self._call.abort()
        elif isinstance(piece, Finish):
            receive(self._redacted_finish(piece))

    def _redacted_finish(self, finish: Finish) -> Finish:
        """Return a `Finish` with redacted texts."""
        reason, model, tool = (
            text and self._policy.redact(text).text for text in (finish.reason, finish.model, finish.tool)
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
