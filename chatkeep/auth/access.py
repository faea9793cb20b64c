"""Authenticate API keys: keys, the callers they identify, and the owners that scope all data.

Each process caches the keys it has seen, and checks once a second whether a key was revoked. So a request costs no
query, and a revoked key stops working within seconds, even during a stream.
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
from chatkeep.i18n import _
from chatkeep.runtime.hosts import is_loopback
from chatkeep.store import keys
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.keys import Key
from chatkeep.store.sql import Connection

PREFIX_LENGTH, SECRET_LENGTH = 8, 40
MOST_CHARACTERS = 128
# The maximum length of a subject in OpenID Connect.
END_USER_CHARACTERS = 255
ACCOUNT = r"[a-z0-9][a-z0-9_-]{0,31}"
# The watchdog refreshes once a second. A request refreshes by itself if the last refresh is older than this.
REFRESH_MAX_AGE_S = 2.0
SESSION_S = 12 * 3600
CACHE_SIZE = 10_000
# How often the use, or a refusal, of one key is stored at most.
NOTE_INTERVAL_S = 60.0
# Control characters, and lone surrogates: JSON can hold them and UTF-8 cannot.
_NO_TEXT = {"Cc", "Cs"}
_CHARACTERS = string.ascii_letters + string.digits
_KEY = re.compile(rf"ck_([A-Za-z0-9]{{{PREFIX_LENGTH}}})_[A-Za-z0-9]{{{SECRET_LENGTH}}}")


class Scope(StrEnum):
    """What a key is for; none of them holds another."""

    CHAT = "chat"  # take turns, change, delete, import
    READ = "read"  # list, read, search, follow
    EXPORT = "export"  # exports and their jobs
    ADMIN = "admin"  # operate: keys of all accounts, metrics; no conversations


EVERY_SCOPE = frozenset(Scope)
NEW_KEY_SCOPES = (Scope.CHAT, Scope.READ, Scope.EXPORT)


class Caller(msgspec.Struct, frozen=True):
    """The authenticated caller of a request, and its scopes."""

    owner: str
    account: str
    key_id: UUID | None
    """None if the server needs no key."""
    scopes: frozenset[Scope]
    end_user: bool = False
    """Whether the owner is an end user of the account."""
    limits: str | None = None
    """The limits of the key itself, as JSON."""
    counts_for: UUID | None = None
    """The key whose limits and usage count; of a session it is the key that signed in."""
    prefix: str | None = None
    """The first eight characters of the key, which identify it in lists and logs."""
    name: str | None = None
    """The key's name; None if the server needs no key."""
    until: int | None = None
    """When the end-user token expires, in µs since 1970; None without a token."""

    def for_end_user(self, end_user: str, until: int | None = None) -> Caller:
        """Return this caller acting for an end user of its account."""
        return msgspec.structs.replace(self, owner=owner_of(self.account, end_user), end_user=True, until=until)

    def actor(self, request_id: str) -> Actor:
        """Return the caller as the audit log records it."""
        digest = self.owner.partition("/")[2] if self.end_user else None
        return Actor(self.account, self.key_id, self.prefix, digest, request_id)


OPEN_CALLER = Caller(OPEN_OWNER, OPEN_OWNER, None, EVERY_SCOPE)


@lru_cache(CACHE_SIZE)
def owner_of(account: str, end_user: str) -> str:
    """Return the owner of an end user's data, a hash that does not reveal the end user's name."""
    digest = hashlib.sha256(b"%b\0%b" % (account.encode(), end_user.encode())).hexdigest()
    return f"{account}/{digest[:32]}"


def is_name(text: str, most: int = MOST_CHARACTERS) -> bool:
    """Return whether a text is a valid name of a key."""
    return 1 <= len(text) <= most and not any(unicodedata.category(sign) in _NO_TEXT for sign in text)


def is_end_user(text: str) -> bool:
    """Return whether a text is a valid name of an end user."""
    return is_name(text, END_USER_CHARACTERS)


class NewKey(NamedTuple):
    """A new key and its text, which is not stored and cannot be shown again."""

    key: Key
    text: str


