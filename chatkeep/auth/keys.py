"""Make, list, change, revoke and rotate keys: what `chatkeep keys` and /api/keys do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any
from uuid import UUID

import msgspec

from chatkeep.auth.access import (
    NEW_KEY_SCOPES,
    NewKey,
    Scope,
    caller_of,
    find_any_key,
    find_key,
    make_child,
    make_key,
    owner_of,
)
from chatkeep.domain.audit import COMMAND_LINE, Action, Actor, AuditEvent
from chatkeep.domain.conversation import OPEN_OWNER, new_id, now_us
from chatkeep.domain.quota import Limits
from chatkeep.errors import NO_ACCESS, KeyEnded, KeyExpired, KeyRevoked, NotFound, Unauthorized
from chatkeep.store import keys
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.keys import Key
from chatkeep.store.sql import Connection, Duplicate

NO_KEY = "There is no such key."
# For how long it can be seen who had signed in.
FORGOTTEN_AFTER_US = 30 * 24 * 3600 * 1_000_000
FORGOTTEN_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a new key shall be; it lives for so many seconds, where it does not live for ever."""

    name: str
    account: str = OPEN_OWNER
    scopes: tuple[Scope, ...] = NEW_KEY_SCOPES
    lifetime: float | None = None
    limits: Limits | None = None
    """In place of those that every key has."""
    end_user: str | None = None
    """Whom of the account it stands for, and for nobody else."""


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What to change in a key; ``...`` leaves a thing as it is. What it may, and how long it lives, never change."""

    name: str | EllipsisType = ...
    limits: Limits | EllipsisType | None = ...
    """None takes those away that are its own."""


@dataclass(frozen=True, slots=True)
class SignInKey:
    """By which people come in whom somebody else vouches for: a key that nobody has, and that can be revoked."""

    id: UUID
    name: str
    account: str
    scopes: tuple[Scope, ...]


def create_key(journal: Journal, wanted: KeySpec, by: Actor = COMMAND_LINE) -> NewKey:
    """Store a new key and return it with its text, which is known only now. Raises `StoreUnavailable`."""
    now = now_us()
    expires_at = None if wanted.lifetime is None else now + int(wanted.lifetime * 1_000_000)
    made = make_key(new_id(now), wanted.name, wanted.account, wanted.scopes, now)
    end_user = None if wanted.end_user is None else _digest(wanted.account, wanted.end_user)
    key = replace(made.key, expires_at=expires_at, limits=_written(wanted.limits), end_user=end_user)
    made = made._replace(key=key)

    def store(connection: Connection) -> None:
        keys.insert(connection, made.key)
        connection.notes.append(AuditEvent(by, Action.KEY_CREATED, _told(made.key)))

    journal.write(store)
    return made


def _digest(account: str, end_user: str) -> str:
    return owner_of(account, end_user).partition("/")[2]


def _written(limits: Limits | None) -> str | None:
    return None if limits in {None, Limits()} else msgspec.json.encode(limits).decode()


def _told(key: Key) -> dict[str, Any]:
    """Return what the audit log says of a key; not its name, which may be somebody's."""
    return {"key_id": key.id, "prefix": f"ck_{key.prefix}", "account": key.account, "scopes": key.scopes}


def list_keys(database: Database, limit: int, after: UUID | None, *, ascending: bool) -> tuple[list[Key], bool]:
    """Return a page of the keys of all accounts, and whether there are more."""
    found = database.read(lambda connection: keys.page(connection, limit=limit + 1, after=after, ascending=ascending))
    return found[:limit], len(found) > limit


def read_key(database: Database, id: UUID) -> Key:
    """Return a key. Raises `NotFound`."""
    return database.read(lambda connection: _there(connection, id))


def change_key(journal: Journal, id: UUID, changes: KeyChanges, by: Actor = COMMAND_LINE) -> Key:
    """Change a key, with all that were made of it by signing in; return what it became.

    Every process obeys within seconds. Raises `NotFound`.
    """

    def change(connection: Connection) -> Key:
        found = _held(connection, id)
        name = found.name if isinstance(changes.name, EllipsisType) else changes.name
        limits = found.limits if isinstance(changes.limits, EllipsisType) else _written(changes.limits)
        changed = replace(found, name=name, limits=limits)
        if changed != found:
            keys.change(connection, changed)
            named = [field for field in ("name", "limits") if getattr(changed, field) != getattr(found, field)]
            connection.notes.append(AuditEvent(by, Action.KEY_CHANGED, _told(found) | {"changed": named}))
        return changed

    return journal.write(change)


def revoke_key(journal: Journal, id: UUID, by: Actor = COMMAND_LINE, verb: Action = Action.KEY_REVOKED) -> Key:
    """Let a key stop for good, with all that were made of it by signing in; doing so again does no harm.

    Every process obeys within seconds. Raises `NotFound`.
    """

    def change(connection: Connection) -> Key:
        found = _there(connection, id)
        if found.revoked_at is None:
            connection.notes.append(AuditEvent(by, verb, _told(found)))
        keys.revoke(connection, id, now_us())
        return _there(connection, id)

    return journal.write(change)


