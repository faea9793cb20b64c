"""Create, change and revoke API keys; changes take effect in every server within seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from chatkeep.cli import owners
from chatkeep.cli.messages import Commands, failure, filled, say, word, wrong
from chatkeep.config.parsing import duration, optional_duration
from chatkeep.domain.conversation import moment
from chatkeep.domain.quota import Limits, read_limits
from chatkeep.errors import Problem, SettingsError, StoreUnavailable
from chatkeep.i18n import _, text_of
from chatkeep.server import serving

if TYPE_CHECKING:
    from chatkeep.auth.access import NewKey
    from chatkeep.store.engine import Database
    from chatkeep.store.journal import Journal
    from chatkeep.store.keys import Key

T = TypeVar("T")
# A whole key works too, to revoke one that leaked.
_NAMED = re.compile(r"(?:ck_)?([A-Za-z0-9]{8})(?:_[A-Za-z0-9]{40})?")
_COLUMNS = (
    (_("Key"), 13),
    (_("Name"), 20),
    (_("Account"), 12),
    (_("Scopes"), 24),
    (_("Created"), 12),
    (_("Last used"), 12),
    (_("Valid until"), 12),
)


@click.group(cls=Commands)
def keys() -> None:
    """Create, list, change, revoke and rotate API keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--account", default="local", show_default=True, help=_("The account whose conversations the key can access.")
)
@click.option(
    "--scopes", default="chat,read,export", show_default=True, help=_("The key's scopes: chat, read, export, admin.")
)
@click.option("--expires", default="never", show_default=True, help=_("How long the key is valid (90d, 12h, never)."))
@click.option("--limits", help=_("The key's own limits as a JSON object, instead of those in CHATKEEP_LIMITS."))
@click.option("--end-user", help=_("Bind the key to this end user of the account, named as in X-End-User."))
def create(name: str, account: str, scopes: str, expires: str, limits: str | None, end_user: str | None) -> None:
    """Create a key called NAME and print it. It is shown only once."""
    from chatkeep.auth.keys import KeySpec, create_key  # noqa: PLC0415 - --help does not import the database

    lifetime = _read(_lifetime, expires, "--expires")
    whom = None if end_user is None else owners.end_user_named(end_user)
    wanted = KeySpec(owners.name(name), owners.account_named(account), _scopes(scopes), lifetime, _limits(limits), whom)
    with _opened(create=True) as (_database, journal):
        _print_once(create_key(journal, wanted))


@keys.command("list")
def list_() -> None:
    """List all keys except those of sign-ins on the page."""
    from chatkeep.auth.keys import list_keys  # noqa: PLC0415 - --help does not import the database

    with _opened() as (database, _journal):
        found, after, more = [], None, True
        while more:
            page, more = list_keys(database, 100, after, ascending=True)
            found += [key for key in page if key.parent_id is None]
            after = page[-1].id if page else None
    _row([word(title) for title, _ in _COLUMNS])
    for key in found:
        _row(_cells(key))


@keys.command()
@click.argument("key")
@click.option("--name", help=_("The key's new name."))
@click.option("--limits", help=_("The key's own limits as a JSON object, replacing all that it has; {} removes them."))
def change(key: str, name: str | None, limits: str | None) -> None:
    """Change the name or the limits of KEY, given by its prefix (ck_ and eight characters)."""
    from chatkeep.auth.keys import KeyChanges, change_key  # noqa: PLC0415 - --help does not import the database

    if name is None and limits is None:
        raise wrong(_("there is nothing to change; add --name or --limits"))
    changes = KeyChanges(... if name is None else owners.name(name), ... if limits is None else _limits(limits))
    with _opened() as (database, journal):
        change_key(journal, _id(database, key), changes)
    say(_("changed; every server applies it within 5 seconds"))


@keys.command()
@click.argument("key")
def revoke(key: str) -> None:
    """Revoke KEY, given by its prefix (ck_ and eight characters)."""
    from chatkeep.auth.keys import revoke_key  # noqa: PLC0415 - --help does not import the database

    with _opened() as (database, journal):
        revoke_key(journal, _id(database, key))
    say(_("revoked; every server refuses it within 5 seconds"))


@keys.command()
@click.argument("key")
@click.option("--overlap", default="0s", show_default=True, help=_("How long the old key stays valid (1h, 7d)."))
def rotate(key: str, overlap: str) -> None:
    """Replace KEY by a new key with the same name, account, scopes and lifetime, and print it."""
    from chatkeep.auth.keys import rotate_key  # noqa: PLC0415 - --help does not import the database

    seconds = _read(duration, overlap, "--overlap")
    with _opened() as (database, journal):
        _print_once(rotate_key(journal, _id(database, key), seconds))


@contextmanager
def _opened(*, create: bool = False, reads_only: bool = False) -> Iterator[tuple[Database, Journal]]:
    """Open the database, or create it; exit with the reason if that fails."""
    from chatkeep.store import migrations  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    try:
        url = serving.checked_settings().database
        database = migrations.opened(url) if create else migrations.existing(url, reads_only=reads_only)
        journal = Journal(database)
        yield database, journal
        journal.close()
        database.close()
    except (SettingsError, StoreUnavailable) as error:
        serving.stop(error)
    except Problem as problem:
        raise failure(problem.detail) from problem


def _print_once(made: NewKey) -> None:
    """Print only the key on standard output, and a note on standard error."""
    say(_("Save it now: it is not shown again."), err=True)
    click.echo(made.text)


def _id(database: Database, text: str) -> UUID:
    from chatkeep.store import keys  # noqa: PLC0415 - --help does not import the database

    named = _NAMED.fullmatch(text)
    found = database.read(lambda connection: keys.named(connection, named[1])) if named else None
    if found is None:
        raise failure(_("Key not found. Run chatkeep keys list to see the prefixes."))
    return found.id


def _scopes(text: str) -> tuple[Any, ...]:
    from chatkeep.auth.access import Scope  # noqa: PLC0415 - --help does not import the database

    named = [part.strip() for part in text.split(",")]
    if not set(named) <= set(Scope):
        raise wrong(_("scopes are chat, read, export and admin, separated by commas"))
    return tuple(map(Scope, named))


def _limits(text: str | None) -> Limits | None:
    try:
        return read_limits(text) if text else None
    except ValueError as error:
        raise wrong(
            _('limits are a JSON object such as {"requests_per_minute": 60, "concurrent_replies": 4}')
        ) from error


def _lifetime(text: str) -> float | None:
    """Return a key's lifetime in seconds, None without expiry. Raises `ValueError`."""
    seconds = optional_duration(text)
    if seconds is not None and seconds < 1:
        raise ValueError(_("a key must be valid for at least one second"))
    return seconds


def _read(read: Callable[[str], T], text: str, option: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise wrong(_("{option}: {reason}", option=option, reason=text_of(error))) from error


def _row(cells: list[str]) -> None:
    click.echo(" ".join(filled(cell, width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip())


def _cells(key: Key) -> list[str]:
    account = f"{key.account}/…" if key.end_user else key.account
    until = word(_("revoked")) if key.revoked_at else _day(key.expires_at, word(_("forever")))
    used = _day(key.last_used_at, word(_("never")))
    return [f"ck_{key.prefix}", key.name, account, ",".join(key.scopes), _day(key.created_at), used, until]


def _day(at: int | None, without: str = "") -> str:
    return without if at is None else f"{moment(at):%Y-%m-%d}"
