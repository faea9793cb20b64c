"""The pinned conversations of an owner, found among any number of others."""

from __future__ import annotations

from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex

CHANGES: list[Change] = [
    NewIndex(
        "ix_conversations_pinned",
        "conversations",
        ["owner", "pinned", "last_active", "id"],
        sqlite_where="pinned = 1",
    ),
]
