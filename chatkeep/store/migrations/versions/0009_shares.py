"""Links by which conversations are read without a key."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import DIGEST
from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import UUID
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
sa.Table("conversations", METADATA, sa.Column("id", UUID, primary_key=True))  # for the foreign key
CHANGES: list[Change] = [
    NewTable(sa.Table(
        "shares", METADATA,
        sa.Column("conversation_id", UUID, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("tip_id", UUID),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("conversation_id"),
        **OPTIONS,
    )),
    NewIndex("ix_shares_digest", "shares", ["digest"], unique=True),
]
