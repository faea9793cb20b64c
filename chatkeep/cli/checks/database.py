"""Check the database: connection, schema, writing, clock and keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatkeep.cli.checks.finding import Finding, broken, doubtful, fine
from chatkeep.cli.checks.machine import database_file
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError, StoreProblem
from chatkeep.i18n import _

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
        yield fine(_("database"), _("{path} does not exist; the first start creates it", path=database_file(settings)))
        yield _without_keys(settings)
        return
    try:
        with diagnosis.explained(settings.database):
            found = Database(settings.database)
            found.now_s()
    except SettingsError as error:
        yield from (broken(_("database"), problem, _("check DATABASE_URL")) for problem in error.problems)
        return
    try:
        yield fine(
            _("database"),
            _("{database} answers", database=database_file(settings))
            if found.embedded
            else _("{database} answers", database=found.url.host),
        )
        yield from (*_character_set(found), *_schema(found), *_writing(found), *_clock(found), *_keys(settings, found))
    finally:
        found.close()


def _character_set(found: Database) -> Iterator[Finding]:
    try:
        found.check()
    except SettingsError as error:
        yield from (
            broken(_("character set"), problem, _("run this statement, then restart the server"))
            for problem in error.problems
        )
        return
    yield fine(_("character set"), _("all Unicode characters can be stored"))


def _schema(found: Database) -> Iterator[Finding]:
    from chatkeep.store import migrations  # noqa: PLC0415 - not needed if settings are wrong

    schema, head = migrations.schema_of(found), migrations.HEAD
    revision = schema.revision
    if not schema.is_begun:
        yield fine(_("schema"), _("there are no tables yet; the first start creates them"))
    elif revision is None:
        yield doubtful(_("schema"), _("some tables are missing"), _("start the server, or run: chatkeep migrate"))
    elif revision == head:
        yield fine(_("schema"), _("it is {revision}, which this version needs", revision=head))
    elif revision == migrations.UNFINISHED:
        told = _("chatkeep copy has not finished copying into this database")
        yield broken(_("schema"), told, _("run it again with the same FROM and TO"))
    elif schema.can_serve:
        yield fine(
            _("schema"),
            _("it is {revision}, from a newer chatkeep that this version can run beside", revision=revision),
        )
    elif schema.is_newer:
        yield broken(
            _("schema"),
            _("it is {revision}, from a newer chatkeep; this version needs {needed}", revision=revision, needed=head),
            _("upgrade chatkeep"),
        )
    elif found.embedded:
        told = _("it is {revision}; the next start migrates it to {needed}", revision=revision, needed=head)
        yield doubtful(_("schema"), told, _("make a backup first: chatkeep backup FILE"))
    else:
        told = _("it is {revision}, but this version needs {needed}", revision=revision, needed=head)
        yield broken(_("schema"), told, _("make a backup, then run: chatkeep migrate"))


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
        advice = _("check that the database is not read-only, has free space and allows this user to write")
        yield broken(_("writing"), diagnosis.reason(error, found.url), advice)
    else:
        yield fine(_("writing"), _("a row was written and rolled back"))


def _clock(found: Database) -> Iterator[Finding]:
    if found.embedded:
        return
    before = time.time()
    theirs = found.now_s()
    # The database read its clock between the request and the response.
    off = max(before - theirs, theirs - time.time(), 0.0)
    if off > CLOCK_S:
        told = _("this machine's clock and the database's differ by {seconds} s", seconds=f"{off:,.0f}")
        yield doubtful(_("clock"), told, _("synchronize both with NTP, because conversations expire by this clock"))
    else:
        yield fine(_("clock"), _("this machine's clock and the database's agree"))


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
        yield broken(
            _("keys"),
            _("every API key is revoked or expired, so all requests get 401"),
            _("run: chatkeep keys create NAME"),
        )
    elif ending:
        told = _(
            "{count} are valid; {ending} of them expire within {days} days",
            count=f"{live:,}",
            ending=f"{ending:,}",
            days=SOON_DAYS,
        )
        yield doubtful(
            _("keys"), told, _("run chatkeep keys list to see which, and chatkeep keys rotate to replace one")
        )
    else:
        yield fine(_("keys"), _("{count} are valid", count=f"{live:,}"))


def _without_keys(settings: Settings) -> Finding:
    if settings.is_private:
        return fine(
            _("keys"),
            _("no API key exists, so every client that reaches {place} has full access", place=settings.place),
        )
    return broken(_("keys"), _("no API key exists, so all requests get 401"), _("run: chatkeep keys create NAME"))
