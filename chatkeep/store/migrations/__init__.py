"""The schema's steps, and taking them: ``chatkeep migrate``, or by itself where that is safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from chatkeep import private
from chatkeep.errors import SettingsError
from chatkeep.store.engine import CHANGES_OF_SCHEMA, Database

HEAD = "0011"
_LOCK_S = 60


def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the database to this version's schema; return the revision before and after."""
    with database.engine_for(CHANGES_OF_SCHEMA).connect() as connection, _alone(connection, embedded=database.embedded):
        before = current(connection)
        if before != HEAD:
            _upgrade(connection)
        connection.commit()
    return before, HEAD


def ensure(database: Database) -> None:
    """Make the database ready to serve: an embedded or an empty one is migrated, another must be up to date already.

    Raises `SettingsError` where somebody has to decide.
    """
    found = revision(database)
    if found == HEAD:
        return
    if found is None or database.embedded:
        migrate(database)
        return
    raise SettingsError(
        [
            (
                f"DATABASE_URL: the database has schema {found}, this version needs {HEAD};"
                " make a backup, then run: chatkeep migrate"
            )
        ]
    )


def opened(url: str) -> Database:
    """Open a database that is ready to serve. Raises `SettingsError` where it cannot be."""
    database = Database(url)
    for file in database.files:
        private.tighten(file)
    database.check()
    ensure(database)
    return database


def existing(url: str) -> Database:
    """Open a database that was created before. Raises `SettingsError` if there is none, and creates nothing then."""
    where = sa.engine.make_url(url)
    if where.get_backend_name() == "sqlite" and not Path(where.database or "").is_file():
        raise SettingsError([f"There is no database at {where.database}. Check DATABASE_URL and CHATKEEP_DATA_DIR."])
    database = Database(url)
    database.check()
    if revision(database) is None:
        raise SettingsError([f"The database {where.database} has no tables. Check DATABASE_URL."])
    ensure(database)
    return database


def revision(database: Database) -> str | None:
    """Return the revision of a database's schema, or None for an empty one. Raises what SQLAlchemy does."""
    with database.engine.connect() as connection:
        return current(connection)


def current(connection: sa.Connection) -> str | None:
    """Return the revision of the database's schema, or None for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: sa.Connection) -> None:
    # Alembic takes a third of a second to import, which a start on a ready database need not wait for.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _alone(connection: sa.Connection, *, embedded: bool) -> Iterator[None]:
    """Keep other processes from migrating at once; on SQLite the transaction itself does."""
    if embedded:
        yield
        return
    connection.execute(sa.text("SELECT GET_LOCK('chatkeep_migrate', :seconds)"), {"seconds": _LOCK_S})
    try:
        yield
    finally:
        connection.execute(sa.text("SELECT RELEASE_LOCK('chatkeep_migrate')"))