def rotate_key(journal: Journal, id: UUID, overlap: float = 0, by: Actor = COMMAND_LINE) -> NewKey:
    """Return a new key in place of a live one, which goes on for so many seconds; the new one lives as long anew.

    The new key of a sign-in keeps its parent: it ends with the parent at the latest. Raises `NotFound`, and `KeyEnded`
    if the old key or its parent is revoked or has expired.
    """

    def change(connection: Connection) -> NewKey:
        now = now_us()
        old, parent = _held_with_parent(connection, id)
        if not all(key.is_live(now) for key in filter(None, (old, parent))):
            raise KeyEnded("Make a new key in its place.")
        made = make_key(new_id(now), old.name, old.account, tuple(map(Scope, old.scopes)), now)
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        latest = parent.expires_at if parent else None
        expires_at = None if lifetime is None else min(filter(None, (now + lifetime, latest)))
        inherited = replace(old, expires_at=expires_at, last_used_at=None)
        key = replace(inherited, id=made.key.id, prefix=made.key.prefix, digest=made.key.digest, created_at=now)
        keys.insert(connection, key)
        if overlap:
            keys.expire(connection, id, now + int(overlap * 1_000_000))
        else:
            keys.revoke(connection, id, now)
        connection.notes.append(AuditEvent(by, Action.KEY_ROTATED, _told(key) | {"replaces": id}))
        return made._replace(key=key)

    return journal.write(change)


def sign_in(database: Database, journal: Journal, text: str, request_id: str) -> NewKey:
    """Return a new key for the page in place of one that somebody typed; the page never keeps the latter.

    Who has a whole key may know that it has ended: `KeyRevoked`, `KeyExpired`. Raises `Unauthorized` for anything
    else, and `StoreUnavailable`.
    """
    found = find_any_key(database, text)
    if found is None:
        raise Unauthorized(NO_ACCESS)
    given_id = found.id

    def store(connection: Connection) -> NewKey:
        now = now_us()
        given, parent = _held_with_parent(connection, given_id)
        for key in filter(None, (given, parent)):
            if not key.is_live(now):
                raise KeyRevoked if key.revoked_at is not None else KeyExpired
        made = make_child(given, new_id(now), now)
        _forget_old(connection, given.parent_id or given.id, now)
        keys.insert(connection, made.key)
        connection.notes.append(AuditEvent(caller_of(given).actor(request_id), Action.SIGN_IN, _told(made.key)))
        return made

    try:
        return journal.write(store)
    except NotFound:  # its end user was erased a moment ago
        raise Unauthorized(NO_ACCESS) from None


def _forget_old(connection: Connection, parent_id: UUID, now: int) -> None:
    """Forget some keys of earlier sign-ins: more than one, so that they become fewer."""
    keys.forget_children(connection, parent_id, now - FORGOTTEN_AFTER_US, FORGOTTEN_AT_ONCE)


def admit(journal: Journal, door: SignInKey, end_user: str, request_id: str) -> NewKey:
    """Return a new key for an end user who comes in by a door, which is made for the first one who does.

    Raises `KeyRevoked` where the door was revoked, `StoreUnavailable`.
    """

    def write(connection: Connection) -> NewKey:
        now = now_us()
        parent = keys.lock(connection, door.id) or _made_door(connection, door, now)
        if not parent.is_live(now):
            raise KeyRevoked
        parent = replace(parent, scopes=door.scopes, end_user=_digest(door.account, end_user))
        made = make_child(parent, new_id(now), now)
        _forget_old(connection, door.id, now)
        keys.insert(connection, made.key)
        connection.notes.append(AuditEvent(caller_of(made.key).actor(request_id), Action.SIGN_IN, _told(made.key)))
        return made

    return journal.write(write)


def _made_door(connection: Connection, door: SignInKey, now: int) -> Key:
    """Store a door's key, whose secret nobody is told; another process may have been faster."""
    with suppress(Duplicate):
        keys.insert(connection, make_key(door.id, door.name, door.account, door.scopes, now).key)
    return _held(connection, door.id)


def sign_out(database: Database, journal: Journal, text: str, request_id: str) -> bool:
    """End a key that was made by signing in; return False where the text is none. Raises `StoreUnavailable`."""
    found = find_key(database, text)
    if found is None or found.parent_id is None:
        return False
    revoke_key(journal, found.id, caller_of(found).actor(request_id), Action.SIGN_OUT)
    return True


def _there(connection: Connection, id: UUID) -> Key:
    return _found(keys.get(connection, id))


def _held(connection: Connection, id: UUID) -> Key:
    """Return a key that nobody else changes until the transaction ends. Raises `NotFound`."""
    return _found(keys.lock(connection, id))


def _held_with_parent(connection: Connection, id: UUID) -> tuple[Key, Key | None]:
    """Return a key as `_held` does, and the key that somebody signed in with to get it, if there is one.

    The parent is locked first, as it is when it is revoked. Raises `NotFound`.
    """
    origin = _there(connection, id).parent_id
    parent = _held(connection, origin) if origin else None
    return _held(connection, id), parent


def _found(key: Key | None) -> Key:
    if key is None:
        raise NotFound(NO_KEY)
    return key
