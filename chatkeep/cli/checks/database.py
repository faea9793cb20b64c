"""Check the database: connection, schema, writing, clock and keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatkeep.cli.checks.finding import Finding, broken, doubtful, fine
from chatkeep.cli.checks.machine import database_file
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError, StoreProblem

if TYPE_CHECKING:
    from chatkeep.store.engine import Database

# Tolerated clock difference between machines that share a database; a database reports whole seconds.
CLOCK_S = 2.0
# Report keys that expire within this time.
SOON_DAYS = 7


def database(settings: Settings) -> Iterator[Finding]:
    """Check the connection to the database and its contents."""
    from chatkeep.store import diagnosis  # noqa: PLC0415 - not needed if settings are wrong
    from chatkeep.store.engine import Database  # noqa: PLC0415

    if settings.database.startswith("sqlite:///") and not database_file(settings).exists():
        yield fine("database", f"{database_file(settings)} is not there yet; the first start makes it")
        yield _without_keys(settings)
        return
    try:
        with diagnosis.explained(settings.database):
            found = Database(settings.database)
            found.now_s()
    except SettingsError as error:
        yield from (broken("database", problem, "check DATABASE_URL") for problem in error.problems)
        return
    try:
        yield fine("database", f"{database_file(settings)} answers" if found.embedded else f"{found.url.host} answers")
        yield from (*_character_set(found), *_schema(found), *_writing(found), *_clock(found), *_keys(settings, found))
    finally:
        found.close()


def _character_set(found: Database) -> Iterator[Finding]:
    try:
        found.check()
    except SettingsError as error:
        yield from (
            broken("character set", problem, "run what it says, then start again") for problem in error.problems
        )
        return
    yield fine("character set", "every character of every language can be stored")


def _schema(found: Database) -> Iterator[Finding]:
    from chatkeep.store import migrations  # noqa: PLC0415 - not needed if settings are wrong

    schema, head = migrations.schema_of(found), migrations.HEAD
    revision = schema.revision
    if not schema.is_begun:
        yield fine("schema", "it has no tables of chatkeep yet; the first start makes them")
    elif revision is None:
        yield doubtful("schema", "its tables are not complete yet", "start the server, or run: chatkeep migrate")
    elif revision == head:
        yield fine("schema", f"it is {head}, as this version needs it")
    elif revision == migrations.UNFINISHED:
        told = "chatkeep copy has not copied everything into this database yet"
        yield broken("schema", told, "run it again, with the same FROM and TO")
    elif schema.can_serve:
        yield fine("schema", f"it is {revision}, of a newer chatkeep, beside which this version can serve")
    elif schema.is_newer:
        yield broken("schema", f"it is {revision}, of a newer chatkeep; this version needs {head}", "upgrade chatkeep")
    elif found.embedded:
        told = f"it is {revision}; the next start migrates it to {head}"
        yield doubtful("schema", told, "make a backup first: chatkeep backup FILE")
    else:
        told = f"it is {revision}, this version needs {head}"
        yield broken("schema", told, "make a backup, then run: chatkeep migrate")


def _writing(found: Database) -> Iterator[Finding]:
    from chatkeep.store import counters, diagnosis, migrations  # noqa: PLC0415 - not needed if settings are wrong

    if not migrations.schema_of(found).can_serve:
        return
    try:
        with found.connection() as connection:
            connection.begin()
            counters.try_out(connection)
            connection.rollback()
    except StoreProblem as error:
        advice = "check that the database is not read-only, has room and lets this user write"
        yield broken("writing", diagnosis.reason(error, found.url), advice)
    else:
        yield fine("writing", "a row was written and rolled back")


def _clock(found: Database) -> Iterator[Finding]:
    if found.embedded:
        return
    before = time.time()
    theirs = found.now_s()
    # The database read its clock between the request and the response.
    off = max(before - theirs, theirs - time.time(), 0.0)
    if off > CLOCK_S:
        told = f"this machine's and the database's differ by {off:,.0f} s"
        yield doubtful("clock", told, "let both follow one time server (NTP): conversations expire by it")
    else:
        yield fine("clock", "this machine's and the database's agree")


def _keys(settings: Settings, found: Database) -> Iterator[Finding]:
    from chatkeep.domain.conversation import now_us  # noqa: PLC0415 - not needed if settings are wrong
    from chatkeep.store import keys, migrations  # noqa: PLC0415

    schema = migrations.schema_of(found)
    if schema.revision is not None and not schema.can_serve:
        return
    if schema.revision is None or not found.read(keys.changes):
        yield _without_keys(settings)
        return
    now = now_us()
    live, ending = found.read(lambda connection: keys.count_live(connection, now, now + SOON_DAYS * 86_400_000_000))
    if not live:
        yield broken("keys", "all have ended: nobody comes in", "run: chatkeep keys create NAME")
    elif ending:
        told = f"{live:,} let callers in; {ending:,} of them end within {SOON_DAYS} days"
        yield doubtful("keys", told, "chatkeep keys list tells which; chatkeep keys rotate makes one in a key's place")
    else:
        yield fine("keys", f"{live:,} let callers in")


def _without_keys(settings: Settings) -> Finding:
    if settings.is_private:
        return fine("keys", f"there is none yet: whoever reaches {settings.place} comes in and may do everything")
    return broken("keys", "there is none yet: nobody comes in", "run: chatkeep keys create NAME")
