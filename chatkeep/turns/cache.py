"""Answers that were given before, for the same caller and the same prompt.

The key is a hash of all that an answer depends on: the owner, the model, the parameters and every message sent. It
begins with a hash of the owner alone, by which all that an owner was answered can be forgotten.
Nobody is ever given another owner's answer. An answer is given again only while the reply that it came from is stored:
what was deleted or has expired is not repeated, in whichever process it is remembered.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any, Protocol
from uuid import UUID

import msgspec

from chatkeep.domain.conversation import Prompt, Usage
from chatkeep.errors import StoreUnavailable
from chatkeep.runtime.concurrency import short_lock
from chatkeep.runtime.redis import RedisClient

# The mark of when every cache was last cleared.
CACHE_CLEARED = "cache_cleared"
# The mark that counts erasures: what is remembered in a process is forgotten when it has changed.
ERASURES = "erasures"
# Python's own objects around an answer, roughly.
OVERHEAD_BYTES = 400
PREFIX = b"chatkeep:answer:3:"
OWNER_BYTES = 16
SCANNED_AT_ONCE = 1000
TRIED_MS = 10_000
# What the database takes: Redis may hold anything.
Amount = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Name = Annotated[str, msgspec.Meta(max_length=255)]
Word = Annotated[str, msgspec.Meta(max_length=64)]


class Answer(msgspec.Struct, frozen=True):
    """A completed reply and where it is stored."""

    conversation_id: UUID
    reply_id: UUID
    text: str
    reasoning: str
    model: Name | None
    finish_reason: Word
    input_tokens: Amount | None
    output_tokens: Amount | None
    stored_at: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    """µs since 1970."""

    @property
    def usage(self) -> Usage | None:
        """What the reply cost when it was generated."""
        return None if self.input_tokens is None else Usage(self.input_tokens, self.output_tokens or 0)

    @property
    def size(self) -> int:
        """About how many bytes it takes to remember this."""
        return 4 * (len(self.text) + len(self.reasoning)) + OVERHEAD_BYTES


_unpack = msgspec.msgpack.Decoder(Answer).decode


@dataclass(slots=True)
class Counts:
    """How a cache has served since the process began, and what it holds."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class Cache(Protocol):
    """Where answers are remembered."""

    def get_local(self, key: bytes) -> Answer | None:
        """Return an answer that this process remembers and is not too old; nothing is waited for."""

    def get_shared(self, key: bytes) -> Answer | None:
        """Return an answer that others remember, where this process does not."""

    def put(self, key: bytes, answer: Answer) -> None:
        """Remember an answer."""

    def clear(self) -> None:
        """Forget every answer."""

    def forget(self, owner: str) -> None:
        """Forget every answer of an owner. Raises `StoreUnavailable` where others cannot be asked to."""

    def counts(self) -> Counts:
        """Return how this process used the cache."""


class MemoryCache:
    """Answers of this process, the least recently used forgotten first."""

    def __init__(self, most_bytes: int, ttl: float) -> None:
        self._most_bytes = most_bytes
        self._ttl = ttl
        self._answers: OrderedDict[bytes, tuple[float, Answer]] = OrderedDict()
        self._counts = Counts()
        self._lock = short_lock()

    def get_local(self, key: bytes) -> Answer | None:
        """Return an answer that is not too old."""
        with self._lock:
            found = self._answers.get(key)
            if found is not None and found[0] < time.monotonic():
                self._forget(key)
                found = None
            if found is None:
                self._counts.misses += 1
                return None
            self._answers.move_to_end(key)
            self._counts.hits += 1
            return found[1]

    def get_shared(self, key: bytes) -> None:
        """Return nothing: there are no others."""

    def put(self, key: bytes, answer: Answer) -> None:
        """Remember an answer, unless it alone is larger than the cache."""
        if answer.size > self._most_bytes:
            return
        with self._lock:
            if key in self._answers:
                self._forget(key)
            self._answers[key] = (time.monotonic() + self._ttl, answer)
            self._counts.bytes += answer.size
            self._counts.entries += 1
            while self._counts.bytes > self._most_bytes:
                self._forget(next(iter(self._answers)))

    def found_elsewhere(self) -> None:
        """Count as a hit what was missed here and found by another cache."""
        with self._lock:
            self._counts.misses -= 1
            self._counts.hits += 1

    def clear(self) -> None:
        """Forget every answer."""
        with self._lock:
            self._answers.clear()
            self._counts.entries = self._counts.bytes = 0

    def forget(self, owner: str) -> None:
        """Forget every answer of an owner."""
        begin = beginning_of(owner)
        with self._lock:
            for key in [key for key in self._answers if key.startswith(begin)]:
                self._forget(key)

    def counts(self) -> Counts:
        """Return how this process used the cache."""
        return self._counts

    def _forget(self, key: bytes) -> None:
        _, answer = self._answers.pop(key)
        self._counts.bytes -= answer.size
        self._counts.entries -= 1


