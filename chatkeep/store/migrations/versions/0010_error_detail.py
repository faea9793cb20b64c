"""Why a reply failed, in the words of the problem that ended it."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import TEXT
from chatkeep.store.migrations.changes import Change
from chatkeep.store.migrations.changes import NewColumn

CHANGES: list[Change] = [
    NewColumn("messages", sa.Column("error_detail", TEXT)),
]
