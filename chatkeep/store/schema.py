"""The tables. Ids are UUIDs in 16 bytes, times are µs since 1970 in UTC.

Every index costs every turn, so there are only those that queries need: ``(conversation_id, timestamp)`` also serves
lookups by conversation_id. Tests check every query's plan.
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


def digest() -> sa.types.TypeEngine[bytes]:
    """Return the type of a SHA-256."""
    return sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")


def epoch() -> sa.Column[int]:
    """Return the column with the epoch of a row's last change, for incremental exports."""
    return sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0")


def text() -> sa.types.TypeEngine[str]:
    """Return the type of long text."""
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
    # How often a reply was regenerated or a message edited. At 0, no message has siblings.
    sa.Column("forks", sa.Integer, nullable=False),
    epoch(),
    sa.Index("ix_conversations_owner", "owner", "last_active", "id"),
    # Partial on SQLite, so that turns in conversations that are not pinned don't update it.
    sa.Index("ix_conversations_pinned", "owner", "pinned", "last_active", "id", sqlite_where=sa.text("pinned = 1")),
    sa.Index("ix_conversations_last_active", "last_active"),
    sa.Index("ix_conversations_created_at", "created_at"),
    sa.Index("ix_conversations_expires_at", "expires_at"),
    sa.Index("ix_conversations_of_owner", "owner", "id"),
    sa.Index("ix_conversations_epoch", "owner", "epoch", "id"),
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
    # 1 on the current branch, so that reading it needs no walk through the tree.
    sa.Column("on_branch", sa.SmallInteger, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("content", text(), nullable=False),
    sa.Column("reasoning", text(), nullable=False),
    # Characters in content and reasoning together. Appends check it, which makes them idempotent.
    sa.Column("written", sa.Integer, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("model", sa.String(255)),
    sa.Column("finish_reason", sa.String(64)),
    sa.Column("error", sa.String(64)),
    sa.Column("input_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("cached", sa.SmallInteger, nullable=False),
    epoch(),
    # The detail of the problem `error`, in English.
    sa.Column("error_detail", text()),
    sa.Index("ix_messages_message_id", "message_id", unique=True),
    sa.Index("ix_messages_conversation", "conversation_id", "timestamp", unique=True),
    sa.Index("ix_messages_timestamp", "timestamp"),
    # Partial on SQLite, so that turns don't update it: their messages are on the branch.
    sa.Index("ix_messages_siblings", "conversation_id", "parent_id", sqlite_where=sa.text("on_branch = 0")),
    sqlite_autoincrement=True,
    **OPTIONS,
)

# A row for each running reply. The primary key allows one per conversation.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("conversation_id", uuid(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("reply_id", uuid(), nullable=False),
    sa.Column("worker_id", uuid(), nullable=False),
    sa.Column("stop", sa.SmallInteger, nullable=False),
    # The hash of the prompt, so that concurrent equal questions are asked once (single flight).
    sa.Column("question", digest()),
    # For concurrency limits and usage.
    sa.Column("owner", sa.String(128), nullable=False, server_default=""),
    sa.Column("key_id", uuid()),
    sa.Index("ix_leases_question", "question", unique=True),
    **OPTIONS,
)

# A row for each process. Its leases are valid as long as its heartbeat grows.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
    **OPTIONS,
)

# The leader of each singleton task.
duties = sa.Table(
    "duties",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("worker_id", uuid(), nullable=False),
    **OPTIONS,
)

# Named numbers: when caches were cleared, the current epoch, how often keys changed.
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    **OPTIONS,
)