def make_key(key_id: UUID, name: str, account: str, scopes: Collection[Scope], now: int) -> NewKey:
    """Generate a key; the caller stores it."""
    prefix, secret = random_text(PREFIX_LENGTH), random_text(SECRET_LENGTH)
    text = f"ck_{prefix}_{secret}"
    ordered = tuple(scope for scope in Scope if scope in scopes)
    return NewKey(Key(key_id, prefix, digest_of(text), name, account, ordered, now), text)


def random_text(length: int) -> str:
    """Return random letters and digits, 5.95 bits each."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(length))


def digest_of(text: str) -> bytes:
    """Return the hash that is stored; the key is random enough to need neither a salt nor a slow hash."""
    return hashlib.sha256(text.encode()).digest()


def make_child(parent: Key, key_id: UUID, now: int) -> NewKey:
    """Generate a session key with the scopes of its parent, for `SESSION_S` at most."""
    made = make_key(key_id, parent.name, parent.account, tuple(map(Scope, parent.scopes)), now)
    until = min(filter(None, (now + SESSION_S * 1_000_000, parent.expires_at)))
    origin = parent.parent_id or parent.id
    key = replace(made.key, expires_at=until, parent_id=origin, end_user=parent.end_user, limits=parent.limits)
    return made._replace(key=key)


def find_key(database: Database, text: str) -> Key | None:
    """Return the live key with this text, or None. Raises `StoreUnavailable`."""
    found = find_any_key(database, text)
    return found if found and found.is_live(now_us()) else None


def find_any_key(database: Database, text: str) -> Key | None:
    """Return the key with this text even if it was revoked or has expired. Raises `StoreUnavailable`."""
    parsed = _KEY.fullmatch(text)
    if parsed is None:
        return None
    found = database.read(lambda connection: keys.named(connection, parsed[1]))
    if found is None or not hmac.compare_digest(found.digest, digest_of(text)):
        return None
    return found


def caller_of(key: Key) -> Caller:
    """Return the caller that a key authenticates."""
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
    """Raise `KeysRequired` if a production server is reachable from outside and has no key."""
    exposure = _exposure(settings)
    if settings.env == "production" and exposure and not database.read(keys.changes):
        variable, value = exposure
        raise KeysRequired(
            [
                _(
                    "{setting}: {value} is reachable from other machines, but no API key exists; run: "
                    "chatkeep keys create NAME",
                    setting=variable,
                    value=value,
                )
            ]
        )


def _exposure(settings: Settings) -> tuple[str, str] | None:
    """Return the setting that exposes the server, with its value: the address, or a host name that a proxy serves."""
    if not is_loopback(settings.host):
        return "HOST", settings.host
    if not settings.is_private:
        return None
    named = next((name for name in settings.hosts if not is_loopback(name)), None)
    return ("CHATKEEP_HOSTS", named) if named else None


class _Stream(NamedTuple):
    """A stream that ends when its key is revoked or its end-user token expires."""

    key_id: UUID | None
    until: int | None
    end: Callable[[Problem], None]


@dataclass(slots=True)
class _CachedKey:
    """A key as it was when the counter of key changes had the value ``changes``."""

    caller: Caller
    expires_at: int | None
    changes: int
    noted: float = -NOTE_INTERVAL_S


class Access:
    """Authenticate the callers of one process; ``is_private`` means that only this machine reaches the server."""

    def __init__(self, database: Database, journal: Journal, *, is_private: bool) -> None:
        self._database = database
        self._journal = journal
        self._is_private = is_private
        self._changes = 0
        self._refreshed = -REFRESH_MAX_AGE_S
        self._refreshing_since: float | None = None
        self._cache: dict[bytes, _CachedKey] = {}
        self._used: dict[UUID, int] = {}
        self._refused: dict[UUID, float] = {}
        self._streams: dict[object, _Stream] = {}

    def caller(self, text: str | None) -> Caller:
        """Return the caller that a key authenticates. Raises `Unauthorized`, `StoreUnavailable`."""
        now = time.monotonic()
        if now - self._refreshed > REFRESH_MAX_AGE_S:
            self._refresh_or_fail(now)
        if not self._changes and text is not None:
            self.refresh()  # another process may have just created the first key
        if not self._changes:
            return self._without_keys()
        if text is None:
            raise Unauthorized(NO_ACCESS)
        key = self._cached_key(text)
        if key.expires_at is not None and key.expires_at <= now_us():
            raise Unauthorized(NO_ACCESS)
        if now - key.noted >= NOTE_INTERVAL_S and key.caller.key_id:
            key.noted = now
            self._used[key.caller.key_id] = now_us()
        return key.caller

    def is_open(self) -> bool:
        """Return whether requests need no key, as of the last refresh."""
        return self._is_private and not self._changes

    def _refresh_or_fail(self, now: float) -> None:
        """Refresh, unless another thread's refresh hangs. Raises `StoreUnavailable`."""
        if self._refreshing_since is not None and now - self._refreshing_since > REFRESH_MAX_AGE_S:
            raise StoreUnavailable(retry_after=2)
        self.refresh()

    def _without_keys(self) -> Caller:
        if not self._is_private:
            raise Unauthorized(NO_KEYS)
        return OPEN_CALLER

    def _cached_key(self, text: str) -> _CachedKey:
        digest = digest_of(text)
        cached = self._cache.get(digest)
        if cached is not None and cached.changes == self._changes:
            return cached
        changes = self._changes  # taken before the read: a change during the read causes another read
        found = find_key(self._database, text)
        if found is None:
            raise Unauthorized(NO_ACCESS)
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        cached = self._cache[digest] = _CachedKey(caller_of(found), found.expires_at, changes)
        return cached

    def on_revoked(
        self, caller: Caller, end: Callable[[Problem], None], *, until: int | None = None
    ) -> Callable[[], None]:
        """Call ``end`` when the key is revoked or expires, or at ``until``; return a function that unsubscribes."""
        if caller.key_id is None and until is None:
            return _no_op
        token = object()
        self._streams[token] = _Stream(caller.key_id, until, end)
        return lambda: _unsubscribe(self._streams, token)

    def refresh(self, running: Collection[UUID] = ()) -> set[UUID]:
        """End the streams of revoked and expired keys; return those of the keys in ``running`` that are not live.

        Raises `StoreUnavailable`.
        """
        begun = self._refreshing_since = time.monotonic()
        streams = list(self._streams.values())
        wanted = {*running, *(stream.key_id for stream in streams if stream.key_id)}
        try:
            self._changes, live = self._database.read(lambda connection: _state(connection, wanted))
        finally:
            self._refreshing_since = None
        self._refreshed = begun
        now = now_us()
        for stream in streams:
            if stream.key_id and stream.key_id not in live:
                stream.end(Unauthorized(NO_ACCESS))
            elif stream.until is not None and stream.until <= now:
                stream.end(Unauthorized(NO_TOKEN))
        return wanted - live

    def audit_refusal(self, caller: Caller, route: str, request_id: str) -> None:
        """Record in the audit log that a key lacks a scope, at most once a minute for each key."""
        now = time.monotonic()
        if caller.key_id is None or now - self._refused.get(caller.key_id, -NOTE_INTERVAL_S) < NOTE_INTERVAL_S:
            return
        if len(self._refused) >= CACHE_SIZE:
            self._refused.clear()
        self._refused[caller.key_id] = now
        event = AuditEvent(caller.actor(request_id), Action.ACCESS_REFUSED, {"route": route}, REFUSED)
        with suppress(Problem):  # the request is refused anyway
            self._journal.write(lambda connection: connection.events.append(event))

    def flush_last_used(self) -> None:
        """Store when keys were last used. Raises `StoreUnavailable`."""
        used, self._used = self._used, {}
        if used:
            self._journal.write(lambda connection: _store_last_used(connection, used))


def _no_op() -> None:
    """Do nothing."""


def _unsubscribe(streams: dict[object, _Stream], token: object) -> None:
    streams.pop(token, None)


def _state(connection: Connection, wanted: set[UUID]) -> tuple[int, set[UUID]]:
    return keys.changes(connection), keys.live(connection, wanted, now_us()) if wanted else set()


def _store_last_used(connection: Connection, used: dict[UUID, int]) -> None:
    for key_id, at in used.items():
        keys.use(connection, key_id, at)
