from __future__ import annotations

import time

import pytest

from chatkeep.domain.conversation import Delta, Finish, Prompt, PromptMessage, Role
from chatkeep.provider.demo import DemoProvider, answer
from tests.provider.asking import Asking, Outcome, ask, prompt


@pytest.mark.parametrize(("question", "word"), [("Hello, you", "demo model"), ("你好", "演示模型"), ("", "demo model")])
def test_demo_answers_in_language_of_question(question: str, word: str) -> None:
    outcome = ask(DemoProvider(pace=0), question)
    assert word in outcome.text
    assert question in outcome.text
    assert "OPENAI_API_KEY" in outcome.text
    assert outcome.text == answer(prompt(question))


def test_demo_streams_small_pieces_and_finishes() -> None:
    outcome = ask(DemoProvider(pace=0), "Hello")
    assert len(outcome.items) > 50
    assert outcome.finish is not None
    assert outcome.finish.reason == "stop"
    assert outcome.finish.usage is not None
    assert outcome.finish.usage.output_tokens == len(outcome.items) - 1


def test_demo_shows_its_context() -> None:
    roles = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER)
    messages = tuple(PromptMessage(role, f"text {number}") for number, role in enumerate(roles))
    text = answer(Prompt("demo", messages))
    assert "3 messages" in text
    assert "began with “text 1”" in text


def test_question_cannot_break_markdown_of_answer() -> None:
    assert "“\\`\\`\\` \\<b\\> \\[x\\](y) {count}”" in ask(DemoProvider(pace=0), "```\n<b> [x](y) {count}").text


def test_demo_obeys_token_limit() -> None:
    call = DemoProvider(pace=0).stream_reply(Prompt("demo", (PromptMessage(Role.USER, "Hello"),), max_tokens=3))
    *deltas, finish = Outcome().collect(call).items
    assert [type(delta) for delta in deltas] == [Delta] * 3
    assert isinstance(finish, Finish)
    assert finish.reason == "length"


def test_abort_ends_demo_at_once() -> None:
    asking = Asking(DemoProvider(pace=60))
    time.sleep(0.05)
    assert asking.abort() < 0.5
    assert asking.outcome.items == []
