"""Cache answers, so that the same prompt of the same owner is answered again without the provider.

A key hashes all that an answer depends on: the owner, the model, the parameters and every message. It starts with a
hash of the owner, so that one owner's answers can be removed and no owner ever gets another's. An answer is reused only
while its reply is still stored: after a deletion or expiry, no process repeats it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Protocol
from uuid import UUID

import msgspec
from cachetools import TTLCache

from chatkeep.domain.conversation import Prompt, Usage
from chatkeep.errors import StoreUnavailable
from chatkeep.i18n import _
from chatkeep.runtime.concurrency import short_lock
from chatkeep.runtime.redis import RedisClient

# The counter that holds when every cache was last cleared.
CACHE_CLEARED = "cache_cleared"
# The counter of erasures: when it changes, each process clears its cache.
ERASURES = "erasures"
# Roughly what Python's objects add to an answer's text.
OVERHEAD_BYTES = 400
PREFIX = b"chatkeep:answer:3:"
OWNER_BYTES = 16
SCAN_BATCH = 1000
PROBE_TTL_MS = 10_000
# The database's bounds: Redis may hold anything.
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
        """The tokens that generating the reply used."""
        return None if self.input_tokens is None else Usage(self.input_tokens, self.output_tokens or 0)

    @property
    def size(self) -> int:
        """About how many bytes this takes in memory."""
        return 4 * (len(self.text) + len(self.reasoning)) + OVERHEAD_BYTES


_unpack = msgspec.msgpack.Decoder(Answer).decode


@dataclass(slots=True)
class Counts:
    """Hits and misses of a cache since the process started, and what it holds."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class Cache(Protocol):
    """Store answers by key."""

    def get_local(self, key: bytes) -> Answer | None:
        """Return an answer of this process that has not expired, without blocking."""

    def get_shared(self, key: bytes) -> Answer | None:
        """Return an answer that other processes share; call it after a local miss."""

    def put(self, key: bytes, answer: Answer) -> None:
        """Store an answer."""

    def clear(self) -> None:
        """Remove every answer."""

    def forget(self, owner: str) -> None:
        """Remove every answer of an owner. Raises `StoreUnavailable` if the shared cache cannot do so."""

    def counts(self) -> Counts:
        """Return this process's hits and misses, and what its cache holds."""


class MemoryCache:
    """A thread-safe LRU cache of this process, bounded by bytes and by age (``ttl``, seconds on the clock ``now``)."""

    def __init__(self, most_bytes: int, ttl: float, now: Callable[[], float] = time.monotonic) -> None:
        self._answers = TTLCache[bytes, Answer, float](most_bytes, ttl, now, lambda answer: answer.size)
        self._hits = self._misses = 0
        self._lock = short_lock()

    def get_local(self, key: bytes) -> Answer | None:
        """Return an answer that has not expired."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
            return found

    def get_shared(self, key: bytes) -> None:
        """Return None: this cache is not shared."""

    def put(self, key: bytes, answer: Answer) -> None:
        """Store an answer, unless it alone is larger than the cache."""
        with self._lock, suppress(ValueError):  # cachetools raises it for a value larger than the cache
            self._answers[key] = answer

    def count_shared_hit(self) -> None:
        """Count a miss of this cache as a hit, because the shared cache has the answer."""
        with self._lock:
            self._misses -= 1
            self._hits += 1

    def clear(self) -> None:
        """Remove every answer."""
        with self._lock:
            self._answers.clear()

    def forget(self, owner: str) -> None:
        """Remove every answer of an owner."""
        prefix = owner_prefix(owner)
        with self._lock:
            for key in [key for key in self._answers if key.startswith(prefix)]:
                self._answers.pop(key, None)

    def counts(self) -> Counts:
        """Return this process's hits and misses, and what its cache holds."""
        with self._lock:
            return Counts(self._hits, self._misses, len(self._answers), int(self._answers.currsize))


