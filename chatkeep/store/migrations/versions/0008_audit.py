"""The audit log, and finding the keys of an end user."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
UUID = sa.LargeBinary(length=16).with_variant(mysql.BINARY(length=16), "mysql")
DIGEST = sa.LargeBinary(length=32).with_variant(mysql.BINARY(length=32), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table, the mark that holds the id of its newest row, and the one that counts erasures."""
    op.create_table(
        "audit",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.String(length=32)),
        sa.Column("key_id", UUID),
        sa.Column("prefix", sa.String(length=8)),
        sa.Column("end_user", sa.String(length=32)),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("request_id", sa.String(length=128)),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_audit_account", "audit", ["account", "id"])
    op.create_index("ix_audit_verb", "audit", ["verb", "id"])
    op.create_index("ix_api_keys_end_user", "api_keys", ["account", "end_user"])
    op.execute("INSERT INTO marks (name, value) VALUES ('audit', 0), ('erasures', 0)")
