"""What is remembered, for whom, and how much of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Prompt, PromptMessage, Role
from chatkeep.turns.cache import Answer, MemoryCache, key_of

PROMPT = Prompt("m", (PromptMessage(Role.SYSTEM, "be brief"), PromptMessage(Role.USER, "hi")), 0.5, 100)


def answer(text: str = "hello") -> Answer:
    return Answer(UUID(int=1), UUID(int=2), text, "", "m", "stop", 1, 2, 0)


def test_the_same_question_of_the_same_owner_has_the_same_key() -> None:
    assert key_of("ann", PROMPT) == key_of("ann", replace(PROMPT))


def test_another_owner_never_has_the_same_key() -> None:
    assert key_of("ann", PROMPT) != key_of("bob", PROMPT)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"temperature": 0.6},
        {"temperature": None},
        {"max_tokens": 101},
        {"messages": PROMPT.messages[1:]},
        {"messages": (*PROMPT.messages, PromptMessage(Role.USER, ""))},
        {"messages": (PromptMessage(Role.SYSTEM, "be briefhi"),)},
        {"messages": (PromptMessage(Role.USER, "be brief"), PromptMessage(Role.USER, "hi"))},
    ],
    ids=str,
)
def test_whatever_is_sent_is_in_the_key(change: dict[str, Any]) -> None:
    assert key_of("ann", PROMPT) != key_of("ann", replace(PROMPT, **change))


def test_the_least_recently_used_answer_makes_room() -> None:
    cache = MemoryCache(3 * answer().size, ttl=60)
    for key in (b"1", b"2", b"3"):
        cache.put(key, answer())
    cache.get_local(b"1")
    cache.put(b"4", answer())
    assert [bool(cache.get_local(key)) for key in (b"1", b"2", b"3", b"4")] == [True, False, True, True]
    assert cache.counts().bytes == 3 * answer().size


def test_an_answer_larger_than_the_cache_is_not_remembered() -> None:
    cache = MemoryCache(1000, ttl=60)
    cache.put(b"1", answer())
    cache.put(b"2", answer("x" * 1000))
    assert (cache.get_local(b"2"), cache.counts().entries) == (None, 1)


def test_a_cache_of_nothing_remembers_nothing() -> None:
    cache = MemoryCache(0, ttl=60)
    cache.put(b"1", answer())
    assert cache.get_local(b"1") is None


def test_an_old_answer_is_forgotten() -> None:
    cache = MemoryCache(10_000, ttl=0)
    cache.put(b"1", answer())
    assert cache.get_local(b"1") is None
    assert cache.counts().entries == cache.counts().bytes == 0


def test_an_answer_that_is_replaced_counts_once() -> None:
    cache = MemoryCache(10_000, ttl=60)
    cache.put(b"1", answer())
    cache.put(b"1", answer("other"))
    assert cache.get_local(b"1") == answer("other")
    assert cache.counts().entries == 1