class RedisCache:
    """A cache in Redis, shared by processes and hosts, behind a cache of this process.

    Redis is optional: while it is unavailable, only the local cache answers.
    """

    def __init__(self, url: str, database: int, local: MemoryCache, ttl: float, rules: bytes = b"") -> None:
        """Cache the answers of one ``database``, by its number.

        ``rules`` identifies the redaction rules: an answer stored under other rules is not reused.
        """
        self._prefix = PREFIX + f"{database:x}:".encode()
        self._local = local
        self._rules = rules
        self._ttl_ms = max(1, int(ttl * 1000))
        self._redis = RedisClient(url, "the cache goes on")

    def get_local(self, key: bytes) -> Answer | None:
        """Return an answer of this process that has not expired."""
        return self._local.get_local(key)

    def get_shared(self, key: bytes) -> Answer | None:
        """Return an answer from Redis, and store it in this process."""
        found = _answer(self._redis.ask("get", self._name(key)))
        if found is None:
            return None
        self._local.count_shared_hit()
        self._local.put(key, found)
        return found

    def put(self, key: bytes, answer: Answer) -> None:
        """Store an answer in this process and in Redis."""
        self._local.put(key, answer)
        self._redis.ask("set", self._name(key), msgspec.msgpack.encode(answer), px=self._ttl_ms)

    def clear(self) -> None:
        """Remove this process's answers. The counter `CACHE_CLEARED` makes all processes ignore older ones."""
        self._local.clear()

    def forget(self, owner: str) -> None:
        """Remove every answer of an owner, here and in Redis, which scans all keys for that."""
        self._local.forget(owner)
        cursor: int | None = None
        while cursor != 0:
            pattern = self._prefix + owner_prefix(owner).hex().encode() + b"*"
            cursor, names = self._require("scan", cursor or 0, match=pattern, count=SCAN_BATCH)
            if names:
                self._require("unlink", *names)

    def _name(self, key: bytes) -> bytes:
        if self._rules:
            key = key[:OWNER_BYTES] + hashlib.sha256(self._rules + key).digest()[OWNER_BYTES:]
        return self._prefix + key.hex().encode()

    def _require(self, command: str, *arguments: Any, **options: Any) -> Any:
        found = self._redis.ask(command, *arguments, **options)
        if found is None:
            raise StoreUnavailable(_("Redis does not answer, where answers are that must be forgotten."), retry_after=5)
        return found

    def counts(self) -> Counts:
        """Return this process's hits and misses, and what its cache holds."""
        return self._local.counts()


def _answer(packed: Any) -> Answer | None:
    """Unpack an answer; return None for anything else, such as the answer of another version."""
    try:
        return _unpack(packed) if packed else None
    except (msgspec.MsgspecError, UnicodeError, TypeError):
        return None


def try_out(redis: RedisClient) -> None:
    """Run the cache's Redis commands on a key of their own. Raises `OSError` if Redis refuses one."""
    name = PREFIX + b"tried:" + os.urandom(OWNER_BYTES).hex().encode()
    redis.demand("set", name, b"", px=PROBE_TTL_MS)
    redis.demand("get", name)
    redis.demand("scan", 0, match=name, count=1)
    redis.demand("unlink", name)


def owner_prefix(owner: str) -> bytes:
    """Return the prefix of the keys of an owner's answers."""
    return hashlib.sha256(owner.encode()).digest()[:OWNER_BYTES]


def key_of(owner: str, prompt: Prompt) -> bytes:
    """Return the cache key of a prompt, 32 bytes that hash all that the answer depends on."""
    messages = [(message.role.value, message.content) for message in prompt.messages]
    parts = (owner, prompt.model, prompt.temperature, prompt.max_tokens, messages)
    return owner_prefix(owner) + hashlib.sha256(msgspec.json.encode(parts)).digest()[OWNER_BYTES:]
