"""Who calls and what they may: keys, the callers that they stand for, and the owners that everything is filtered by.

A process remembers the keys that it has seen, and looks once a second whether any has stopped before its time. So a
request costs no query, and whoever loses a key is out within seconds, also amid a stream.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import time
import unicodedata
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import msgspec

from chatkeep.config.settings import Settings
from chatkeep.domain.audit import REFUSED, Action, Actor, AuditEvent
from chatkeep.domain.conversation import OPEN_OWNER, now_us
from chatkeep.errors import NO_ACCESS, NO_KEYS, NO_TOKEN, KeysRequired, Problem, StoreUnavailable, Unauthorized
from chatkeep.runtime.hosts import is_loopback
from chatkeep.store import keys
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.keys import Key
from chatkeep.store.sql import Connection

PREFIX_LENGTH, SECRET_LENGTH = 8, 40
MOST_CHARACTERS = 128
# As many as OpenID Connect lets a subject have.
END_USER_CHARACTERS = 255
ACCOUNT = r"[a-z0-9][a-z0-9_-]{0,31}"
# For how long a look holds: the watch looks once a second, and whoever calls where it is held up looks for itself.
LOOK_HOLDS_S = 2.0
SIGNED_IN_S = 12 * 3600
MOST_REMEMBERED = 10_000
NOTED_EVERY_S = 60.0
# Control characters; halves of a character, which JSON can hold and UTF-8 cannot.
_NO_TEXT = {"Cc", "Cs"}
_CHARACTERS = string.ascii_letters + string.digits
_KEY = re.compile(rf"ck_([A-Za-z0-9]{{{PREFIX_LENGTH}}})_[A-Za-z0-9]{{{SECRET_LENGTH}}}")


class Scope(StrEnum):
    """What a key is for; none of them holds another."""

    CHAT = "chat"  # take turns, change, delete, import
    READ = "read"  # list, read, search, follow
    EXPORT = "export"  # exports and their jobs
    ADMIN = "admin"  # what the operator does: keys of all accounts, figures; no conversations


EVERY_SCOPE = frozenset(Scope)
NEW_KEY_SCOPES = (Scope.CHAT, Scope.READ, Scope.EXPORT)


class Caller(msgspec.Struct, frozen=True):
    """Whom a request speaks for, and what it may."""

    owner: str
    account: str
    key_id: UUID | None
    """None where the server is open."""
    scopes: frozenset[Scope]
    end_user: bool = False
    """Whether the owner is an end user of the account."""
    limits: str | None = None
    """The limits of the key itself, as JSON."""
    counts_for: UUID | None = None
    """The key whose limits and usage this is: that with which somebody signed in, where the key was made so."""
    prefix: str | None = None
    """The eight characters that name the key."""
    name: str | None = None
    """What people call the key; None where the server is open."""
    until: int | None = None
    """When the token ends that names the end user, in µs since 1970; None where none does."""

    def naming(self, end_user: str, until: int | None = None) -> Caller:
        """Return the caller that speaks for an end user of this one's account."""
        return msgspec.structs.replace(self, owner=owner_of(self.account, end_user), end_user=True, until=until)

    def actor(self, request_id: str) -> Actor:
        """Return the caller as the audit log names whoever sent a request."""
        digest = self.owner.partition("/")[2] if self.end_user else None
        return Actor(self.account, self.key_id, self.prefix, digest, request_id)


OPEN_CALLER = Caller(OPEN_OWNER, OPEN_OWNER, None, EVERY_SCOPE)


@lru_cache(MOST_REMEMBERED)
def owner_of(account: str, end_user: str) -> str:
    """Return the owner that stands for an end user of an account; the end user's name cannot be read from it."""
    digest = hashlib.sha256(b"%b\0%b" % (account.encode(), end_user.encode())).hexdigest()
    return f"{account}/{digest[:32]}"


def is_name(text: str, most: int = MOST_CHARACTERS) -> bool:
    """Return whether a text can name a key."""
    return 1 <= len(text) <= most and not any(unicodedata.category(sign) in _NO_TEXT for sign in text)


def is_end_user(text: str) -> bool:
    """Return whether a text can name an end user."""
    return is_name(text, END_USER_CHARACTERS)


class NewKey(NamedTuple):
    """A key that was just made, with the text that lets in: nobody can tell it afterwards."""

    key: Key
    text: str


