"""What the provider is sent."""

from __future__ import annotations

import pytest

from chatkeep.model import Prompt, PromptMessage, Role, Said
from chatkeep.prompt import build_prompt, shorter_prompts

HELLO = Said(Role.USER, "Hello")


@pytest.mark.parametrize("system", [None, ""])
def test_without_a_system_prompt_there_is_no_system_message(system: str | None) -> None:
    assert build_prompt("m", system, [HELLO]) == Prompt("m", (PromptMessage(Role.USER, "Hello"),))


def test_the_system_prompt_leads_and_the_order_stays() -> None:
    said = [HELLO, Said(Role.ASSISTANT, "Hi"), Said(Role.USER, "How are you?")]
    built = build_prompt("m", "Be kind.", said)
    assert [(message.role, message.content) for message in built.messages] == [
        (Role.SYSTEM, "Be kind."),
        *((one.role, one.content) for one in said),
    ]


def test_messages_without_text_are_left_out() -> None:
    assert build_prompt("m", None, [HELLO, Said(Role.ASSISTANT, ""), HELLO]) == build_prompt("m", None, [HELLO, HELLO])


def test_options_are_taken_over() -> None:
    assert build_prompt("m", None, [], temperature=0.0, max_tokens=5) == Prompt("m", (), 0.0, 5)


@pytest.mark.parametrize(
    ("error", "content", "left"),
    [("context_length_exceeded", "", "b"), ("provider_refused", "", "ab"), ("context_length_exceeded", "cut", "acutb")],
)
def test_a_question_that_is_too_long_by_itself_is_left_out(error: str, content: str, left: str) -> None:
    said = [Said(Role.USER, "a"), Said(Role.ASSISTANT, content, error), Said(Role.USER, "b")]
    assert spoken(build_prompt("m", None, said)) == left


@pytest.mark.parametrize(
    ("said", "shorter"),
    [
        ("", []),
        ("a", []),
        ("aA", []),
        ("Aa", ["a"]),
        ("aAb", ["b"]),
        ("aAbBc", ["c"]),
        ("aAbBcCd", ["cCd", "d"]),
        ("AaAbBBcCdDe", ["dDe", "e"]),
        ("aAbcCdDefFgGh", ["efFgGh", "h"]),
        ("Sa", []),
        ("SaAb", ["Sb"]),
        ("SaASbBcCd", ["SScCd", "SSd"]),
    ],
)
def test_a_shorter_prompt_keeps_whole_turns_and_the_system_prompt(said: str, shorter: list[str]) -> None:
    """Small letters are questions, capitals replies, and S a system prompt."""
    roles = [Role.SYSTEM if name == "S" else Role.ASSISTANT if name.isupper() else Role.USER for name in said]
    prompt = Prompt("m", tuple(map(PromptMessage, roles, said)), 0.5, 7)
    made = list(shorter_prompts(prompt))
    assert list(map(spoken, made)) == shorter
    assert {(one.model, one.temperature, one.max_tokens) for one in made} <= {("m", 0.5, 7)}


def spoken(prompt: Prompt) -> str:
    return "".join(message.content for message in prompt.messages)
