"""Alembic's entry: runs the steps on the connection that `chatkeep.store.migrations` hands over."""

from __future__ import annotations

from alembic import context

from chatkeep.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
