"""The table ``api_keys``. Only hashes of keys are stored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from chatkeep.domain.conversation import id_of
from chatkeep.store import counters
from chatkeep.store.sql import Connection, Sql, in_list

# Incremented when a key changes or ends early, to invalidate caches; 0 if there never was a key.
MARK = "keys"
NOTED_EVERY_US = 60_000_000
_COLUMNS = (
    "id, prefix, digest, name, account, scopes, created_at, expires_at, last_used_at, revoked_at, parent_id, end_user,"
    " limits"
)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
_INSERT = Sql(f"INSERT INTO api_keys ({_COLUMNS}) VALUES ({_VALUES})")  # noqa: S608 - fixed parts only
_FIRST = Sql(f"UPDATE marks SET value = 1 WHERE name = '{MARK}' AND value = 0")  # noqa: S608 - the same
_GET = Sql(f"SELECT {_COLUMNS} FROM api_keys WHERE id = :id")  # noqa: S608 - the same
_LOCK = Sql(_GET.sqlite, mysql=f"{_GET.sqlite} FOR UPDATE")
_NAMED = Sql(f"SELECT {_COLUMNS} FROM api_keys WHERE prefix = :prefix")  # noqa: S608 - the same
_IS_LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
_COUNT_LIVE = (
    "SELECT COUNT(*), COUNT(CASE WHEN expires_at <= :soon THEN 1 END) FROM api_keys{}"  # noqa: S608 - fixed parts only
    f" WHERE parent_id IS NULL AND {_IS_LIVE}"
)
_LIVE = Sql(_COUNT_LIVE.format(""), mysql=_COUNT_LIVE.format(" FORCE INDEX (ix_api_keys_parent)"))
_REVOKE = Sql("UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL")
_REVOKE_CHILDREN = Sql("UPDATE api_keys SET revoked_at = :now WHERE parent_id = :id AND revoked_at IS NULL")
_EXPIRE = Sql(
    "UPDATE api_keys SET expires_at = :at WHERE id = :id AND revoked_at IS NULL"
    " AND (expires_at IS NULL OR expires_at > :at)"
)
_EXPIRE_CHILDREN = Sql("UPDATE api_keys SET expires_at = :at WHERE parent_id = :id AND expires_at > :at")
_CHANGE = Sql("UPDATE api_keys SET name = :name, limits = :limits WHERE id = :id")
_CHANGE_CHILDREN = Sql("UPDATE api_keys SET name = :name, limits = :limits WHERE parent_id = :id")
_FORGET_CHILDREN = Sql(
    "DELETE FROM api_keys WHERE id IN"
    " (SELECT id FROM api_keys WHERE parent_id = :id AND expires_at < :before LIMIT :limit)",
    # MySQL allows LIMIT in DELETE, but not in a subquery.
    mysql="DELETE FROM api_keys WHERE parent_id = :id AND expires_at < :before ORDER BY expires_at LIMIT :limit",
)
_OF_END_USER = Sql(
    f"SELECT {_COLUMNS} FROM api_keys"  # noqa: S608 - the same
    " WHERE account = :account AND end_user = :end_user AND id > :after ORDER BY id LIMIT :limit"
)
_REMOVE = Sql(
    "DELETE FROM api_keys WHERE id IN"
    " (SELECT id FROM api_keys WHERE account = :account AND end_user = :end_user LIMIT :limit)",
    mysql="DELETE FROM api_keys WHERE account = :account AND end_user = :end_user LIMIT :limit",
)
_USE = Sql(
    "UPDATE api_keys SET last_used_at = :at WHERE id = :id AND (last_used_at IS NULL OR last_used_at <= :noted_before)"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A row. Times are µs since 1970 in UTC."""

    id: UUID
    prefix: str
    digest: bytes = field(repr=False)
    name: str
    account: str
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None
    parent_id: UUID | None = None
    end_user: str | None = None
    limits: str | None = None

    def is_live(self, now: int) -> bool:
        """Return whether the key is valid: neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def insert(connection: Connection, key: Key) -> None:
    """Insert a key. Raises `Duplicate` if another key has its prefix."""
    connection.change(
        _INSERT,
        id=key.id.bytes,
        prefix=key.prefix,
        digest=key.digest,
        name=key.name,
        account=key.account,
        scopes=",".join(key.scopes),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        parent_id=key.parent_id.bytes if key.parent_id else None,
        end_user=key.end_user,
        limits=key.limits,
    )
    connection.change(_FIRST)


def get(connection: Connection, id: UUID) -> Key | None:
    """Return a key, valid or not."""
    rows = connection.rows(_GET, id=id.bytes)
    return _key(rows[0]) if rows else None


def lock(connection: Connection, id: UUID) -> Key | None:
    """Return a key as `get` does and keep others from changing it until the transaction ends."""
    rows = connection.rows(_LOCK, id=id.bytes)
    return _key(rows[0]) if rows else None


def named(connection: Connection, prefix: str) -> Key | None:
    """Return the key that eight characters name, whatever its state."""
    rows = connection.rows(_NAMED, prefix=prefix)
    return _key(rows[0]) if rows else None


def page(connection: Connection, *, limit: int, after: UUID | None, ascending: bool) -> list[Key]:
    """Return keys in the order in which they were made, or the newest first, beginning behind ``after``."""
    direction, beyond = ("ASC", ">") if ascending else ("DESC", "<")
    text = f"SELECT {_COLUMNS} FROM api_keys WHERE id {beyond} :after ORDER BY id {direction} LIMIT :limit"  # noqa: S608
    begin = after.bytes if after else b"\0" * 16 if ascending else b"\xff" * 16
    return [_key(row) for row in connection.rows(Sql(text), after=begin, limit=limit)]


def live(connection: Connection, ids: Collection[UUID], now: int) -> set[UUID]:
    """Return which of these keys are valid."""
    places, values = in_list("id", [key_id.bytes for key_id in ids])
    text = f"SELECT id FROM api_keys WHERE id IN ({places}) AND {_IS_LIVE}"  # noqa: S608 - placeholders only
    return {id_of(row[0]) for row in connection.rows(Sql(text), now=now, **values)}


def count_live(connection: Connection, now: int, soon: int) -> tuple[int, int]:
    """Return how many keys are valid, and how many of them expire by ``soon``. Sign-in keys don't count."""
    [(found, ending)] = connection.rows(_LIVE, now=now, soon=soon)
    return int(found), int(ending)


