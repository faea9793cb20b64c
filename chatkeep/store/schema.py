"""The tables. Ids are UUIDs in 16 bytes, times are µs since 1970 in UTC.

The indexes serve the queries that there are, and each costs every turn: ``(conversation_id, timestamp)`` is also the
one by conversation_id. The tests hold every query's plan against them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
metadata = sa.MetaData()


def uuid() -> sa.types.TypeEngine[bytes]:
    """Return the type of an id."""
    return sa.LargeBinary(16).with_variant(mysql.BINARY(16), "mysql")


def text() -> sa.types.TypeEngine[str]:
    """Return the type of text without a length limit that matters."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("title", sa.String(255), nullable=False),
    sa.Column("system", text()),
    sa.Column("metadata", text(), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("last_active", sa.BigInteger, nullable=False),
    sa.Column("ttl", sa.BigInteger),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("pinned", sa.SmallInteger, nullable=False),
    sa.Column("message_count", sa.Integer, nullable=False),
    sa.Column("current_id", uuid()),
    # How often a reply was regenerated or a message edited: without any, no message has siblings to look for.
    sa.Column("forks", sa.Integer, nullable=False),
    sa.Index("ix_conversations_owner", "owner", "last_active", "id"),
    sa.Index("ix_conversations_last_active", "last_active"),
    sa.Index("ix_conversations_created_at", "created_at"),
    sa.Index("ix_conversations_expires_at", "expires_at"),
    **OPTIONS,
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("message_id", uuid(), nullable=False),
    sa.Column("conversation_id", uuid(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("parent_id", uuid()),
    sa.Column("position", sa.Integer, nullable=False),
    # 1 on the conversation's current branch: reading it needs no walk through the tree.
    sa.Column("on_branch", sa.SmallInteger, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("content", text(), nullable=False),
    sa.Column("reasoning", text(), nullable=False),
    # Characters in content and reasoning together: an append that names it can be repeated without harm.
    sa.Column("written", sa.Integer, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("model", sa.String(255)),
    sa.Column("finish_reason", sa.String(64)),
    sa.Column("error", sa.String(64)),
    sa.Column("input_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("cached", sa.SmallInteger, nullable=False),
    sa.Index("ix_messages_message_id", "message_id", unique=True),
    sa.Index("ix_messages_conversation", "conversation_id", "timestamp", unique=True),
    sa.Index("ix_messages_timestamp", "timestamp"),
    sqlite_autoincrement=True,
    **OPTIONS,
)

# A row exists while a reply is generated: its key makes two turns at once on a conversation impossible.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("conversation_id", uuid(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("reply_id", uuid(), nullable=False),
    sa.Column("worker_id", uuid(), nullable=False),
    sa.Column("stop", sa.SmallInteger, nullable=False),
    **OPTIONS,
)

# One row a process: as long as its beat goes up, its leases hold.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
    **OPTIONS,
)

# What one process does for all.
duties = sa.Table(
    "duties",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("worker_id", uuid(), nullable=False),
    **OPTIONS,
)

# A number for a name: when the caches were cleared.
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    **OPTIONS,
)

# Kept for a day. No foreign key: the key is stored first, so that of two requests at once one waits for the other.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("owner", sa.String(128), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql"), nullable=False),
    sa.Column("conversation_id", uuid(), nullable=False),
    sa.Column("reply_id", uuid(), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_idempotency_keys_created_at", "created_at"),
    **OPTIONS,
)
