"""The audit log, and finding the keys of an end user."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import DIGEST
from chatkeep.store.migrations.changes import ID
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
        "audit", METADATA,
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.String(length=32)),
        sa.Column("key_id", UUID),
        sa.Column("prefix", sa.String(length=8)),
        sa.Column("end_user", sa.String(length=32)),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("request_id", sa.String(length=128)),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )),
    NewIndex("ix_audit_account", "audit", ["account", "id"]),
    NewIndex("ix_audit_verb", "audit", ["verb", "id"]),
    NewIndex("ix_api_keys_end_user", "api_keys", ["account", "end_user"]),
    NewMark("audit", 0),
    NewMark("erasures", 0),
]
