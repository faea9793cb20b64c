"""What the provider is sent."""

from __future__ import annotations

import pytest

from chatkeep.model import Prompt, PromptMessage, Role
from chatkeep.prompt import build_prompt

HELLO = (Role.USER, "Hello")


@pytest.mark.parametrize("system", [None, ""])
def test_without_a_system_prompt_there_is_no_system_message(system: str | None) -> None:
    assert build_prompt("m", system, [HELLO]) == Prompt("m", (PromptMessage(Role.USER, "Hello"),))


def test_the_system_prompt_leads_and_the_order_stays() -> None:
    said = [HELLO, (Role.ASSISTANT, "Hi"), (Role.USER, "How are you?")]
    built = build_prompt("m", "Be kind.", said)
    assert [(message.role, message.content) for message in built.messages] == [(Role.SYSTEM, "Be kind."), *said]


def test_messages_without_text_are_left_out() -> None:
    assert build_prompt("m", None, [HELLO, (Role.ASSISTANT, ""), HELLO]) == build_prompt("m", None, [HELLO, HELLO])


def test_options_are_taken_over() -> None:
    assert build_prompt("m", None, [], temperature=0.0, max_tokens=5) == Prompt("m", (), 0.0, 5)
