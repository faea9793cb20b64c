"""Why a reply failed, in the words of the problem that ended it."""

from __future__ import annotations

import sqlalchemy as sa

from chatkeep.store.migrations.changes import TEXT, Change, NewColumn

CHANGES: list[Change] = [
    NewColumn("messages", sa.Column("error_detail", TEXT)),
]
