"""The JSON of keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from chatkeep.auth import access
from chatkeep.auth.access import ACCOUNT, END_USER_CHARACTERS, MOST_CHARACTERS, NEW_KEY_SCOPES, Caller, Scope
from chatkeep.domain.quota import Limits, read_limits
from chatkeep.store import keys
from chatkeep.web.patterns import whole
from chatkeep.web.schemas.common import Id, Page, Time, page_of, time_or_none, time_text

MOST_SECONDS = 10 * 366 * 24 * 3600
Scopes = Annotated[tuple[Scope, ...], Meta(min_length=1, description="What the key allows; no scope includes another.")]
Account = Annotated[str, Meta(pattern=whole(ACCOUNT), description="The account whose data the key can access.")]


Own = Annotated[Limits | None, Meta(description="The key's own limits; they replace the defaults.")]
Name = Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS, description="A name to recognize the key by.")]


class KeyRequest(Struct, forbid_unknown_fields=True):
    """The key to create."""

    name: Name
    account: Account = "local"
    scopes: Scopes = NEW_KEY_SCOPES
    end_user: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=END_USER_CHARACTERS,
                description="Bind the key to one end user of the account, named as in `X-End-User`.",
            ),
        ]
        | None
    ) = None
    limits: Own = None
    expires_in: (
        Annotated[int, Meta(ge=1, le=MOST_SECONDS, description="Seconds until the key expires; never by default.")]
        | None
    ) = None


class KeyChanges(Struct, forbid_unknown_fields=True):
    """What to change in a key; omitted fields stay as they are."""

    name: Name | UnsetType = UNSET
    limits: Own | UnsetType = UNSET


class RotateRequest(Struct, forbid_unknown_fields=True):
    """How to rotate a key."""

    overlap: Annotated[int, Meta(ge=0, le=MOST_SECONDS, description="Seconds that the old key stays valid.")] = 0


class Key(Struct, kw_only=True):
    """An API key without its secret."""

    object: Literal["key"] = "key"
    id: Id
    prefix: Annotated[str, Meta(description="The beginning of the key, to recognize it by.")]
    name: str
    account: str
    scopes: list[Scope]
    end_user: Annotated[bool, Meta(description="Whether the key is bound to one end user.")]
    created_at: Time
    expires_at: Time | None
    last_used_at: Annotated[Time | None, Meta(description="Updated once a minute.")]
    revoked_at: Time | None
    limits: Own
    parent_id: Annotated[Id | None, Meta(description="For a sign-in on the page: the key that was used.")]


class NewKey(Key, kw_only=True):
    """A new API key."""

    key: Annotated[str, Meta(description="The key itself, shown only once.")]


class KeyList(Page[Key, Id], kw_only=True):
    """A page of keys."""


class SignInRequest(Struct, forbid_unknown_fields=True):
    """The key to sign in with."""

    key: Annotated[str, Meta(max_length=256)]


class SignedIn(Struct, kw_only=True):
    """The caller of a request."""

    object: Literal["caller"] = "caller"
    account: str
    scopes: list[Scope]
    end_user: Annotated[bool, Meta(description="Whether the caller acts for an end user.")]
    owner: Annotated[str, Meta(description="The same for all keys of an account or an end user.")]
    name: Annotated[str | None, Meta(description="The key's name; `null` without a key.")]


class SignedOut(Struct):
    """Whether a sign-in was ended."""

    signed_out: bool


def key_of(key: keys.Key) -> Key:
    """Return the JSON of a key."""
    return Key(**_fields(key))


def new_key_of(made: access.NewKey) -> NewKey:
    """Return the JSON of a new key."""
    return NewKey(**_fields(made.key), key=made.text)


def keys_of(found: list[keys.Key], *, has_more: bool) -> KeyList:
    """Return the JSON of a page of keys."""
    return page_of(KeyList, [key_of(key) for key in found], has_more=has_more)


def signed_in_of(caller: Caller) -> SignedIn:
    """Return the JSON of a caller."""
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
        "expires_at": time_or_none(key.expires_at),
        "last_used_at": time_or_none(key.last_used_at),
        "revoked_at": time_or_none(key.revoked_at),
        "parent_id": key.parent_id,
        "limits": read_limits(key.limits) if key.limits else None,
    }
