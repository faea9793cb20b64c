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
from chatkeep.web.schemas.common import Id, Limit, Moment, Order, Page, Time, page_of, time_text

Actor = Annotated[str, Meta(pattern=whole(ACCOUNT), description="The caller's account.")]
Number = Annotated[int, Meta(description="Sequence number, from 1 without gaps.")]


class AuditFilter(Struct, forbid_unknown_fields=True):
    """Which audit log entries."""

    start_date: Moment | None = None
    end_date: Moment | None = None
    account: Actor | None = None
    verb: Annotated[Action, Meta(description="The action.")] | None = None


class AuditQuery(AuditFilter, forbid_unknown_fields=True):
    """Which page of the audit log."""

    limit: Limit = 20
    after: Annotated[int, Meta(ge=1, le=2**53, description="Return the items after this id.")] | None = None
    order: Order = "desc"

    @property
    def ascending(self) -> bool:
        """Whether the oldest entry comes first."""
        return self.order == "asc"


class AuditExportQuery(AuditFilter, forbid_unknown_fields=True):
    """Which audit log entries, and in which format."""

    format: Annotated[FormatName, Meta(description="The file format.")] = "ndjson"


class AuditEntry(Struct, kw_only=True):
    """An audit log entry: what a caller did, and when."""

    object: Literal["audit_entry"] = "audit_entry"
    id: Number
    at: Time
    account: Annotated[str | None, Meta(description="The caller's account; `null` for the command line.")]
    key_id: Annotated[Id | None, Meta(description="The caller's key; `null` if no key was needed.")]
    key: Annotated[str | None, Meta(description="The key's prefix.")]
    end_user: Annotated[
        str | None, Meta(description="The digest of the end user's name; `null` if the caller named no end user.")
    ]
    verb: Action
    what: Annotated[dict[str, Any], Meta(description="Ids, counts and route names; never content.")]
    request_id: str | None
    outcome: Annotated[str, Meta(description="`done` or `refused`.")]
    hash: Annotated[str, Meta(description="SHA-256 of this entry and the previous hash, in hexadecimal.")]


class AuditList(Page[AuditEntry, Number], kw_only=True):
    """A page of the audit log."""


def entries_of(found: list[Entry], *, has_more: bool) -> AuditList:
    """Return the JSON of a page of the audit log."""
    return page_of(AuditList, [entry_of(entry) for entry in found], has_more=has_more)


def entry_of(entry: Entry) -> AuditEntry:
    """Return the JSON of an entry."""
    told = members(entry) | {"at": time_text(entry.at), "verb": Action(entry.verb), "what": json.loads(entry.what)}
    return AuditEntry(**told)
