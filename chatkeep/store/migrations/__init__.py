"""Schema migrations, run by ``chatkeep migrate``, or automatically if that is safe.

The table ``alembic_version`` has the revision of the last complete step. Its name is from older versions, which used
Alembic.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from chatkeep.errors import SettingsError
from chatkeep.i18n import _
from chatkeep.runtime import files
from chatkeep.store import counters, diagnosis
from chatkeep.store.engine import Database
from chatkeep.store.migrations.patience import Tell, patiently
from chatkeep.store.places import parsed
from chatkeep.store.sql import Connection, Sql

__all__ = [
    "HEAD",
    "UNFINISHED",
    "Schema",
    "Tell",
    "ensure",
    "existing",
    "migrate",
    "opened",
    "patiently",
    "require_file",
    "schema_of",
]
HEAD = "0011"
UNFINISHED = "0000-copying"
"""The revision of the target of an unfinished `chatkeep copy`."""
COMPATIBLE_FROM = "0011"
"""The schema of the oldest version that can serve on this version's schema.

A step that breaks older versions sets it to its own revision. Older versions read it from the mark below.
"""
COMPATIBLE_FROM_MARK = "schema_compatible_from"
_TABLES = Sql(
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    mysql="SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
)
_REVISION = Sql("SELECT version_num FROM alembic_version")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schema:
    """The state of a database's schema."""

    revision: str | None
    """None until the first migration is complete."""
    is_begun: bool
    """Whether the first migration has begun. It creates the table ``alembic_version`` first."""
    compatible_from: int
    """The schema of the oldest version that can serve, 0 if unknown."""
    foreign: str = ""
    """A table of another program, if no migration has begun."""

    @property
    def is_newer(self) -> bool:
        """Whether it is from a newer version of chatkeep."""
        return self.revision is not None and self.revision > HEAD

    @property
    def can_serve(self) -> bool:
        """Whether this version can serve on it without a migration."""
        return self.revision == HEAD or (self.is_newer and 0 < self.compatible_from <= int(HEAD))


def migrate(database: Database, tell: Tell = log.info) -> tuple[str | None, str]:
    """Migrate the database to this version's schema. Return the revision before and after.

    Safe with concurrent processes, and resumable if one is killed. ``tell`` gets lines about the progress. Raises
    `SettingsError` if the database does not allow it, `StoreUnavailable`.
    """
    found = schema_of(database)
    if found.revision and found.can_serve:
        return found.revision, found.revision
    _refuse_newer(found)
    _refuse_unfinished(found)
    _refuse_foreign(found, database.url.database)
    # Imported late, because a start on a migrated database does not need it.
    from chatkeep.store.migrations import running  # noqa: PLC0415

    return found.revision if running.run(database, found.revision, tell) else HEAD, HEAD


def ensure(database: Database) -> None:
    """Migrate the database if it is embedded or empty. Another one must be up to date already.

    Raises `SettingsError` if the operator has to migrate.
    """
    found = schema_of(database)
    if found.can_serve:
        return
    _refuse_newer(found)
    _refuse_unfinished(found)
    if found.revision is None or database.embedded:
        migrate(database)
        return
    raise SettingsError(
        [
            (
                _(
                    "DATABASE_URL: the database has schema {revision}, this version needs {needed}; make a backup, "
                    "then run: chatkeep migrate",
                    revision=found.revision,
                    needed=HEAD,
                )
            )
        ]
    )


def opened(url: str) -> Database:
    """Open a database, migrated and writable. Raises `SettingsError`."""
    with diagnosis.explained(url):
        database = Database(url)
        for file in database.files:
            files.tighten(file)
        patiently(database.check, log.warning)
        ensure(database)
        patiently(database.require_writable, log.warning)
        return database


def existing(url: str, *, reads_only: bool = False) -> Database:
    """Open an existing database. Raises `SettingsError` if there is none, and creates nothing.

    With ``reads_only`` it may be read-only.
    """
    require_file(url)
    with diagnosis.explained(url):
        database = Database(url)
        patiently(database.check, log.warning)
        if not schema_of(database).is_begun:
            name = database.url.database
            raise SettingsError([_("The database {name} has no tables of chatkeep. Check DATABASE_URL.", name=name)])
        ensure(database)
        if not reads_only:
            patiently(database.require_writable, log.warning)
        return database


def require_file(url: str) -> None:
    """Raise `SettingsError` if the URL is of an embedded database that does not exist."""
    where = parsed(url)
    if where.get_backend_name() == "sqlite" and not Path(where.database or "").is_file():
        raise SettingsError(
            [_("There is no database at {path}. Check DATABASE_URL and CHATKEEP_DATA_DIR.", path=where.database)]
        )


def schema_of(database: Database) -> Schema:
    """Read the state of a database's schema, also during a migration. Raises `StoreUnavailable`."""
    return patiently(lambda: database.read(_read), log.warning)


def _read(connection: Connection) -> Schema:
    tables = {row[0] for row in connection.rows(_TABLES)}
    if "alembic_version" not in tables:
        from chatkeep.store import schema  # noqa: PLC0415 - not needed for a migrated database

        foreign = min(tables - schema.metadata.tables.keys(), default="")
        return Schema(None, is_begun=False, compatible_from=0, foreign=foreign)
    revision = next((row[0] for row in connection.rows(_REVISION)), None)
    compatible_from = counters.get(connection, COMPATIBLE_FROM_MARK) if "marks" in tables else 0
    return Schema(revision, is_begun=True, compatible_from=compatible_from)


def _refuse_newer(found: Schema) -> None:
    """Raise `SettingsError` if the schema is too new for this version."""
    if found.is_newer:
        raise SettingsError(
            [
                (
                    _(
                        "DATABASE_URL: the database has schema {revision} of a newer chatkeep, on which this "
                        "version, which needs {needed}, cannot serve; install the newer version",
                        revision=found.revision,
                        needed=HEAD,
                    )
                )
            ]
        )


def _refuse_unfinished(found: Schema) -> None:
    """Raise `SettingsError` if the database is the target of an unfinished copy."""
    if found.revision == UNFINISHED:
        raise SettingsError(
            [
                (
                    _(
                        "DATABASE_URL: chatkeep copy has not copied everything into this database yet; run it "
                        "again, with the same FROM and TO"
                    )
                )
            ]
        )


def _refuse_foreign(found: Schema, name: str | None) -> None:
    """Raise `SettingsError` if the database belongs to another program."""
    if found.foreign:
        raise SettingsError(
            [
                (
                    _(
                        "DATABASE_URL: the database {name} holds tables of another program, such as {table}; "
                        "choose one of chatkeep's own",
                        name=name,
                        table=found.foreign,
                    )
                )
            ]
        )
