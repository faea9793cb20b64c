"""What is asked for without reading all there is: siblings of messages, usage of an owner; and what owners store."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import OPTIONS
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewIndex
from chatkeep.store.migrations.changes import NewTable

METADATA = sa.MetaData()
CHANGES: list[Change] = [
    NewIndex("ix_messages_siblings", "messages", ["conversation_id", "parent_id"], sqlite_where="on_branch = 0"),
    NewIndex("ix_usage_owner", "usage", ["owner", "day", "key_id", "model"]),
    NewIndex("ix_api_keys_end_user", "api_keys", ["account", "end_user", "id"]),
    NewTable(sa.Table(
        "holdings", METADATA,
        sa.Column("owner", sa.String(length=128), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("messages", "bytes")),
        sa.PrimaryKeyConstraint("owner"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )),
]