def make_key(key_id: UUID, name: str, account: str, scopes: Collection[Scope], now: int) -> NewKey:
    """Return a new key, which is not stored yet."""
    prefix, secret = random_text(PREFIX_LENGTH), random_text(SECRET_LENGTH)
    text = f"ck_{prefix}_{secret}"
    ordered = tuple(scope for scope in Scope if scope in scopes)
    return NewKey(Key(key_id, prefix, digest_of(text), name, account, ordered, now), text)


def random_text(length: int) -> str:
    """Return letters and digits that nobody guesses, 5.95 bits each."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(length))


def digest_of(text: str) -> bytes:
    """Return what is stored of a key; it is random enough that its hash needs no salt and no delay."""
    return hashlib.sha256(text.encode()).digest()


def make_child(parent: Key, key_id: UUID, now: int) -> NewKey:
    """Return a new key for who signed in with another one: it may the same, for `SIGNED_IN_S` at most."""
    made = make_key(key_id, parent.name, parent.account, tuple(map(Scope, parent.scopes)), now)
    until = min(filter(None, (now + SIGNED_IN_S * 1_000_000, parent.expires_at)))
    origin = parent.parent_id or parent.id
    key = replace(made.key, expires_at=until, parent_id=origin, end_user=parent.end_user, limits=parent.limits)
    return made._replace(key=key)


def find_key(database: Database, text: str) -> Key | None:
    """Return the live key that a text is; None for whatever else it is. Raises `StoreUnavailable`."""
    found = find_any_key(database, text)
    return found if found and found.is_live(now_us()) else None


def find_any_key(database: Database, text: str) -> Key | None:
    """Return the key that a text is, also one that has ended. Raises `StoreUnavailable`."""
    parsed = _KEY.fullmatch(text)
    if parsed is None:
        return None
    found = database.read(lambda connection: keys.named(connection, parsed[1]))
    if found is None or not hmac.compare_digest(found.digest, digest_of(text)):
        return None
    return found


def caller_of(key: Key) -> Caller:
    """Return whom a key speaks for."""
    owner = f"{key.account}/{key.end_user}" if key.end_user else key.account
    scopes = frozenset(map(Scope, key.scopes))
    return Caller(
        owner,
        key.account,
        key.id,
        scopes,
        end_user=key.end_user is not None,
        limits=key.limits,
        counts_for=key.parent_id or key.id,
        prefix=key.prefix,
        name=key.name,
    )


def require_keys(settings: Settings, database: Database) -> None:
    """Raise `KeysRequired` where a server in production is reachable from outside and there is no key."""
    outside = _outside(settings)
    if settings.env == "production" and outside and not database.read(keys.changes):
        variable, value = outside
        raise KeysRequired(
            [f"{variable}: {value} is reachable from outside and there is no key yet; run: chatkeep keys create NAME"]
        )


def _outside(settings: Settings) -> tuple[str, str] | None:
    """Return what tells that others reach the server: its address, or where it is open a name that a proxy passes."""
    if not is_loopback(settings.host):
        return "HOST", settings.host
    if not settings.is_private:
        return None
    named = next((name for name in settings.hosts if not is_loopback(name)), None)
    return ("CHATKEEP_HOSTS", named) if named else None


class _Opened(NamedTuple):
    """A stream that ends with its caller's key, and with the token that named its end user."""

    key_id: UUID | None
    until: int | None
    end: Callable[[Problem], None]


@dataclass(slots=True)
class _Known:
    """A key that this process remembers, as it was when keys had changed so many times."""

    caller: Caller
    expires_at: int | None
    changes: int
    noted: float = -NOTED_EVERY_S


