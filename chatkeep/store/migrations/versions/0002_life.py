"""Expiry and the cache: which conversations are due, who sweeps them, when the caches were cleared."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import UUID
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
CHANGES: list[Change] = [
    NewIndex("ix_conversations_expires_at", "conversations", ["expires_at"]),
    NewTable(sa.Table(
        "duties", METADATA,
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("worker_id", UUID, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **OPTIONS,
    )),
    NewTable(sa.Table(
        "marks", METADATA,
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **OPTIONS,
    )),
]
