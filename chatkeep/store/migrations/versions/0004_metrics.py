"""What all processes count, for /metrics and the operator's page."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "metrics",
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=191), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "name"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )
    op.create_index("ix_metrics_name", "metrics", ["name", "minute"])
