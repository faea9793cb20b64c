"""Conversations, messages, and what turns need: leases, workers, idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import DIGEST
from chatkeep.store.migrations.changes import ID
from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import TEXT
from chatkeep.store.migrations.changes import UUID
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
CHANGES: list[Change] = [
    NewTable(sa.Table(
        "conversations", METADATA,
        sa.Column("id", UUID, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("system", TEXT, nullable=True),
        sa.Column("metadata", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_active", sa.BigInteger(), nullable=False),
        sa.Column("ttl", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("pinned", sa.SmallInteger(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("current_id", UUID, nullable=True),
        sa.Column("forks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )),
    NewIndex("ix_conversations_created_at", "conversations", ["created_at"]),
    NewIndex("ix_conversations_last_active", "conversations", ["last_active"]),
    NewIndex("ix_conversations_owner", "conversations", ["owner", "last_active", "id"]),
    NewTable(sa.Table(
        "workers", METADATA,
        sa.Column("id", UUID, nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )),
    NewTable(sa.Table(
        "idempotency_keys", METADATA,
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", DIGEST, nullable=False),
        sa.Column("conversation_id", UUID, nullable=False),
        sa.Column("reply_id", UUID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key"),
        **OPTIONS,
    )),
    NewIndex("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"]),
    NewTable(sa.Table(
        "leases", METADATA,
        sa.Column("conversation_id", UUID, nullable=False),
        sa.Column("reply_id", UUID, nullable=False),
        sa.Column("worker_id", UUID, nullable=False),
        sa.Column("stop", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("conversation_id"),
        **OPTIONS,
    )),
    NewTable(sa.Table(
        "messages", METADATA,
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("message_id", UUID, nullable=False),
        sa.Column("conversation_id", UUID, nullable=False),
        sa.Column("parent_id", UUID, nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("on_branch", sa.SmallInteger(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("content", TEXT, nullable=False),
        sa.Column("reasoning", TEXT, nullable=False),
        sa.Column("written", sa.Integer(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("finish_reason", sa.String(length=64), nullable=True),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cached", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
        sqlite_autoincrement=True,
    )),
    NewIndex("ix_messages_conversation", "messages", ["conversation_id", "timestamp"], unique=True),
    NewIndex("ix_messages_message_id", "messages", ["message_id"], unique=True),
    NewIndex("ix_messages_timestamp", "messages", ["timestamp"]),

]
