"""What limited subjects have used, what everybody has used on a day, and whom a running reply belongs to."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import UUID
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewColumn
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
WINDOWS = ("minute_began", "minute_requests", "minute_tokens", "day_began", "day_requests", "day_tokens")
CHANGES: list[Change] = [
    NewTable(sa.Table(
        "windows", METADATA,
        sa.Column("subject", sa.String(length=128), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in WINDOWS),
        sa.PrimaryKeyConstraint("subject"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )),
    NewIndex("ix_windows_day_began", "windows", ["day_began"]),
    NewTable(sa.Table(
        "usage", METADATA,
        sa.Column("account", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("key_id", UUID, nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("requests", "input_tokens", "output_tokens", "cost")
        ),
        sa.PrimaryKeyConstraint("account", "day", "owner", "key_id", "model"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )),
    NewIndex("ix_usage_day", "usage", ["day"]),
    NewColumn("leases", sa.Column("owner", sa.String(length=128), nullable=False, server_default="")),
    NewColumn("leases", sa.Column("key_id", UUID, nullable=True)),
]
