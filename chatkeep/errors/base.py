"""The base classes, and the errors that stop a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from chatkeep.i18n import Text, _


class ChatkeepError(Exception):
    """The base of all exceptions of chatkeep."""


class SettingsError(ChatkeepError):
    """Settings are wrong; ``problems`` has one sentence for each."""

    def __init__(self, problems: list[Text]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class KeysRequired(SettingsError):
    """The server would be reachable from outside without an API key."""


class TransferError(ChatkeepError):
    """A backup, a restore or a copy failed; the message says why and what to do."""


class SignInFailed(ChatkeepError):
    """Signing in with OpenID Connect failed: the page shows ``reason``, the log has ``cause`` (see docs/access.md)."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


@dataclass(frozen=True, slots=True)
class FieldError:
    """An error in one field of a request; ``field`` is a dotted path, empty for the whole body."""

    field: str
    message: Text


class Problem(ChatkeepError):
    """An error with an HTTP status and a stable code; ``retry_after`` is in seconds."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[Text] = _("Internal server error")
    advice: ClassVar[Text | None] = None
    """The detail if none is given."""

    def __init__(
        self, detail: Text | None = None, *, errors: list[FieldError] | None = None, retry_after: float | None = None
    ) -> None:
        self.detail: Text = detail or self.advice or self.title
        super().__init__(self.detail)
        self.errors = errors or []
        self.retry_after = retry_after
        self.conversation_id: UUID | None = None
        self.message_id: UUID | None = None

    def about(self, conversation_id: UUID, message_id: UUID) -> Problem:
        """Add the ids of the failed reply, so that the caller can read its stored part; return self."""
        self.conversation_id, self.message_id = conversation_id, message_id
        return self


class InternalError(Problem):
    """A bug in chatkeep."""


def without_frames(problem: Problem) -> Problem:
    """Drop the tracebacks of a problem that is kept, and return it.

    A traceback and a frame that refer to each other would keep the frame's data, such as a provider's megabyte, until
    the next garbage collection.
    """
    found: BaseException | None = problem
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
    return problem
