"""What the provider is sent."""

from __future__ import annotations

import random

import pytest

from chatkeep.domain.conversation import Prompt, PromptMessage, Role, Said
from chatkeep.turns.prompt import alternating, answered_prompt, build_prompt, shorter_prompts
from tests import templates

HELLO = Said(Role.USER, "Hello")


@pytest.mark.parametrize("system", [None, "", " \n"])
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


def test_prompt_has_the_options_of_the_turn() -> None:
    assert build_prompt("m", None, [], temperature=0.0, max_tokens=5) == Prompt("m", (), 0.0, 5)


@pytest.mark.parametrize(
    ("error", "content", "left"),
    [("context_length_exceeded", "", "b"), ("provider_refused", "", "ab"), ("context_length_exceeded", "cut", "acutb")],
)
def test_a_question_that_is_too_long_by_itself_is_left_out(error: str, content: str, left: str) -> None:
    said = [Said(Role.USER, "a"), Said(Role.ASSISTANT, content, error), Said(Role.USER, "b")]
    assert spoken(build_prompt("m", None, said)) == left


@pytest.mark.parametrize(
    ("reason", "content", "left"),
    [("content_filter", "", "b"), ("content_filter", "cut", "acutb"), ("length", "", "ab")],
)
def test_a_question_whose_answer_was_filtered_is_left_out(reason: str, content: str, left: str) -> None:
    said = [Said(Role.USER, "a"), Said(Role.ASSISTANT, content, None, reason), Said(Role.USER, "b")]
    assert spoken(build_prompt("m", None, said)) == left


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("aAbBc", "aAbBc"),
        ("AbBc", "bBc"),
        ("ABc", "c"),
        ("A", ""),
        ("SAbBc", "SbBc"),
        (" Ab", "b"),
        ("a bBc", "abBc"),
        (" ", " "),
    ],
)
def test_prompt_begins_with_a_question_and_has_no_empty_message(said: str, sent: str) -> None:
    latest = [Said(message.role, message.content) for message in prompt_of(said).messages]
    assert spoken(build_prompt("m", None, latest)) == sent


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("", []),
        ("aAb", ["a", "A", "b"]),
        ("abAc", ["a\n\nb", "A", "c"]),
        ("aABb", ["a", "A\n\nB", "b"]),
        ("SabSc", ["S\n\nS", "a\n\nb\n\nc"]),
        ("SaA", ["S", "a", "A"]),
    ],
)
def test_roles_alternate_behind_one_system_prompt(said: str, sent: list[str]) -> None:
    made = alternating(prompt_of(said))
    assert [message.content for message in made.messages] == sent
    assert (made.model, made.temperature, made.max_tokens) == ("m", 0.5, 7)


@pytest.mark.parametrize(
    ("said", "answered"),
    [("a", None), ("aAb", None), ("Sa", None), ("ab", "b"), ("aAbcd", "aAd"), ("SabBcd", "SbBd"), ("abAcC", "bAcC")],
)
def test_answered_prompt_drops_unanswered_questions(said: str, answered: str | None) -> None:
    made = answered_prompt(prompt_of(said))
    assert (made and spoken(made)) == answered


@pytest.mark.parametrize("template", templates.TEMPLATES)
def test_strict_templates_accept_every_prompt(template: str) -> None:
    """Each end of a reply, in any order, with every number of messages that may be sent."""
    system = "Be brief." if template == "llama" else None
    chance = random.Random(template)  # noqa: S311 - it must repeat itself
    for most in range(1, 42):
        said = [one for number in range(40) for one in turn(number, chance)]
        latest = [*said, Said(Role.USER, "now")][-most:]
        for prompt in (made := build_prompt("m", system, latest), *shorter_prompts(made)):
            sent = alternating(prompt).messages
            templates.render(template, [{"role": one.role.value, "content": one.content} for one in sent])
            assert sent[-1].content.endswith("now")
            text = "\n".join(one.content for one in sent)
            assert all(f"question {number}." in text for number in range(40) if f"answer {number}." in text)


def turn(number: int, chance: random.Random) -> list[Said]:
    """Return a question with its reply, however it ended: whole, cut, without text, or as too long a prompt."""
    question = Said(Role.USER, f"question {number}.")
    whole = Said(Role.ASSISTANT, f"answer {number}.")
    cut = Said(Role.ASSISTANT, f"answer {number}.", "provider_broke")
    ends = [whole, cut, *(Said(Role.ASSISTANT, "", error) for error in (None, "provider_broke"))]
    return [question, chance.choice([*ends, Said(Role.ASSISTANT, "", "context_length_exceeded")])]


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
    prompt = prompt_of(said)
    made = list(shorter_prompts(prompt))
    assert list(map(spoken, made)) == shorter
    assert {(one.model, one.temperature, one.max_tokens) for one in made} <= {("m", 0.5, 7)}


def prompt_of(said: str) -> Prompt:
    """Return a prompt of messages of one letter: small ones are questions, capitals replies, and S a system prompt."""
    roles = [Role.SYSTEM if name == "S" else Role.ASSISTANT if name.isupper() else Role.USER for name in said]
    return Prompt("m", tuple(map(PromptMessage, roles, said)), 0.5, 7)


def spoken(prompt: Prompt) -> str:
    return "".join(message.content for message in prompt.messages)
