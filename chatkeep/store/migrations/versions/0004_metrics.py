"""What all processes count, for /metrics and the operator's page."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
CHANGES: list[Change] = [
    NewTable(sa.Table(
        "metrics", METADATA,
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=191), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "name"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )),
    NewIndex("ix_metrics_name", "metrics", ["name", "minute"]),
]
