"""The schema's steps, and taking them: ``chatkeep migrate``, or by itself if that is safe.

The table ``alembic_version`` holds the revision of the last whole step; versions of chatkeep before this one took the
steps with Alembic.
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
"""The revision of a database into which `chatkeep copy` has not copied everything yet."""
COMPATIBLE_FROM = "0011"
"""The schema of the oldest version that may serve on this version's schema.

A step that breaks older versions sets it to its own revision. The mark of this name tells those versions.
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
    """What a database says about its schema."""

    revision: str | None
    """None until the first migration is whole."""
    is_begun: bool
    """Whether the first migration has begun: it makes the table ``alembic_version`` before all others."""
    compatible_from: int
    """The schema of the oldest version that may serve, 0 if the database does not say."""
    foreign: str = ""
    """A table of another program, in a database in which no migration has begun."""

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of chatkeep made it."""
        return self.revision is not None and self.revision > HEAD

    @property
    def can_serve(self) -> bool:
        """Whether this version can serve on it as it is."""
        return self.revision == HEAD or (self.is_newer and 0 < self.compatible_from <= int(HEAD))


def migrate(database: Database, tell: Tell = log.info) -> tuple[str | None, str]:
    """Bring the database to this version's schema; return the revision before and after.

    Other processes may do the same at once, and any of them may be killed: the next one goes on. ``tell`` gets lines
    about what is done. Raises `SettingsError` if the database does not let it, `StoreUnavailable`.
    """
    found = schema_of(database)
    if found.revision and found.can_serve:
        return found.revision, found.revision
    _refuse_newer(found)
    _refuse_unfinished(found)
    _refuse_foreign(found, database.url.database)
    # What a start on a ready database need not wait for.
    from chatkeep.store.migrations import running  # noqa: PLC0415

    return found.revision if running.run(database, found.revision, tell) else HEAD, HEAD


def ensure(database: Database) -> None:
    """Make the database ready to serve: an embedded or an empty one is migrated, another must be up to date already.

    Raises `SettingsError` if an operator has to decide.
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
    """Open a database that is ready to serve, also to store. Raises `SettingsError` if it cannot be."""
    with diagnosis.explained(url):
        database = Database(url)
        for file in database.files:
            files.tighten(file)
        patiently(database.check, log.warning)
        ensure(database)
        patiently(database.require_writable, log.warning)
        return database


def existing(url: str, *, reads_only: bool = False) -> Database:
    """Open a database that was created before. Raises `SettingsError` if there is none, and creates nothing then.

    With ``reads_only`` it may be one that cannot be written.
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
    """Raise `SettingsError` if the URL is that of an embedded database that is not there."""
    where = parsed(url)
    if where.get_backend_name() == "sqlite" and not Path(where.database or "").is_file():
        raise SettingsError(
            [_("There is no database at {path}. Check DATABASE_URL and CHATKEEP_DATA_DIR.", path=where.database)]
        )


def schema_of(database: Database) -> Schema:
    """Return what a database says about its schema, while others migrate it, too. Raises `StoreUnavailable`."""
    return patiently(lambda: database.read(_read), log.warning)


def _read(connection: Connection) -> Schema:
    tables = {row[0] for row in connection.rows(_TABLES)}
    if "alembic_version" not in tables:
        from chatkeep.store import schema  # noqa: PLC0415 - a start on a ready database does without

        foreign = min(tables - schema.metadata.tables.keys(), default="")
        return Schema(None, is_begun=False, compatible_from=0, foreign=foreign)
    revision = next((row[0] for row in connection.rows(_REVISION)), None)
    compatible_from = counters.get(connection, COMPATIBLE_FROM_MARK) if "marks" in tables else 0
    return Schema(revision, is_begun=True, compatible_from=compatible_from)


def _refuse_newer(found: Schema) -> None:
    """Raise `SettingsError` if a newer version made the schema."""
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
    """Raise `SettingsError` if the database is the target of a copy that is not whole."""
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
    """Raise `SettingsError` if the database is another program's."""
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
