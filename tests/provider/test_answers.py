"""Recorded answers of real providers, read by both providers with a network."""

from __future__ import annotations

import time

import pytest

from chatkeep.provider import Provider
from tests.answer_parts import SENTENCE
from tests.answers import ANSWERS
from tests.provider.asking import ask
from tests.upstream import Upstream


@pytest.mark.parametrize("name", ANSWERS)
def test_recorded_answers_give_the_expected_reply(name: str, provider: Provider, upstream: Upstream) -> None:
    due = ANSWERS[name]
    upstream.script(f"fault=answer:{name}")
    outcome = ask(provider, "What is fog?")
    assert (outcome.text, outcome.reasoning) == (due.text, due.reasoning)
    finish = outcome.error.finish if outcome.error else outcome.finish
    assert (finish and finish.reason) == due.reason
    if due.usage:
        assert finish
        assert finish.usage
        assert (finish.usage.input_tokens, finish.usage.output_tokens) == due.usage
    if due.error in {None, "empty_reply"}:
        assert outcome.error is None
    else:
        assert outcome.error
        assert outcome.error.code == due.error
        assert due.told in outcome.error.detail


@pytest.mark.parametrize("spec", ["n=9,fault=heartbeats", "n=9,fault=hang_reason"])
def test_reply_ends_soon_after_finish_reason(spec: str, provider: Provider, upstream: Upstream) -> None:
    """Takes the two seconds in which usage may follow."""
    begun = time.monotonic()
    outcome = ask(provider, f"#{spec}#")
    assert outcome.error is None
    assert outcome.finish
    assert outcome.finish.reason == "stop"
    assert time.monotonic() - begun > 1.5
    assert upstream.wait_for(lambda it: it.active == 0), "the connection was left open"


def test_text_after_early_finish_reason_is_read(provider: Provider) -> None:
    """Takes over two seconds. A finish reason with every word is not the end."""
    outcome = ask(provider, "#fault=reasoned,r=2.5#")
    assert (outcome.text, outcome.error) == (SENTENCE, None)
