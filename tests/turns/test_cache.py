"""The memory cache: keys, least recently used order, expiry, and the bound in bytes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Prompt, PromptMessage, Role
from chatkeep.turns.cache import Answer, Counts, MemoryCache, key_of

PROMPT = Prompt("m", (PromptMessage(Role.SYSTEM, "be brief"), PromptMessage(Role.USER, "hi")), 0.5, 100)


def answer(text: str = "hello") -> Answer:
    return Answer(UUID(int=1), UUID(int=2), text, "", "m", "stop", 1, 2, 0)


def test_key_is_the_same_for_same_owner_and_prompt() -> None:
    assert key_of("ann", PROMPT) == key_of("ann", replace(PROMPT))


def test_key_differs_by_owner() -> None:
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
def test_key_depends_on_everything_sent(change: dict[str, Any]) -> None:
    assert key_of("ann", PROMPT) != key_of("ann", replace(PROMPT, **change))


def test_put_evicts_the_least_recently_used_answer() -> None:
    cache = MemoryCache(3 * answer().size, ttl=60)
    for key in (b"1", b"2", b"3"):
        cache.put(key, answer())
    cache.get_local(b"1")
    cache.put(b"4", answer())
    assert [bool(cache.get_local(key)) for key in (b"1", b"2", b"3", b"4")] == [True, False, True, True]
    assert cache.counts().bytes == 3 * answer().size


def test_put_ignores_an_answer_larger_than_the_cache() -> None:
    cache = MemoryCache(1000, ttl=60)
    cache.put(b"1", answer())
    cache.put(b"2", answer("x" * 1000))
    assert (cache.get_local(b"2"), cache.counts().entries) == (None, 1)


def test_cache_of_size_zero_stores_nothing() -> None:
    cache = MemoryCache(0, ttl=60)
    cache.put(b"1", answer())
    assert cache.get_local(b"1") is None


def test_expired_answer_is_removed() -> None:
    time = 0.0
    cache = MemoryCache(10_000, ttl=60, now=lambda: time)
    cache.put(b"1", answer())
    time = 59.9
    assert cache.get_local(b"1") == answer()
    time = 60.0
    assert cache.get_local(b"1") is None
    assert cache.counts().entries == cache.counts().bytes == 0


def test_replaced_answer_counts_once() -> None:
    cache = MemoryCache(10_000, ttl=60)
    cache.put(b"1", answer())
    cache.put(b"1", answer("other"))
    assert cache.get_local(b"1") == answer("other")
    assert cache.counts().entries == 1


def test_forget_removes_only_the_owner_s_answers() -> None:
    cache = MemoryCache(10_000, ttl=60)
    mine, theirs = key_of("ann", PROMPT), key_of("bob", PROMPT)
    cache.put(mine, answer())
    cache.put(theirs, answer())
    cache.forget("ann")
    assert (cache.get_local(mine), cache.get_local(theirs)) == (None, answer())
    assert cache.counts() == Counts(hits=1, misses=1, entries=1, bytes=answer().size)


def test_clear_removes_every_answer_and_keeps_hits_and_misses() -> None:
    cache = MemoryCache(10_000, ttl=60)
    cache.put(b"1", answer())
    cache.get_local(b"1")
    cache.clear()
    assert cache.get_local(b"1") is None
    assert cache.counts() == Counts(hits=1, misses=1)
