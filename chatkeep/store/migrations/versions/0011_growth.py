"""What is asked for without reading all there is: siblings of messages, usage of an owner; and what owners store."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add the indexes and the table."""
    off_branch = sa.text("on_branch = 0")
    op.create_index("ix_messages_siblings", "messages", ["conversation_id", "parent_id"], sqlite_where=off_branch)
    op.create_index("ix_usage_owner", "usage", ["owner", "day", "key_id", "model"])
    op.drop_index("ix_api_keys_end_user", "api_keys")
    op.create_index("ix_api_keys_end_user", "api_keys", ["account", "end_user", "id"])
    op.create_table(
        "holdings",
        sa.Column("owner", sa.String(length=128), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("messages", "bytes")),
        sa.PrimaryKeyConstraint("owner"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )
