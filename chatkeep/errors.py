"""The exceptions that chatkeep raises.

::

    ChatkeepError
     ├─ SettingsError                     a setting is wrong; the program does not start
     │   └─ KeysRequired                  a production server would be reachable and has no keys
     ├─ TransferError                     a backup, restore or copy of the database failed
     ├─ SignInFailed                      signing in with the OpenID provider failed
     └─ Problem                           becomes an RFC 9457 problem document
         ├─ BadRequest             400    bad_request, malformed_json
         ├─ Unauthorized           401    unauthorized
         │   ├─ KeyRevoked         401    key_revoked           only for a caller that has the whole key
         │   └─ KeyExpired         401    key_expired           as above
         ├─ MissingScope           403    missing_scope
         ├─ ForeignOrigin          403    foreign_origin
         ├─ QuotaExceeded          403    quota_used_up
         ├─ NotFound               404    not_found
         ├─ MethodNotAllowed       405    method_not_allowed
         ├─ RequestTimeout         408    request_timeout
         ├─ TurnRunning            409    turn_running
         ├─ ExportFinished         409    export_finished
         ├─ ExportNotReady         409    export_not_ready
         ├─ KeyEnded               409    key_ended
         ├─ PreconditionFailed     412    precondition_failed
         ├─ BodyTooLarge           413    body_too_large
         ├─ UriTooLong             414    uri_too_long
         ├─ UnsupportedMediaType   415    unsupported_media_type
         ├─ RangeNotSatisfiable    416    range_not_satisfiable
         ├─ ExpectationFailed      417    expectation_failed
         ├─ UnknownHost            421    unknown_host
         ├─ InvalidFields          422    invalid_fields
         ├─ IdempotencyKeyReused   422    idempotency_key_reused
         ├─ RateLimited            429    rate_limited
         ├─ SensitiveContent       422    sensitive_content
         ├─ TooManyExports         429    too_many_exports
         ├─ HeadersTooLarge        431    headers_too_large
         ├─ InternalError          500    internal_error
         ├─ UnsupportedTransferCoding 501    unsupported_transfer_coding
         ├─ ProviderError
         │   ├─ ProviderRefused    502    provider_refused      refused: credentials, model, request
         │   │   ├─ ContextTooLong 422    context_length_exceeded
         │   │   └─ ProviderQuotaExceeded   provider_quota_exceeded  the operator's quota is used up
         │   ├─ ProviderBroke      502    provider_broke        unreachable, or a protocol error
         │   ├─ EmptyReply         502    empty_reply           a reply without text
         │   ├─ ProviderBusy       503    provider_busy         overloaded (429, 503)
         │   └─ ProviderTimeout    504    provider_timeout      a deadline passed
         ├─ ReplyInterrupted       503    reply_interrupted
         ├─ ExportFileMissing      503    export_file_missing
         ├─ StoreProblem
         │   ├─ StoreUnavailable   503    database_unavailable
         │   │   ├─ DatabaseTimeout  503  database_timeout
         │   │   ├─ DatabaseBusy   503    database_busy
         │   │   ├─ DatabaseReadOnly 503  database_read_only
         │   │   ├─ DatabaseFull   503    database_full
         │   │   └─ OutcomeUnknown 503    outcome_unknown       the write may be stored or not
         │   └─ DatabaseRefused    500    database_refused      refused a statement; a retry fails too
         └─ ServerStopping         503    server_stopping

Each class has the HTTP status, a stable ``code`` and a ``title``. An instance has a ``detail``: what happened and what
to do, in a sentence for users that never contains a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from chatkeep.domain.conversation import Finish
from chatkeep.domain.quota import QuotaStatus

# One text for a missing conversation and for another owner's.
NO_CONVERSATION = "There is no such conversation; it may have expired or been deleted."
NO_MESSAGE = "There is no such message in this conversation."
NO_SHARE = "This link leads nowhere; it may have been ended, or what it showed is gone."
NO_EXPORT = "There is no such export; it may have expired or been deleted."
# One text for missing, unknown, revoked and expired keys, so that callers cannot probe which keys exist.
NO_ACCESS = "Send a key in the header Authorization: Bearer ck_...; it may be mistyped, revoked or expired."
# The same for end-user tokens.
NO_TOKEN = "Send a valid X-End-User-Token; its signature, time or names are not as the server is set."  # noqa: S105 - no password
# Characters of a statement to log.
MOST_OF_STATEMENT = 80
NO_KEYS = "There is no key yet; make one on the server: chatkeep keys create NAME"


class ChatkeepError(Exception):
    """The base of all exceptions of chatkeep."""


class SettingsError(ChatkeepError):
    """Settings are wrong; ``problems`` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
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
    message: str


class Problem(ChatkeepError):
    """An error with an HTTP status and a stable code; ``retry_after`` is in seconds."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong in the server"
    advice: ClassVar[str] = ""
    """The detail if none is given."""

    def __init__(
        self, detail: str = "", *, errors: list[FieldError] | None = None, retry_after: float | None = None
    ) -> None:
        self.detail = detail or self.advice or self.title
        super().__init__(self.detail)
        self.errors = errors or []
        self.retry_after = retry_after
        self.conversation_id: UUID | None = None
        self.message_id: UUID | None = None

    def about(self, conversation_id: UUID, message_id: UUID) -> Problem:
        """Add the ids of the failed reply, so that the caller can read its stored part; return self."""
        self.conversation_id, self.message_id = conversation_id, message_id
        return self


class BadRequest(Problem):
    """The request is malformed."""

    status, code, title = 400, "bad_request", "The request cannot be understood"


class MalformedJson(BadRequest):
    """The body is not JSON in UTF-8."""

    code, title = "malformed_json", "The body is not valid JSON"


class Unauthorized(Problem):
    """The key is missing, unknown, revoked or expired."""

    status, code, title = 401, "unauthorized", "A valid key is needed"


class KeyRevoked(Unauthorized):
    """A sign-in with a revoked key."""

    code, title = "key_revoked", "This key was revoked"


class KeyExpired(Unauthorized):
    """A sign-in with an expired key."""

    code, title = "key_expired", "This key has expired"


class MissingScope(Problem):
    """The key lacks the scope."""

    status, code, title = 403, "missing_scope", "This key may not do that"


class ForeignOrigin(Problem):
    """A page of an origin that the operator has not allowed sent the request."""

    status, code, title = 403, "foreign_origin", "Pages of other origins may not ask this"


class QuotaExceeded(Problem):
    """The owner's storage quota is used up.

    Not a 429 or 507: clients retry those by themselves, and a retry does not help here.
    """

    status, code, title = 403, "quota_used_up", "The quota is used up"


class NotFound(Problem):
    """The resource does not exist or belongs to another owner; the response is the same."""

    status, code, title = 404, "not_found", "There is no such thing"


class MethodNotAllowed(Problem):
    """The path does not support this method."""

    status, code, title = 405, "method_not_allowed", "This method is not allowed here"


class RequestTimeout(Problem):
    """The request's body did not arrive in time."""

    status, code, title = 408, "request_timeout", "The request did not arrive in time"


class TurnRunning(Problem):
    """The conversation is already generating a reply."""

    status, code, title = 409, "turn_running", "A reply is being generated in this conversation"


class ExportFinished(Problem):
    """The export has ended and cannot be cancelled."""

    status, code, title = 409, "export_finished", "This export is finished already"


class ExportNotReady(Problem):
    """The export is not finished, or failed."""

    status, code, title = 409, "export_not_ready", "This export has no file"


class KeyEnded(Problem):
    """The key was revoked or has expired, so it cannot be rotated."""

    status, code, title = 409, "key_ended", "This key has ended already"


class PreconditionFailed(Problem):
    """`If-Match` names another version of the file."""

    status, code, title = 412, "precondition_failed", "The file is not the one that If-Match names"


class BodyTooLarge(Problem):
    """The body exceeds the limit."""

    status, code, title = 413, "body_too_large", "The body is too large"
    advice = (
        "The body is larger than the server takes (CHATKEEP_MAX_BODY). Send less at once."
        " On the server, chatkeep import takes files of any size."
    )


