"""What the audit log is told: who has done what, to what. Pure.

A transaction gathers its notes and writes them at its end, so there is neither an act without its note nor a note of
what did not happen.
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
    """Who does something: a caller, with the request's id; without an account it is the command line."""

    account: str | None = None
    key_id: UUID | None = None
    prefix: str | None = None
    """The eight characters that name the key."""
    end_user: str | None = None
    """The end of the owner, from which nobody can read a name."""
    request_id: str | None = None


COMMAND_LINE = Actor()


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One act. ``what`` holds ids, counts and names of ours; no content, nobody's name, no secret."""

    by: Actor
    verb: Action
    what: dict[str, Any] = field(default_factory=dict)
    outcome: str = DONE
