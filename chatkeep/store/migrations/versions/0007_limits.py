"""What limited subjects have used, what everybody has used on a day, and whom a running reply belongs to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def uuid() -> sa.types.TypeEngine[bytes]:
    """Return the type of an id."""
    return sa.LargeBinary(16).with_variant(mysql.BINARY(16), "mysql")


def upgrade() -> None:
    """Add the tables and the columns."""
    windows = ("minute_began", "minute_requests", "minute_tokens", "day_began", "day_requests", "day_tokens")
    op.create_table(
        "windows",
        sa.Column("subject", sa.String(length=128), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in windows),
        sa.PrimaryKeyConstraint("subject"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )
    op.create_index("ix_windows_day_began", "windows", ["day_began"])
    op.create_table(
        "usage",
        sa.Column("account", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("key_id", uuid(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("requests", "input_tokens", "output_tokens", "cost")
        ),
        sa.PrimaryKeyConstraint("account", "day", "owner", "key_id", "model"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )
    op.create_index("ix_usage_day", "usage", ["day"])
    op.add_column("leases", sa.Column("owner", sa.String(length=128), nullable=False, server_default=""))
    op.add_column("leases", sa.Column("key_id", uuid(), nullable=True))
