"""Create, list, change, revoke and rotate keys, for `chatkeep keys` and /api/keys; sign in and out."""

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
from chatkeep.i18n import _
from chatkeep.store import keys
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.keys import Key
from chatkeep.store.sql import Connection, Duplicate
from chatkeep.store.transaction import Transaction

NO_KEY = _("Key not found.")
# How long ended sessions stay in the list of keys.
SESSION_KEPT_US = 30 * 24 * 3600 * 1_000_000
DELETED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class KeySpec:
    """The properties of a new key; ``lifetime`` is in seconds, None for a key that does not expire."""

    name: str
    account: str = OPEN_OWNER
    scopes: tuple[Scope, ...] = NEW_KEY_SCOPES
    lifetime: float | None = None
    limits: Limits | None = None
    """Replaces the limits of all keys in CHATKEEP_LIMITS."""
    end_user: str | None = None
    """Restricts the key to this end user of the account."""


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """The properties of a key to change; ``...`` keeps one. Scopes and expiry never change."""

    name: str | EllipsisType = ...
    limits: Limits | EllipsisType | None = ...
    """None removes the key's own limits."""


@dataclass(frozen=True, slots=True)
class SignInKey:
    """The parent of all sessions from an OpenID provider: its text is thrown away, and revoking it ends them all."""

    id: UUID
    name: str
    account: str
    scopes: tuple[Scope, ...]


def create_key(journal: Journal, wanted: KeySpec, by: Actor = COMMAND_LINE) -> NewKey:
    """Store a new key; return it with its text, which is not stored. Raises `StoreUnavailable`."""
    now = now_us()
    expires_at = None if wanted.lifetime is None else now + int(wanted.lifetime * 1_000_000)
    made = make_key(new_id(now), wanted.name, wanted.account, wanted.scopes, now)
    end_user = None if wanted.end_user is None else _digest(wanted.account, wanted.end_user)
    key = replace(made.key, expires_at=expires_at, limits=_encoded(wanted.limits), end_user=end_user)
    made = made._replace(key=key)

    def store(connection: Transaction) -> None:
        keys.insert(connection, made.key)
        connection.events.append(AuditEvent(by, Action.KEY_CREATED, _audited(made.key)))

    journal.write(store)
    return made


def _digest(account: str, end_user: str) -> str:
    return owner_of(account, end_user).partition("/")[2]


def _encoded(limits: Limits | None) -> str | None:
    return None if limits in {None, Limits()} else msgspec.json.encode(limits).decode()


def _audited(key: Key) -> dict[str, Any]:
    """Return what the audit log records of a key; not its name, which may be personal data."""
    return {"key_id": key.id, "prefix": f"ck_{key.prefix}", "account": key.account, "scopes": key.scopes}


def list_keys(database: Database, limit: int, after: UUID | None, *, ascending: bool) -> tuple[list[Key], bool]:
    """Return a page of the keys of all accounts, and whether there are more."""
    found = database.read(lambda connection: keys.page(connection, limit=limit + 1, after=after, ascending=ascending))
    return found[:limit], len(found) > limit


def read_key(database: Database, id: UUID) -> Key:
    """Return a key. Raises `NotFound`."""
    return database.read(lambda connection: _get(connection, id))


def change_key(journal: Journal, id: UUID, changes: KeyChanges, by: Actor = COMMAND_LINE) -> Key:
    """Change a key and its sessions; return the changed key.

    The change takes effect in all processes within seconds. Raises `NotFound`.
    """

    def change(connection: Transaction) -> Key:
        found = _locked(connection, id)
        name = found.name if isinstance(changes.name, EllipsisType) else changes.name
        limits = found.limits if isinstance(changes.limits, EllipsisType) else _encoded(changes.limits)
        changed = replace(found, name=name, limits=limits)
        if changed != found:
            keys.change(connection, changed)
            named = [field for field in ("name", "limits") if getattr(changed, field) != getattr(found, field)]
            connection.events.append(AuditEvent(by, Action.KEY_CHANGED, _audited(found) | {"changed": named}))
        return changed

    return journal.write(change)


def revoke_key(journal: Journal, id: UUID, by: Actor = COMMAND_LINE, verb: Action = Action.KEY_REVOKED) -> Key:
    """Revoke a key and its sessions; idempotent.

    It takes effect in all processes within seconds. Raises `NotFound`.
    """

    def change(connection: Transaction) -> Key:
        found = _get(connection, id)
        if found.revoked_at is None:
            connection.events.append(AuditEvent(by, verb, _audited(found)))
        keys.revoke(connection, id, now_us())
        return _get(connection, id)

    return journal.write(change)


