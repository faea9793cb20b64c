"""Why a reply failed, in the words of the problem that ended it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column; both databases do so without rewriting the table."""
    op.add_column("messages", sa.Column("error_detail", sa.Text().with_variant(mysql.LONGTEXT(), "mysql")))