class UriTooLong(Problem):
    """The request line exceeds the server's limit."""

    status, code, title = 414, "uri_too_long", "The address is too long"


class UnsupportedMediaType(Problem):
    """The body is not declared as JSON."""

    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class RangeNotSatisfiable(Problem):
    """The range starts after the end of the file."""

    status, code, title = 416, "range_not_satisfiable", "The file has no such range"


class ExpectationFailed(Problem):
    """`Expect` has another value than `100-continue`."""

    status, code, title = 417, "expectation_failed", "The server cannot do what Expect asks for"


class UnknownHost(Problem):
    """The `Host` header names another server."""

    status, code, title = 421, "unknown_host", "The server does not answer to this name"


class InvalidFields(Problem):
    """One or more fields are invalid; ``errors`` lists them."""

    status, code, title = 422, "invalid_fields", "Some fields are not valid"

    @classmethod
    def of(cls, faults: list[FieldError]) -> InvalidFields:
        """Return the problem of these errors; the detail has the first one."""
        told = f"{faults[0].field or 'The body'}: {faults[0].message}."
        return cls(told if len(faults) == 1 else f"{told} See errors for the other wrong fields.", errors=faults)


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used for another request."""

    status, code, title = 422, "idempotency_key_reused", "This Idempotency-Key belongs to another request"


class SensitiveContent(Problem):
    """A redaction policy blocks the text; the problem names the kinds, never the text."""

    status, code, title = 422, "sensitive_content", "The text holds sensitive information"

    @classmethod
    def of(cls, field: str, kinds: Iterable[str]) -> SensitiveContent:
        """Return the problem of one field."""
        told = FieldError(field, f"it holds {', '.join(sorted(kinds))}")
        return cls(f"{told.field}: {told.message}.", errors=[told])


class TooManyExports(Problem):
    """The owner has the maximum number of unfinished exports."""

    status, code, title = 429, "too_many_exports", "Too many exports are waiting"


class RateLimited(Problem):
    """A quota is exceeded and nothing was stored; ``quota_status`` has the rest of each quota."""

    status, code, title = 429, "rate_limited", "A limit is reached"
    quota_status = QuotaStatus()

    def with_quota_status(self, quota_status: QuotaStatus) -> RateLimited:
        """Add the rest of each quota; return self."""
        self.quota_status = quota_status
        return self


class HeadersTooLarge(Problem):
    """The headers exceed the server's limits."""

    status, code, title = 431, "headers_too_large", "The headers are too large"


class UnsupportedTransferCoding(Problem):
    """The body has another transfer coding than chunked."""

    status, code, title = 501, "unsupported_transfer_coding", "The only transfer coding that is supported is chunked"


class InternalError(Problem):
    """A bug in chatkeep."""


class ProviderError(Problem):
    """The base of provider errors."""

    status, code, title = 502, "provider_broke", "The model's provider failed"
    should_retry: bool | None = None
    """Whether to retry, if the provider says so."""
    upstream_status: int | None = None
    """The provider's HTTP status, or the one that its error inside the stream means."""
    told: str = ""
    """The texts and fields of the provider's error; for code, never shown or logged."""
    finish: Finish | None = None
    """The finish reason, if the provider sent one."""
    resent: bool = False
    """Whether the request was sent again already, because a pooled connection had closed."""


class ProviderRefused(ProviderError):
    """The provider refused the request: wrong credentials, unknown model, unsupported parameters."""

    code, title = "provider_refused", "The model's provider refused the request"


class ProviderQuotaExceeded(ProviderRefused):
    """The operator's quota at the provider is used up; a retry doesn't help."""

    code, title = "provider_quota_exceeded", "The quota at the model's provider is used up"


class ContextTooLong(ProviderRefused):
    """The prompt exceeds the model's context window; it is not retried as it is."""

    status, code, title = 422, "context_length_exceeded", "The message is too long for the model"
    should_retry = False


