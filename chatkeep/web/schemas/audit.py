"""The JSON of the audit log."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from chatkeep.auth.access import ACCOUNT
from chatkeep.domain.audit import Action
from chatkeep.reporting.audit import FormatName, members
from chatkeep.store.audit import Entry
from chatkeep.web.patterns import whole
from chatkeep.web.schemas.chat import Id, Limit, Moment, Time, time_text

Actor = Annotated[str, Meta(pattern=whole(ACCOUNT), description="The account of who did it.")]
Number = Annotated[int, Meta(description="Counts from 1, without a gap, in the order of what happened.")]


class AuditFilter(Struct, forbid_unknown_fields=True):
    """Which entries."""

    start_date: Moment | None = None
    end_date: Moment | None = None
    account: Actor | None = None
    verb: Annotated[Action, Meta(description="What was done.")] | None = None


class AuditQuery(AuditFilter, forbid_unknown_fields=True):
    """Which page of the audit log."""

    limit: Limit = 20
    after: Annotated[int, Meta(ge=1, le=2**53, description="Begin behind the item with this id.")] | None = None
    order: Annotated[Literal["asc", "desc"], Meta(description="By time; desc is newest first.")] = "desc"


class AuditExportQuery(AuditFilter, forbid_unknown_fields=True):
    """Which entries, and what kind of file."""

    format: Annotated[FormatName, Meta(description="What kind of file.")] = "ndjson"


class AuditEntry(Struct, kw_only=True):
    """One act of one caller."""

    object: Literal["audit_entry"] = "audit_entry"
    id: Number
    at: Time
    account: Annotated[str | None, Meta(description="The caller's account; null where it was the command line.")]
    key_id: Annotated[Id | None, Meta(description="The caller's key; null where none was needed.")]
    key: Annotated[str | None, Meta(description="How that key begins.")]
    end_user: Annotated[
        str | None, Meta(description="The digest of the end user whom the caller spoke for; null for none.")
    ]
    verb: Action
    what: Annotated[dict[str, Any], Meta(description="Ids, counts and names of routes; no content.")]
    request_id: str | None
    outcome: Annotated[str, Meta(description="`done` or `refused`.")]
    hash: Annotated[str, Meta(description="SHA-256 of this entry and of the hash before it, in hexadecimal.")]


class AuditList(Struct, kw_only=True):
    """A page of the audit log."""

    object: Literal["list"] = "list"
    data: list[AuditEntry]
    first_id: Number | None
    last_id: Number | None
    has_more: bool


def entries_of(found: list[Entry], *, has_more: bool) -> AuditList:
    """Return the shape of a page of the audit log."""
    data = [entry_of(entry) for entry in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return AuditList(data=data, first_id=first, last_id=last, has_more=has_more)


def entry_of(entry: Entry) -> AuditEntry:
    """Return the shape of an entry."""
    told = members(entry) | {"at": time_text(entry.at), "verb": Action(entry.verb), "what": json.loads(entry.what)}
    return AuditEntry(**told)
