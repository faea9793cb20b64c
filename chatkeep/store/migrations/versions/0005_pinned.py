"""The pinned conversations of an owner, found among any number of others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the index."""
    columns = ["owner", "pinned", "last_active", "id"]
    op.create_index("ix_conversations_pinned", "conversations", columns, sqlite_where=sa.text("pinned = 1"))