class ProviderBroke(ProviderError):
    """The provider is unreachable, or its response breaks the protocol."""


class EmptyReply(ProviderError):
    """The provider's reply has no text; a retry would cost as much and fail again."""

    code, title = "empty_reply", "The model gave no answer"


class ProviderBusy(ProviderError):
    """The provider is overloaded; ``retry_after`` is the delay that it asked for, if any."""

    status, code, title = 503, "provider_busy", "The model's provider is busy"


class ProviderTimeout(ProviderError):
    """The provider did not respond before a deadline."""

    status, code, title = 504, "provider_timeout", "The model's provider did not answer in time"


class ReplyInterrupted(Problem):
    """The process that generated the reply ended; the text shown so far is stored."""

    status, code, title = 503, "reply_interrupted", "The server stopped while it generated this reply"


class ExportFileMissing(Problem):
    """The export is complete, but its file is on another host."""

    status, code, title = 503, "export_file_missing", "The file of this export is not on this host"


class StoreProblem(Problem):
    """The base of database errors."""

    status, code, title = 503, "database_unavailable", "The database is not available now"
    unstored: ClassVar[str] = "The database is not available now; nothing was stored."
    """The detail for a request whose writes were rolled back."""

    def to_writer(self) -> StoreProblem:
        """Say in the detail what happened to the transaction's writes; return self."""
        self.detail, self.args = self.unstored, (self.unstored,)
        return self


class StoreUnavailable(StoreProblem):
    """The database is unreachable or unable to work now; a retry may succeed."""


class DatabaseTimeout(StoreUnavailable):
    """The database aborted a statement that exceeded its time limit."""

    code = "database_timeout"
    title = "The database took too long; ask for less at once, or try again later"
    unstored = "The database took too long; nothing was stored."


class DatabaseBusy(StoreUnavailable):
    """The maximum number of large reads is running."""

    code = "database_busy"
    title = "Too many searches are running; try again in a moment"


class DatabaseReadOnly(StoreUnavailable):
    """The database is a replica or read-only."""

    code = "database_read_only"
    title = "The database is read-only now"
    unstored = "The database is read-only now; nothing was stored."


class DatabaseFull(StoreUnavailable):
    """The database's disk is full."""

    code = "database_full"
    title = "The disk is full: nothing can be stored until there is room"
    unstored = "The disk is full: nothing was stored, and nothing can be until there is room."


class OutcomeUnknown(StoreUnavailable):
    """The database did not answer a COMMIT: the transaction may be stored or not, but never in part."""

    code = "outcome_unknown"
    title = "It is not known whether this was stored"
    unstored = (
        "The database broke off while it stored this. Send the request again with the same Idempotency-Key;"
        " if it had none, look first whether it was stored."
    )


class DatabaseRefused(StoreProblem):
    """The database refused a statement and would again; ``statement`` is its beginning, without values."""

    status, code, title = 500, "database_refused", "The database refused a statement"
    unstored = "The database refused a statement; nothing was stored. The cause is logged under the request's id."
    statement = ""

    @classmethod
    def of(cls, statement: str) -> DatabaseRefused:
        """Return the problem of a statement."""
        problem = cls("The database refused a statement. The cause is logged under the request's id.")
        problem.statement = statement[:MOST_OF_STATEMENT]
        return problem


@contextmanager
def stored_in_part(told: str) -> Iterator[None]:
    """Use ``told`` as the detail if one of several transactions fails, because earlier ones are stored."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except StoreProblem as problem:
        if problem.detail in {problem.title, problem.unstored}:
            problem.detail, problem.args = told, (told,)
        raise


class ServerStopping(Problem):
    """The process is draining and accepts no new turns."""

    status, code, title = 503, "server_stopping", "The server is restarting"


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


def problem_of_code(code: str, detail: str | None = None) -> Problem:
    """Return the problem of a stored code; the detail defaults to its title."""
    return _BY_CODE.get(code, InternalError)(detail or "")


def _leaves(root: type[Problem]) -> list[type[Problem]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


_BY_CODE = {kind.code: kind for kind in _leaves(Problem)}
