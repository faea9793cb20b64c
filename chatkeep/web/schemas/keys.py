"""The JSON of keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.auth import access
from chatkeep.auth.access import ACCOUNT, END_USER_CHARACTERS, MOST_CHARACTERS, NEW_KEY_SCOPES, Caller, Scope
from chatkeep.domain.quota import Limits, read_limits
from chatkeep.store import keys
from chatkeep.web.patterns import whole
from chatkeep.web.schemas.chat import AfterCreated, Id, Limit, Time, time_text

MOST_SECONDS = 10 * 366 * 24 * 3600
Scopes = Annotated[tuple[Scope, ...], Meta(min_length=1, description="What the key may; none of them holds another.")]
Account = Annotated[str, Meta(pattern=whole(ACCOUNT), description="Whose conversations the key reaches.")]


Own = Annotated[Limits, Meta(description="Its own limits, in place of those that every key has.")]
Name = Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS, description="What people call it.")]


class KeyRequest(Struct, forbid_unknown_fields=True):
    """A key to be made."""

    name: Name
    account: Account = "local"
    scopes: Scopes = NEW_KEY_SCOPES
    end_user: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=END_USER_CHARACTERS,
                description="The only end user of the account that it stands for, named as in `X-End-User`.",
            ),
        ]
        | None
    ) = None
    limits: Own | None = None
    expires_in: (
        Annotated[int, Meta(ge=1, le=MOST_SECONDS, description="Seconds that it lives; for ever without.")] | None
    ) = None


class KeyChanges(Struct, forbid_unknown_fields=True):
    """What to change in a key; fields that are left out stay as they are."""

    name: Name | UnsetType = UNSET
    limits: Own | UnsetType | None = UNSET


class RotateRequest(Struct, forbid_unknown_fields=True):
    """How to put another key in a key's place."""

    overlap: Annotated[int, Meta(ge=0, le=MOST_SECONDS, description="Seconds that the old key goes on.")] = 0


class KeysQuery(Struct, forbid_unknown_fields=True):
    """Which keys to list."""

    limit: Limit = 20
    after: AfterCreated | None = None
    order: Annotated[Literal["asc", "desc"], Meta(description="By time; desc is newest first.")] = "desc"


class Key(Struct, kw_only=True):
    """A key, as far as anybody can tell afterwards."""

    object: Literal["key"] = "key"
    id: Id
    prefix: Annotated[str, Meta(description="How it begins, by which people recognise it.")]
    name: str
    account: str
    scopes: list[Scope]
    end_user: Annotated[bool, Meta(description="Whether it stands for a single end user.")]
    created_at: Time
    expires_at: Time | None
    last_used_at: Annotated[Time | None, Meta(description="Noted once a minute.")]
    revoked_at: Time | None
    limits: Annotated[Limits | None, Meta(description="Its own limits, in place of those that every key has.")]
    parent_id: Annotated[Id | None, Meta(description="The key with which somebody signed in on the page.")]


class NewKey(Key, kw_only=True):
    """A key that was just made."""

    key: Annotated[str, Meta(description="The key itself, which is shown only now.")]


class KeyList(Struct, kw_only=True):
    """A page of keys."""

    object: Literal["list"] = "list"
    data: list[Key]
    first_id: Id | None
    last_id: Id | None
    has_more: bool


class SignInRequest(Struct, forbid_unknown_fields=True):
    """With what somebody signs in."""

    key: Annotated[str, Meta(max_length=256)]


class SignedIn(Struct, kw_only=True):
    """Whom requests speak for."""

    object: Literal["caller"] = "caller"
    account: str
    scopes: list[Scope]
    end_user: Annotated[bool, Meta(description="Whether they speak for an end user of the account.")]
    owner: Annotated[str, Meta(description="Whose things they reach: the same for the same account or end user.")]
    name: Annotated[str | None, Meta(description="What people call the key; null where the server asks for none.")]


class SignedOut(Struct):
    """Whether somebody was signed in, and is no more."""

    signed_out: bool


def key_of(key: keys.Key) -> Key:
    """Return the shape of a key."""
    return Key(**_fields(key))


def new_key_of(made: access.NewKey) -> NewKey:
    """Return the shape of a key that was just made."""
    return NewKey(**_fields(made.key), key=made.text)


def keys_of(found: list[keys.Key], *, has_more: bool) -> KeyList:
    """Return the shape of a page of keys."""
    data = [key_of(key) for key in found]
    ids = [key.id for key in data]
    return KeyList(data=data, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more)


def signed_in_of(caller: Caller) -> SignedIn:
    """Return the shape of a caller."""
    return SignedIn(
        account=caller.account,
        scopes=sorted(caller.scopes),
        end_user=caller.end_user,
        owner=caller.owner,
        name=caller.name,
    )


def _fields(key: keys.Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "prefix": f"ck_{key.prefix}",
        "name": key.name,
        "account": key.account,
        "scopes": [Scope(scope) for scope in key.scopes],
        "end_user": key.end_user is not None,
        "created_at": time_text(key.created_at),
        "expires_at": _time(key.expires_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
        "parent_id": key.parent_id,
        "limits": read_limits(key.limits) if key.limits else None,
    }


def _time(at: int | None) -> str | None:
    return None if at is None else time_text(at)
