"""A provider behind a screen: what reaches the reply, and in which order."""

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
    """A provider, and its only call, that says what it is told to; then it ends with a finish reason, or breaks."""

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
        """Nothing is held."""


def received(provider: Told, policy: RedactionMode) -> list[Delta | Finish]:
    found: list[Delta | Finish] = []
    RedactingProvider(provider, answering=RedactionPolicy(REDACTOR, policy)).stream_reply(Prompt("m", ())).deliver(
        found.append
    )
    return found


def test_what_was_held_back_comes_before_the_finish() -> None:
    told = Told(Delta("call 138"), Delta("12345678"), Finish("stop"))
    assert received(told, RedactionMode.MASK) == [Delta("call "), Delta("[phone]"), Finish("stop")]


def test_what_an_error_says_is_judged_because_it_is_stored() -> None:
    with pytest.raises(ProviderBroke) as caught:
        received(Told(Delta("hello"), breaks=True), RedactionMode.MASK)
    assert caught.value.detail == "It said: call [phone]"


def test_how_a_failed_reply_ended_is_judged_too() -> None:
    told = Told(breaks=True)
    told.finish = Finish(f"call_{PHONE}_error")
    with pytest.raises(ProviderBroke) as caught:
        received(told, RedactionMode.MASK)
    assert caught.value.finish == Finish("call_[phone]_error")


def test_the_texts_of_a_finish_are_judged() -> None:
    told = Told(Delta("hello"), Finish(f"call {PHONE}", model=f"of {PHONE}", tool=PHONE))
    assert received(told, RedactionMode.MASK) == [
        Delta("hello"),
        Finish("call [phone]", model="of [phone]", tool="[phone]"),
    ]


def test_reasoning_is_judged_as_a_text_of_its_own() -> None:
    told = Told(Delta(reasoning="138"), Delta("1381234"), Delta(reasoning="12345678。"), Finish("stop"))
    assert received(told, RedactionMode.MASK) == [Delta(reasoning="[phone]。"), Delta("1381234"), Finish("stop")]


@pytest.mark.parametrize("breaks", [False, True])
def test_nothing_comes_behind_what_may_not_be_shown(*, breaks: bool) -> None:
    """A call that was aborted may raise whatever it likes."""
    told = Told(Delta(f"call {PHONE}, "), Delta("or write"), breaks=breaks)
    assert received(told, RedactionMode.BLOCK) == [Delta("call "), Finish(CONTENT_FILTER, screened=True)]
    assert told.aborted


def test_what_shows_itself_at_the_very_end_is_not_shown() -> None:
    told = Told(Delta(f"call {PHONE}"), Finish("stop"))
    assert received(told, RedactionMode.BLOCK) == [Delta("call "), Finish(CONTENT_FILTER, screened=True)]


def test_a_call_that_breaks_gives_what_it_held_back() -> None:
    told = Told(Delta("call 138"), breaks=True)
    found: list[Delta | Finish] = []
    call = RedactingProvider(told, answering=RedactionPolicy(REDACTOR, RedactionMode.MASK)).stream_reply(
        Prompt("m", ())
    )
    with pytest.raises(ProviderBroke):
        call.deliver(found.append)
    assert found == [Delta("call "), Delta("138")]


@pytest.mark.parametrize("policy", [RedactionMode.MASK, RedactionMode.BLOCK])
def test_what_was_said_before_there_was_a_screen_is_not_sent(policy: RedactionMode) -> None:
    """A block would end the conversation for good; a model's own words are no news to it."""
    told, asking = Told(Finish("stop")), RedactionPolicy(REDACTOR, policy)
    said = [PromptMessage(role, f"call {PHONE}") for role in (Role.SYSTEM, Role.USER, Role.ASSISTANT)]
    RedactingProvider(told, asking=asking).stream_reply(Prompt("m", tuple(said), 0.5, 7)).deliver(lambda _: None)
    (asked,) = told.asked
    assert [message.content for message in asked.messages] == ["call [phone]", "call [phone]", f"call {PHONE}"]
    assert (asked.model, asked.temperature, asked.max_tokens) == ("m", 0.5, 7)
