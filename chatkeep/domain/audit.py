"""Events of the audit log: who did what. Pure.

A transaction collects its events and writes them before it commits, so actions and events are stored together or not at
all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

DONE, REFUSED = "done", "refused"


class Action(StrEnum):
    """What can be done that is noted; these names stay as they are."""

    KEY_CREATED = "key.created"
    KEY_CHANGED = "key.changed"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    ACCESS_REFUSED = "access.refused"
    CONVERSATION_DELETED = "conversation.deleted"
    CONVERSATION_SHARED = "conversation.shared"
    CONVERSATION_UNSHARED = "conversation.unshared"
    EXPORT_MADE = "export.made"
    EXPORT_FETCHED = "export.fetched"
    EXPORT_DELETED = "export.deleted"
    OWNER_GIVEN = "owner.given"
    OWNER_ERASING = "owner.erasing"
    OWNER_ERASED = "owner.erased"
    AUDIT_EXPORTED = "audit.exported"


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller of a request, or without an account the command line."""

    account: str | None = None
    key_id: UUID | None = None
    prefix: str | None = None
    """The first eight characters of the key."""
    end_user: str | None = None
    """The hash of the end user's name, as in the owner."""
    request_id: str | None = None


COMMAND_LINE = Actor()


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One action. ``what`` has ids, counts and identifiers; never content, personal names or secrets."""

    by: Actor
    verb: Action
    what: dict[str, Any] = field(default_factory=dict)
    outcome: str = DONE
