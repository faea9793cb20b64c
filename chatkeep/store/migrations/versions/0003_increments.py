"""Increments of exports, export jobs, and one answer for equal questions of all processes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

UUID = sa.LargeBinary(16).with_variant(mysql.BINARY(16), "mysql")
HASH = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add the epochs, the tombstones, the jobs and the questions."""
    for table in ("conversations", "messages"):
        op.add_column(table, sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_conversations_of_owner", "conversations", ["owner", "id"])
    op.create_index("ix_conversations_epoch", "conversations", ["owner", "epoch", "id"])
    op.execute("INSERT INTO marks (name, value) VALUES ('epoch', 1)")
    op.create_table(
        "tombstones",
        sa.Column("conversation_id", UUID, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conversation_id"),
        **OPTIONS,
    )
    op.create_index("ix_tombstones_epoch", "tombstones", ["owner", "epoch", "conversation_id"])
    op.create_index("ix_tombstones_deleted_at", "tombstones", ["deleted_at"])
    op.create_table(
        "export_jobs",
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
        sa.Column("sha256", HASH, nullable=True),
        sa.Column("cursor", sa.String(length=64), nullable=True),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_export_jobs_owner", "export_jobs", ["owner", "id"])
    op.create_index("ix_export_jobs_status", "export_jobs", ["status", "id"])
    op.create_index("ix_export_jobs_expires_at", "export_jobs", ["expires_at"])
    op.add_column("leases", sa.Column("question", HASH, nullable=True))
    op.create_index("ix_leases_question", "leases", ["question"], unique=True)