class Access:
    """Lets callers in, for one process; ``is_private`` is a server that only its own machine reaches."""

    def __init__(self, database: Database, journal: Journal, *, is_private: bool) -> None:
        self._database = database
        self._journal = journal
        self._is_private = is_private
        self._changes = 0
        self._looked = -LOOK_HOLDS_S
        self._looks_since: float | None = None
        self._known: dict[bytes, _Known] = {}
        self._used: dict[UUID, int] = {}
        self._refused: dict[UUID, float] = {}
        self._streams: dict[object, _Opened] = {}

    def caller(self, text: str | None) -> Caller:
        """Return whom a request with this key speaks for. Raises `Unauthorized`, `StoreUnavailable`."""
        now = time.monotonic()
        if now - self._looked > LOOK_HOLDS_S:
            self._look_at(now)
        if not self._changes and text is not None:
            self.look()  # the first key may have been made a moment ago, by another process
        if not self._changes:
            return self._without_keys()
        if text is None:
            raise Unauthorized(NO_ACCESS)
        known = self._remembered(text)
        if known.expires_at is not None and known.expires_at <= now_us():
            raise Unauthorized(NO_ACCESS)
        if now - known.noted >= NOTED_EVERY_S and known.caller.key_id:
            known.noted = now
            self._used[known.caller.key_id] = now_us()
        return known.caller

    def is_open(self) -> bool:
        """Return whether requests need no key, as far as this process has seen."""
        return self._is_private and not self._changes

    def _look_at(self, now: float) -> None:
        """Look, unless somebody else has looked in vain for so long that the database must have hung."""
        if self._looks_since is not None and now - self._looks_since > LOOK_HOLDS_S:
            raise StoreUnavailable(retry_after=2)
        self.look()

    def _without_keys(self) -> Caller:
        if not self._is_private:
            raise Unauthorized(NO_KEYS)
        return OPEN_CALLER

    def _remembered(self, text: str) -> _Known:
        digest = digest_of(text)
        known = self._known.get(digest)
        if known is not None and known.changes == self._changes:
            return known
        changes = self._changes  # before the key is read: what changes meanwhile makes it be read again
        found = find_key(self._database, text)
        if found is None:
            raise Unauthorized(NO_ACCESS)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        known = self._known[digest] = _Known(caller_of(found), found.expires_at, changes)
        return known

    def accompany(
        self, caller: Caller, end: Callable[[Problem], None], *, until: int | None = None
    ) -> Callable[[], None]:
        """Call ``end`` when the caller's key stops, or at a time; return what makes an end of that, too."""
        if caller.key_id is None and until is None:
            return _nothing
        mark = object()
        self._streams[mark] = _Opened(caller.key_id, until, end)
        return lambda: _forget(self._streams, mark)

    def look(self, running: Collection[UUID] = ()) -> set[UUID]:
        """See whether keys have stopped, and end what they had opened; return those of ``running`` that have.

        Raises `StoreUnavailable`.
        """
        begun = self._looks_since = time.monotonic()
        opened = list(self._streams.values())
        wanted = {*running, *(stream.key_id for stream in opened if stream.key_id)}
        try:
            self._changes, live = self._database.read(lambda connection: _state(connection, wanted))
        finally:
            self._looks_since = None
        self._looked = begun
        now = now_us()
        for stream in opened:
            if stream.key_id and stream.key_id not in live:
                stream.end(Unauthorized(NO_ACCESS))
            elif stream.until is not None and stream.until <= now:
                stream.end(Unauthorized(NO_TOKEN))
        return wanted - live

    def note_refusal(self, caller: Caller, route: str, request_id: str) -> None:
        """Tell the audit log that a key lacks the scope for a route, of each key once a minute at most."""
        now = time.monotonic()
        if caller.key_id is None or now - self._refused.get(caller.key_id, -NOTED_EVERY_S) < NOTED_EVERY_S:
            return
        if len(self._refused) >= MOST_REMEMBERED:
            self._refused.clear()
        self._refused[caller.key_id] = now
        told = AuditEvent(caller.actor(request_id), Action.ACCESS_REFUSED, {"route": route}, REFUSED)
        with suppress(Problem):  # it is refused all the same
            self._journal.write(lambda connection: connection.notes.append(told))

    def note_uses(self) -> None:
        """Store when keys were used. Raises `StoreUnavailable`."""
        used, self._used = self._used, {}
        if used:
            self._journal.write(lambda connection: _note(connection, used))


def _nothing() -> None:
    """Make an end of nothing."""


def _forget(streams: dict[object, _Opened], mark: object) -> None:
    streams.pop(mark, None)


def _state(connection: Connection, wanted: set[UUID]) -> tuple[int, set[UUID]]:
    return keys.changes(connection), keys.live(connection, wanted, now_us()) if wanted else set()


def _note(connection: Connection, used: dict[UUID, int]) -> None:
    for key_id, at in used.items():
        keys.use(connection, key_id, at)
