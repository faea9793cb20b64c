"""Increments of exports, export jobs, and one answer for equal questions of all processes."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import DIGEST
from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import TEXT
from chatkeep.store.migrations.changes import UUID
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewColumn
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewMark
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
CHANGES: list[Change] = [
    NewColumn("conversations", sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0")),
    NewColumn("messages", sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0")),
    NewIndex("ix_conversations_of_owner", "conversations", ["owner", "id"]),
    NewIndex("ix_conversations_epoch", "conversations", ["owner", "epoch", "id"]),
    NewMark("epoch", 1),
    NewTable(sa.Table(
        "tombstones", METADATA,
        sa.Column("conversation_id", UUID, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conversation_id"),
        **OPTIONS,
    )),
    NewIndex("ix_tombstones_epoch", "tombstones", ["owner", "epoch", "conversation_id"]),
    NewIndex("ix_tombstones_deleted_at", "tombstones", ["deleted_at"]),
    NewTable(sa.Table(
        "export_jobs", METADATA,
        sa.Column("id", UUID, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("request", TEXT, nullable=False),
        sa.Column("worker_id", UUID, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("conversations", sa.BigInteger(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", DIGEST, nullable=True),
        sa.Column("cursor", sa.String(length=64), nullable=True),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )),
    NewIndex("ix_export_jobs_owner", "export_jobs", ["owner", "id"]),
    NewIndex("ix_export_jobs_status", "export_jobs", ["status", "id"]),
    NewIndex("ix_export_jobs_expires_at", "export_jobs", ["expires_at"]),
    NewColumn("leases", sa.Column("question", DIGEST, nullable=True)),
    NewIndex("ix_leases_question", "leases", ["question"], unique=True),
]