# Deleted and expired conversations, for incremental exports. No content.
tombstones = sa.Table(
    "tombstones",
    metadata,
    sa.Column("conversation_id", uuid(), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("deleted_at", sa.BigInteger, nullable=False),
    sa.Index("ix_tombstones_epoch", "owner", "epoch", "conversation_id"),
    sa.Index("ix_tombstones_deleted_at", "deleted_at"),
    **OPTIONS,
)

# Exports into files, made in the background.
export_jobs = sa.Table(
    "export_jobs",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    # JSON.
    sa.Column("request", text(), nullable=False),
    # The process that makes it. Each attempt has its own file.
    sa.Column("worker_id", uuid()),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    # Estimated conversations to export; then what is written so far.
    sa.Column("total", sa.BigInteger),
    sa.Column("conversations", sa.BigInteger, nullable=False),
    sa.Column("messages", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", digest()),
    sa.Column("cursor", sa.String(64)),
    sa.Column("error", sa.String(64)),
    sa.Index("ix_export_jobs_owner", "owner", "id"),
    sa.Index("ix_export_jobs_status", "status", "id"),
    sa.Index("ix_export_jobs_expires_at", "expires_at"),
    **OPTIONS,
)

# Counters of all processes by minute since 1970, and all-time totals under the minute 0.
metrics = sa.Table(
    "metrics",
    metadata,
    sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
    # A Prometheus sample with its labels.
    sa.Column("name", sa.String(191), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Index("ix_metrics_name", "name", "minute"),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# Kept for a day. No foreign key, because the key is stored first: of two concurrent requests one waits for the other.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("owner", sa.String(128), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", digest(), nullable=False),
    sa.Column("conversation_id", uuid(), nullable=False),
    sa.Column("reply_id", uuid(), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_idempotency_keys_created_at", "created_at"),
    **OPTIONS,
)

# API keys: their prefixes and SHA-256 hashes.
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    # The eight characters that identify a key.
    sa.Column("prefix", sa.String(8), nullable=False),
    sa.Column("digest", digest(), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("scopes", sa.String(64), nullable=False),
    # The only end user that the key may act for, as written at the end of an owner.
    sa.Column("end_user", sa.String(32)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("last_used_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    # The key with which a user signed in. The two are revoked together.
    sa.Column("parent_id", uuid()),
    # The key's own limits, as JSON.
    sa.Column("limits", text()),
    sa.Index("ix_api_keys_prefix", "prefix", unique=True),
    sa.Index("ix_api_keys_parent", "parent_id", "expires_at"),
    sa.Index("ix_api_keys_end_user", "account", "end_user", "id"),
    **OPTIONS,
)

# Share links, at most one per conversation: the SHA-256 hashes of their tokens.
shares = sa.Table(
    "shares",
    metadata,
    sa.Column("conversation_id", uuid(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("digest", digest(), nullable=False),
    # The last message that the link shows.
    sa.Column("tip_id", uuid()),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_shares_digest", "digest", unique=True),
    **OPTIONS,
)

# The usage of each limited subject in its current minute and day.
windows = sa.Table(
    "windows",
    metadata,
    # An account, an end user as an owner string, or a key.
    sa.Column("subject", sa.String(128), primary_key=True),
    sa.Column("minute_began", sa.BigInteger, nullable=False),
    sa.Column("minute_requests", sa.BigInteger, nullable=False),
    sa.Column("minute_tokens", sa.BigInteger, nullable=False),
    sa.Column("day_began", sa.BigInteger, nullable=False),
    sa.Column("day_requests", sa.BigInteger, nullable=False),
    sa.Column("day_tokens", sa.BigInteger, nullable=False),
    sa.Index("ix_windows_day_began", "day_began"),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# Usage by day, in UTC, counted since 1970.
usage = sa.Table(
    "usage",
    metadata,
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(128), primary_key=True),
    # Zeros if no key was needed, because a primary key can't be NULL.
    sa.Column("key_id", uuid(), primary_key=True),
    sa.Column("model", sa.String(255), primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    # In billionths of the prices' currency.
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Index("ix_usage_day", "day"),
    sa.Index("ix_usage_owner", "owner", "day", "key_id", "model"),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# The number of messages and the bytes of text of each owner with a storage quota.
stored = sa.Table(
    "holdings",
    metadata,
    sa.Column("owner", sa.String(128), primary_key=True),
    sa.Column("messages", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# The audit log: append-only, and old rows are deleted.
audit = sa.Table(
    "audit",
    metadata,
    # Without gaps, in the order of commits.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    # The actor; all NULL for the command line.
    sa.Column("account", sa.String(32)),
    sa.Column("key_id", uuid()),
    sa.Column("prefix", sa.String(8)),
    sa.Column("end_user", sa.String(32)),
    sa.Column("verb", sa.String(32), nullable=False),
    # Ids and counts, as JSON.
    sa.Column("what", text(), nullable=False),
    sa.Column("request_id", sa.String(128)),
    sa.Column("outcome", sa.String(64), nullable=False),
    # Over this row and the hash of the row before.
    sa.Column("hash", digest(), nullable=False),
    sa.Index("ix_audit_account", "account", "id"),
    sa.Index("ix_audit_verb", "verb", "id"),
    **OPTIONS,
)
