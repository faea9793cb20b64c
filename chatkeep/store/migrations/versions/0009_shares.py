"""Links by which conversations are read without a key."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def binary(length: int) -> sa.types.TypeEngine[bytes]:
    """Return the type of an id or a digest."""
    return sa.LargeBinary(length).with_variant(mysql.BINARY(length), "mysql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "shares",
        sa.Column("conversation_id", binary(16), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("digest", binary(32), nullable=False),
        sa.Column("tip_id", binary(16)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("conversation_id"),
        **OPTIONS,
    )
    op.create_index("ix_shares_digest", "shares", ["digest"], unique=True)
