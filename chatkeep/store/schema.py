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


def digest() -> sa.types.TypeEngine[bytes]:
    """Return the type of a SHA-256."""
    return sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")


def epoch() -> sa.Column[int]:
    """Return the column that tells when a row was last changed, as increments of exports count."""
    return sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0")


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
    epoch(),
    sa.Index("ix_conversations_owner", "owner", "last_active", "id"),
    # On SQLite a turn in a conversation that is not pinned leaves it alone; MySQL knows no index of some rows.
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
    epoch(),
    # What the problem named by `error` said, in English.
    sa.Column("error_detail", text()),
    sa.Index("ix_messages_message_id", "message_id", unique=True),
    sa.Index("ix_messages_conversation", "conversation_id", "timestamp", unique=True),
    sa.Index("ix_messages_timestamp", "timestamp"),
    # On SQLite a turn leaves it alone: what it adds is on the branch. MySQL knows no index of some rows.
    sa.Index("ix_messages_siblings", "conversation_id", "parent_id", sqlite_where=sa.text("on_branch = 0")),
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
    # The hash of the prompt whose answer others wait for: of equal questions at once one is asked.
    sa.Column("question", digest()),
    # Whose reply it is, and by which key it was asked for: for limits on replies at once, and for usage.
    sa.Column("owner", sa.String(128), nullable=False, server_default=""),
    sa.Column("key_id", uuid()),
    sa.Index("ix_leases_question", "question", unique=True),
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

# A number for a name: when the caches were cleared, which epoch it is, how often keys changed.
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    **OPTIONS,
)

# What is left of a conversation that is gone, for increments of exports: no word of it.
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

# Exports that are made into files beside the requests.
export_jobs = sa.Table(
    "export_jobs",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    # What is asked for, as JSON.
    sa.Column("request", text(), nullable=False),
    # Who makes it; each attempt has a file of its own.
    sa.Column("worker_id", uuid()),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    # Conversations that there are to export, about; then what is written so far.
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

# What all processes counted in a minute since 1970, and under the minute 0 in all.
metrics = sa.Table(
    "metrics",
    metadata,
    sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
    # A sample of Prometheus, its labels included.
    sa.Column("name", sa.String(191), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Index("ix_metrics_name", "name", "minute"),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# Kept for a day. No foreign key: the key is stored first, so that of two requests at once one waits for the other.
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

# API keys. What a key says of itself is kept, and the SHA-256 of it.
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", uuid(), primary_key=True),
    # The eight characters that name a key.
    sa.Column("prefix", sa.String(8), nullable=False),
    sa.Column("digest", digest(), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("scopes", sa.String(64), nullable=False),
    # The only end user that the key stands for, as the end of an owner has it.
    sa.Column("end_user", sa.String(32)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("last_used_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    # The key with which somebody signed in: the two are revoked together.
    sa.Column("parent_id", uuid()),
    # Limits of its own, as JSON.
    sa.Column("limits", text()),
    sa.Index("ix_api_keys_prefix", "prefix", unique=True),
    sa.Index("ix_api_keys_parent", "parent_id", "expires_at"),
    sa.Index("ix_api_keys_end_user", "account", "end_user", "id"),
    **OPTIONS,
)

# Links by which conversations are read without a key: the SHA-256 of their tokens, one of a conversation at most.
shares = sa.Table(
    "shares",
    metadata,
    sa.Column("conversation_id", uuid(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("digest", digest(), nullable=False),
    # The last message that is shown; the others are those before it.
    sa.Column("tip_id", uuid()),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_shares_digest", "digest", unique=True),
    **OPTIONS,
)

# What each limited subject has used within its minute and within its day.
windows = sa.Table(
    "windows",
    metadata,
    # An account, an end user as an owner is written, or a key.
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

# What was used on a day, in UTC since 1970.
usage = sa.Table(
    "usage",
    metadata,
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(128), primary_key=True),
    # Zeros where no key was needed: a primary key has no NULL.
    sa.Column("key_id", uuid(), primary_key=True),
    sa.Column("model", sa.String(255), primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    # In billionths of whatever the prices are in.
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Index("ix_usage_day", "day"),
    sa.Index("ix_usage_owner", "owner", "day", "key_id", "model"),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# How many messages each owner has, and how many bytes their text takes, where that is limited.
stored = sa.Table(
    "holdings",
    metadata,
    sa.Column("owner", sa.String(128), primary_key=True),
    sa.Column("messages", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
    **OPTIONS,
)

# Who has done what; rows are added, and forgotten once they are old.
audit = sa.Table(
    "audit",
    metadata,
    # Counts without a gap, in the order of the commits.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    # Who: all of these are missing where it was the command line.
    sa.Column("account", sa.String(32)),
    sa.Column("key_id", uuid()),
    sa.Column("prefix", sa.String(8)),
    sa.Column("end_user", sa.String(32)),
    sa.Column("verb", sa.String(32), nullable=False),
    # Ids and counts, as JSON.
    sa.Column("what", text(), nullable=False),
    sa.Column("request_id", sa.String(128)),
    sa.Column("outcome", sa.String(64), nullable=False),
    # Of this row and of the one before it.
    sa.Column("hash", digest(), nullable=False),
    sa.Index("ix_audit_account", "account", "id"),
    sa.Index("ix_audit_verb", "verb", "id"),
    **OPTIONS,
)
