"""The redacting provider: what reaches the reply, and in which order."""

from __future__ import annotations

import pytest

from chatkeep.domain.conversation import CONTENT_FILTER, Delta, Finish, Prompt, PromptMessage, Role
from chatkeep.errors import ProviderBroke
from chatkeep.i18n import verbatim
from chatkeep.provider import Receive
from chatkeep.provider.redacting import RedactingProvider
from chatkeep.redaction import Redactor
from chatkeep.redaction.policies import RedactionMode, RedactionPolicy

PHONE = "13812345678"
REDACTOR = Redactor(["phone"])


class Told:
    """A provider and its only call, which delivers the given pieces and then finishes or fails."""

    name = default_model = "told"

    def __init__(self, *pieces: Delta | Finish, breaks: bool = False) -> None:
        self.aborted = False
        self.asked: list[Prompt] = []
        self.finish: Finish | None = None
        self._pieces = pieces
        self._breaks = breaks

    def stream_reply(self, prompt: Prompt) -> Told:
        self.asked.append(prompt)
        return self

    def deliver(self, receive: Receive) -> None:
        for piece in self._pieces:
            receive(piece)
        if self._breaks:
            error = ProviderBroke(verbatim(f"It said: call {PHONE}"))
            error.finish = self.finish
            raise error

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        """Do nothing."""


def received(provider: Told, policy: RedactionMode) -> list[Delta | Finish]:
    found: list[Delta | Finish] = []
    RedactingProvider(provider, reply_policy=RedactionPolicy(REDACTOR, policy)).stream_reply(Prompt("m", ())).deliver(
        found.append
    )
    return found


def test_held_back_text_comes_before_finish() -> None:
    told = Told(Delta("call 138"), Delta("12345678"), Finish("stop"))
    assert received(told, RedactionMode.MASK) == [Delta("call "), Delta("[phone]"), Finish("stop")]


def test_error_message_is_redacted() -> None:
    with pytest.raises(ProviderBroke) as caught:
        received(Told(Delta("hello"), breaks=True), RedactionMode.MASK)
    assert caught.value.detail == "It said: call [phone]"


def test_finish_of_failed_reply_is_redacted() -> None:
    told = Told(breaks=True)
    told.finish = Finish(f"call_{PHONE}_error")
    with pytest.raises(ProviderBroke) as caught:
        received(told, RedactionMode.MASK)
    assert caught.value.finish == Finish("call_[phone]_error")


def test_finish_texts_are_redacted() -> None:
    told = Told(Delta("hello"), Finish(f"call {PHONE}", model=f"of {PHONE}", tool=PHONE))
    assert received(told, RedactionMode.MASK) == [
        Delta("hello"),
        Finish("call [phone]", model="of [phone]", tool="[phone]"),
    ]


def test_reasoning_is_redacted_separately() -> None:
    told = Told(Delta(reasoning="138"), Delta("1381234"), Delta(reasoning="12345678。"), Finish("stop"))
    assert received(told, RedactionMode.MASK) == [Delta(reasoning="[phone]。"), Delta("1381234"), Finish("stop")]


@pytest.mark.parametrize("breaks", [False, True])
def test_nothing_follows_a_blocked_match(*, breaks: bool) -> None:
    """An aborted call may raise anything."""
    told = Told(Delta(f"call {PHONE}, "), Delta("or write"), breaks=breaks)
    assert received(told, RedactionMode.BLOCK) == [Delta("call "), Finish(CONTENT_FILTER, screened=True)]
    assert told.aborted


def test_match_at_the_very_end_is_blocked() -> None:
    told = Told(Delta(f"call {PHONE}"), Finish("stop"))
    assert received(told, RedactionMode.BLOCK) == [Delta("call "), Finish(CONTENT_FILTER, screened=True)]


def test_failed_call_delivers_held_back_text() -> None:
    told = Told(Delta("call 138"), breaks=True)
    found: list[Delta | Finish] = []
    call = RedactingProvider(told, reply_policy=RedactionPolicy(REDACTOR, RedactionMode.MASK)).stream_reply(
        Prompt("m", ())
    )
    with pytest.raises(ProviderBroke):
        call.deliver(found.append)
    assert found == [Delta("call "), Delta("138")]


@pytest.mark.parametrize("policy", [RedactionMode.MASK, RedactionMode.BLOCK])
def test_earlier_messages_are_redacted_in_prompt(policy: RedactionMode) -> None:
    """Blocking would end the conversation forever. The model knows its own replies already."""
    told, asking = Told(Finish("stop")), RedactionPolicy(REDACTOR, policy)
    said = [PromptMessage(role, f"call {PHONE}") for role in (Role.SYSTEM, Role.USER, Role.ASSISTANT)]
    RedactingProvider(told, prompt_policy=asking).stream_reply(Prompt("m", tuple(said), 0.5, 7)).deliver(lambda _: None)
    (asked,) = told.asked
    assert [message.content for message in asked.messages] == ["call [phone]", "call [phone]", f"call {PHONE}"]
    assert (asked.model, asked.temperature, asked.max_tokens) == ("m", 0.5, 7)
