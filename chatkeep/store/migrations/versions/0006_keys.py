"""API keys."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import DIGEST
from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import TEXT
from chatkeep.store.migrations.changes import UUID
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewMark
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
CHANGES: list[Change] = [
    NewTable(sa.Table(
        "api_keys", METADATA,
        sa.Column("id", UUID, nullable=False),
        sa.Column("prefix", sa.String(length=8), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("account", sa.String(length=32), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("end_user", sa.String(length=32)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("last_used_at", sa.BigInteger()),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.Column("parent_id", UUID),
        sa.Column("limits", TEXT),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )),
    NewIndex("ix_api_keys_prefix", "api_keys", ["prefix"], unique=True),
    NewIndex("ix_api_keys_parent", "api_keys", ["parent_id", "expires_at"]),
    NewMark("keys", 0),
]