def rotate_key(journal: Journal, id: UUID, overlap: float = 0, by: Actor = COMMAND_LINE) -> NewKey:
    """Replace a live key; the old one stays valid for ``overlap`` seconds, and the new one gets a full lifetime.

    A session keeps its parent, and expires no later. Raises `NotFound`, and `KeyEnded` if the old key or its parent was
    revoked or has expired.
    """

    def change(connection: Transaction) -> NewKey:
        now = now_us()
        old, parent = _locked_with_parent(connection, id)
        if not all(key.is_live(now) for key in filter(None, (old, parent))):
            raise KeyEnded(_("Create a new key instead."))
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
        connection.events.append(AuditEvent(by, Action.KEY_ROTATED, _audited(key) | {"replaces": id}))
        return made._replace(key=key)

    return journal.write(change)


def sign_in(database: Database, journal: Journal, text: str, request_id: str) -> NewKey:
    """Create a session key for the page, so that the page never keeps the typed key.

    Raises `KeyRevoked` and `KeyExpired`, because the caller has the whole key; `Unauthorized` for any other text; and
    `StoreUnavailable`.
    """
    found = find_any_key(database, text)
    if found is None:
        raise Unauthorized(NO_ACCESS)
    given_id = found.id

    def store(connection: Transaction) -> NewKey:
        now = now_us()
        given, parent = _locked_with_parent(connection, given_id)
        for key in filter(None, (given, parent)):
            if not key.is_live(now):
                raise KeyRevoked if key.revoked_at is not None else KeyExpired
        made = make_child(given, new_id(now), now)
        _delete_old_children(connection, given.parent_id or given.id, now)
        keys.insert(connection, made.key)
        connection.events.append(AuditEvent(caller_of(given).actor(request_id), Action.SIGN_IN, _audited(made.key)))
        return made

    try:
        return journal.write(store)
    except NotFound:  # its end user was just erased
        raise Unauthorized(NO_ACCESS) from None


def _delete_old_children(connection: Connection, parent_id: UUID, now: int) -> None:
    """Delete children that ended long ago; several at each sign-in, so that their number falls."""
    keys.forget_children(connection, parent_id, now - SESSION_KEPT_US, DELETED_AT_ONCE)


def sign_in_end_user(journal: Journal, sign_in_key: SignInKey, end_user: str, request_id: str) -> NewKey:
    """Create a session for an end user whom the OpenID provider authenticated; the first one creates the parent key.

    Raises `KeyRevoked` if the parent key was revoked, `StoreUnavailable`.
    """

    def write(connection: Transaction) -> NewKey:
        now = now_us()
        parent = keys.lock(connection, sign_in_key.id) or _parent(connection, sign_in_key, now)
        if not parent.is_live(now):
            raise KeyRevoked
        parent = replace(parent, scopes=sign_in_key.scopes, end_user=_digest(sign_in_key.account, end_user))
        made = make_child(parent, new_id(now), now)
        _delete_old_children(connection, sign_in_key.id, now)
        keys.insert(connection, made.key)
        connection.events.append(AuditEvent(caller_of(made.key).actor(request_id), Action.SIGN_IN, _audited(made.key)))
        return made

    return journal.write(write)


def _parent(connection: Connection, wanted: SignInKey, now: int) -> Key:
    """Create the parent key of OpenID sessions, unless another process has; its text is thrown away."""
    with suppress(Duplicate):
        keys.insert(connection, make_key(wanted.id, wanted.name, wanted.account, wanted.scopes, now).key)
    return _locked(connection, wanted.id)


def sign_out(database: Database, journal: Journal, text: str, request_id: str) -> bool:
    """Revoke a session; return False if the text is not a session key. Raises `StoreUnavailable`."""
    found = find_key(database, text)
    if found is None or found.parent_id is None:
        return False
    revoke_key(journal, found.id, caller_of(found).actor(request_id), Action.SIGN_OUT)
    return True


def _get(connection: Connection, id: UUID) -> Key:
    return _require(keys.get(connection, id))


def _locked(connection: Connection, id: UUID) -> Key:
    """Return a key, locked until the transaction ends. Raises `NotFound`."""
    return _require(keys.lock(connection, id))


def _locked_with_parent(connection: Connection, id: UUID) -> tuple[Key, Key | None]:
    """Return a key and its parent, if it is a session, both locked.

    The parent is locked first, in the same order as when it is revoked. Raises `NotFound`.
    """
    origin = _get(connection, id).parent_id
    parent = _locked(connection, origin) if origin else None
    return _locked(connection, id), parent


def _require(key: Key | None) -> Key:
    if key is None:
        raise NotFound(NO_KEY)
    return key
