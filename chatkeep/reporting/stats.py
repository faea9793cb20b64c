"""Count stored data, for operators.

It reads in small pieces and does not disturb a running server; rows written meanwhile may be counted or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chatkeep.domain.conversation import moment, now_us
from chatkeep.store import stats
from chatkeep.store.engine import Database
from chatkeep.store.stats import ConversationCount, MessageCount, Storage


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts at a time in µs since 1970; messages of expired conversations count until the sweep."""

    at: int
    conversations: ConversationCount
    messages: MessageCount
    running: int
    """Replies in progress."""
    jobs: dict[str, int]
    """Export jobs by status."""
    tombstones: int
    storage: Storage


def collect(database: Database) -> Stats:
    """Count stored data. Raises `StoreUnavailable`."""
    now = now_us()
    return Stats(
        at=now,
        conversations=stats.conversations(database, now),
        messages=stats.messages(database),
        running=database.read(stats.running),
        jobs=database.read(stats.jobs),
        tombstones=database.read(stats.tombstones),
        storage=stats.storage(database),
    )


def document(found: Stats) -> dict[str, Any]:
    """Return stats as JSON: times in RFC 3339, sizes in bytes."""
    conversations, messages, storage = found.conversations, found.messages, found.storage
    return {
        "object": "stats",
        "at": time_text(found.at),
        "conversations": {
            "alive": conversations.alive, "pinned": conversations.pinned, "expired": conversations.expired,
        },
        "owners": len(conversations.owners),
        "activity": {"oldest": time_text(conversations.oldest), "newest": time_text(conversations.newest)},
        "messages": dict(messages.roles),
        "replies": dict(messages.replies),
        "cached_replies": messages.cached,
        "running_replies": found.running,
        "tokens": {"input": messages.input_tokens, "output": messages.output_tokens},
        "export_jobs": found.jobs,
        "tombstones": found.tombstones,
        "storage": {"bytes": storage.tables, "estimate": storage.log is None, "log_bytes": storage.log},
    }  # fmt: skip


def time_text(at: int | None) -> str | None:
    """Return a time in RFC 3339, to the second."""
    return None if at is None else f"{moment(at):%Y-%m-%dT%H:%M:%SZ}"
