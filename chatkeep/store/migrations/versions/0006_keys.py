"""API keys."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
UUID = sa.LargeBinary(length=16).with_variant(mysql.BINARY(length=16), "mysql")
DIGEST = sa.LargeBinary(length=32).with_variant(mysql.BINARY(length=32), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Add the table, and the mark by which processes see that keys have changed."""
    op.create_table(
        "api_keys",
        sa.Column("id", UUID, nullable=False),
        sa.Column("prefix", sa.String(length=8), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("account", sa.String(length=32), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("end_user", sa.String(length=32)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("last_used_at", sa.BigInteger()),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.Column("parent_id", UUID),
        sa.Column("limits", TEXT),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_api_keys_prefix", "api_keys", ["prefix"], unique=True)
    op.create_index("ix_api_keys_parent", "api_keys", ["parent_id", "expires_at"])
    op.execute("INSERT INTO marks (name, value) VALUES ('keys', 0)")
