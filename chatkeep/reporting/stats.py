"""How much there is of everything, for who runs the server.

It only reads, a piece at a time: a server that serves meanwhile is not disturbed, and what it writes meanwhile may be
counted or not.
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
    """What was counted at a time, in µs since 1970; what has expired and is not swept yet has its messages in it."""

    at: int
    conversations: ConversationCount
    messages: MessageCount
    running: int
    """Replies that are being generated."""
    jobs: dict[str, int]
    """Export jobs by status."""
    tombstones: int
    storage: Storage


def collect(database: Database) -> Stats:
    """Count everything. Raises `StoreUnavailable`."""
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