class RedisCache:
    """Answers of all processes and hosts in Redis, with those of this process in front.

    Redis is a help and not a need: while it cannot be used, only what is near is known.
    """

    def __init__(self, url: str, database: int, local: MemoryCache, ttl: float, rules: bytes = b"") -> None:
        """Cache the answers of one ``database``, by its number.

        ``rules`` stands for how replies are judged: what was judged otherwise is another answer.
        """
        self._prefix = PREFIX + f"{database:x}:".encode()
        self._local = local
        self._rules = rules
        self._ttl_ms = max(1, int(ttl * 1000))
        self._redis = RedisClient(url, "the cache goes on")

    def get_local(self, key: bytes) -> Answer | None:
        """Return an answer that this process remembers and is not too old."""
        return self._local.get_local(key)

    def get_shared(self, key: bytes) -> Answer | None:
        """Return an answer that Redis remembers, and remember it here."""
        found = _answer(self._redis.ask("get", self._name(key)))
        if found is None:
            return None
        self._local.found_elsewhere()
        self._local.put(key, found)
        return found

    def put(self, key: bytes, answer: Answer) -> None:
        """Remember an answer, here and for the others."""
        self._local.put(key, answer)
        self._redis.ask("set", self._name(key), msgspec.msgpack.encode(answer), px=self._ttl_ms)

    def clear(self) -> None:
        """Forget every answer of this process; the mark in the database does the rest."""
        self._local.clear()

    def forget(self, owner: str) -> None:
        """Forget every answer of an owner, here and in Redis, which looks through all names for that."""
        self._local.forget(owner)
        cursor: int | None = None
        while cursor != 0:
            pattern = self._prefix + beginning_of(owner).hex().encode() + b"*"
            cursor, names = self._asked("scan", cursor or 0, match=pattern, count=SCANNED_AT_ONCE)
            if names:
                self._asked("unlink", *names)

    def _name(self, key: bytes) -> bytes:
        if self._rules:
            key = key[:OWNER_BYTES] + hashlib.sha256(self._rules + key).digest()[OWNER_BYTES:]
        return self._prefix + key.hex().encode()

    def _asked(self, command: str, *arguments: Any, **options: Any) -> Any:
        found = self._redis.ask(command, *arguments, **options)
        if found is None:
            raise StoreUnavailable("Redis does not answer, where answers are that must be forgotten.", retry_after=5)
        return found

    def counts(self) -> Counts:
        """Return how this process used the cache."""
        return self._local.counts()


def _answer(packed: Any) -> Answer | None:
    """Return what was packed; None if it is no answer, such as that of another version or another program."""
    try:
        return _unpack(packed) if packed else None
    except (msgspec.MsgspecError, UnicodeError, TypeError):
        return None


def try_out(redis: RedisClient) -> None:
    """Do with a key of its own what the cache does with Redis. Raises `OSError` if Redis refuses."""
    name = PREFIX + b"tried:" + os.urandom(OWNER_BYTES).hex().encode()
    redis.demand("set", name, b"", px=TRIED_MS)
    redis.demand("get", name)
    redis.demand("scan", 0, match=name, count=1)
    redis.demand("unlink", name)


def beginning_of(owner: str) -> bytes:
    """Return what the keys of all answers of an owner begin with."""
    return hashlib.sha256(owner.encode()).digest()[:OWNER_BYTES]


def key_of(owner: str, prompt: Prompt) -> bytes:
    """Return the key of all that an answer depends on, in 32 bytes."""
    messages = [(message.role.value, message.content) for message in prompt.messages]
    parts = (owner, prompt.model, prompt.temperature, prompt.max_tokens, messages)
    return beginning_of(owner) + hashlib.sha256(msgspec.json.encode(parts)).digest()[OWNER_BYTES:]