def revoke(connection: Connection, id: UUID, now: int) -> None:
    """Revoke a key and its sign-in keys. Does not change a key that is already revoked."""
    connection.change(_REVOKE, id=id.bytes, now=now)
    connection.change(_REVOKE_CHILDREN, id=id.bytes, now=now)
    counters.count(connection, MARK)


def expire(connection: Connection, id: UUID, at: int) -> None:
    """Set the expiry of a key and its sign-in keys, unless they expire earlier."""
    connection.change(_EXPIRE, id=id.bytes, at=at)
    connection.change(_EXPIRE_CHILDREN, id=id.bytes, at=at)
    counters.count(connection, MARK)


def change(connection: Connection, key: Key) -> None:
    """Store a key's name and limits, which its sign-in keys share."""
    for statement in (_CHANGE, _CHANGE_CHILDREN):
        connection.change(statement, id=key.id.bytes, name=key.name, limits=key.limits)
    counters.count(connection, MARK)


def forget_children(connection: Connection, id: UUID, before: int, limit: int) -> int:
    """Delete up to ``limit`` sign-in keys of a key that expired before a time. Return how many."""
    return connection.change(_FORGET_CHILDREN, id=id.bytes, before=before, limit=limit)


def of_end_user(connection: Connection, account: str, end_user: str, after: bytes, limit: int) -> list[Key]:
    """Return up to ``limit`` keys of one end user of an account, after the id ``after``."""
    rows = connection.rows(_OF_END_USER, account=account, end_user=end_user, after=after, limit=limit)
    return [_key(row) for row in rows]


def remove(connection: Connection, account: str, end_user: str, limit: int) -> int:
    """Delete up to ``limit`` keys of one end user. Return how many."""
    removed = connection.change(_REMOVE, account=account, end_user=end_user, limit=limit)
    if removed:
        counters.count(connection, MARK)
    return removed


def use(connection: Connection, id: UUID, at: int) -> None:
    """Record that a key was used, at most once a minute."""
    connection.change(_USE, id=id.bytes, at=at, noted_before=at - NOTED_EVERY_US)


def changes(connection: Connection) -> int:
    """Return a number that grows when a key changes or ends early; 0 if there never was a key."""
    return counters.get(connection, MARK)


def _key(row: tuple[Any, ...]) -> Key:
    """Convert a row of `_COLUMNS`."""
    return Key(
        id=id_of(row[0]),
        prefix=row[1],
        digest=bytes(row[2]),
        name=row[3],
        account=row[4],
        scopes=tuple(row[5].split(",")),
        created_at=row[6],
        expires_at=row[7],
        last_used_at=row[8],
        revoked_at=row[9],
        parent_id=id_of(row[10]) if row[10] else None,
        end_user=row[11],
        limits=row[12],
    )
