"""Everything that chatkeep raises on purpose.

::

    ChatkeepError
     ├─ SettingsError                     the environment is wrong; the program does not start
     │   └─ KeysRequired                  a server in production would be reachable and have no keys
     ├─ TransferError                     a backup, a restore or a copy of the database is refused, or failed
     ├─ SignInFailed                      who came back from the OpenID provider is not let in; the page says why
     └─ Problem                           becomes an RFC 9457 problem document
         ├─ BadRequest             400    bad_request, malformed_json
         ├─ Unauthorized           401    unauthorized
         │   ├─ KeyRevoked         401    key_revoked           told to none but who has the whole key
         │   └─ KeyExpired         401    key_expired           the same
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
         │   ├─ ProviderRefused    502    provider_refused      it said no: credentials, model, request
         │   │   ├─ ContextTooLong 422    context_length_exceeded
         │   │   └─ ProviderQuotaExceeded   provider_quota_exceeded  the operator's account there has nothing left
         │   ├─ ProviderBroke      502    provider_broke        it could not be reached, or broke its protocol
         │   ├─ EmptyReply         502    empty_reply           it answered, and there is no text
         │   ├─ ProviderBusy       503    provider_busy         it asked for patience (429, 503)
         │   └─ ProviderTimeout    504    provider_timeout      one of our deadlines passed
         ├─ ReplyInterrupted       503    reply_interrupted
         ├─ ExportFileMissing      503    export_file_missing
         ├─ StoreProblem
         │   ├─ StoreUnavailable   503    database_unavailable
         │   │   ├─ DatabaseTimeout  503  database_timeout
         │   │   ├─ DatabaseBusy   503    database_busy
         │   │   ├─ DatabaseReadOnly 503  database_read_only
         │   │   ├─ DatabaseFull   503    database_full
         │   │   └─ OutcomeUnknown 503    outcome_unknown       the one after which something may be stored
         │   └─ DatabaseRefused    500    database_refused      it said no, and will again
         └─ ServerStopping         503    server_stopping

Each class carries the HTTP status, a stable ``code`` and a ``title``; the instance carries ``detail``: what happened
and what to do about it, in a sentence that may be shown to people and never holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from chatkeep.domain.conversation import Finish
from chatkeep.domain.quota import QuotaStatus

# A conversation that is not there and one of another owner look alike.
NO_CONVERSATION = "There is no such conversation; it may have expired or been deleted."
NO_MESSAGE = "There is no such message in this conversation."
NO_SHARE = "This link leads nowhere; it may have been ended, or what it showed is gone."
NO_EXPORT = "There is no such export; it may have expired or been deleted."
# One text for whatever is wrong with a key, so that nobody learns which keys there were.
NO_ACCESS = "Send a key in the header Authorization: Bearer ck_...; it may be mistyped, revoked or expired."
# The same for a token.
NO_TOKEN = "Send a valid X-End-User-Token; its signature, time or names are not as the server is set."  # noqa: S105 - no password
# Characters of a statement that the log shows.
MOST_OF_STATEMENT = 80
NO_KEYS = "There is no key yet; make one on the server: chatkeep keys create NAME"


class ChatkeepError(Exception):
    """The root of the tree."""


class SettingsError(ChatkeepError):
    """The settings are wrong; ``problems`` lists every one of them, a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class KeysRequired(SettingsError):
    """The server would be reachable from outside, and there is no key yet."""


class TransferError(ChatkeepError):
    """A backup, a restore or a copy is refused or failed; the message says why, and what to do."""


class SignInFailed(ChatkeepError):
    """Somebody did not sign in with OpenID Connect: the page knows ``reason``, the log and docs/access.md ``cause``."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request; ``field`` is a dotted path, empty for the body as a whole."""

    field: str
    message: str


class Problem(ChatkeepError):
    """An error with an HTTP status and a stable code; ``retry_after`` is in seconds."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong in the server"
    advice: ClassVar[str] = ""
    """The detail of a problem that a server's own code raises, which knows no more."""

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
        """Name the reply that failed, for a caller who wants to read what is kept of it; return the problem itself."""
        self.conversation_id, self.message_id = conversation_id, message_id
        return self


class BadRequest(Problem):
    """The request cannot be understood."""

    status, code, title = 400, "bad_request", "The request cannot be understood"


class MalformedJson(BadRequest):
    """The body is not JSON in UTF-8."""

    code, title = "malformed_json", "The body is not valid JSON"


class Unauthorized(Problem):
    """There is no key, or none that is valid: unknown, revoked and expired ones look alike."""

    status, code, title = 401, "unauthorized", "A valid key is needed"


class KeyRevoked(Unauthorized):
    """Somebody signs in with a key that was revoked."""

    code, title = "key_revoked", "This key was revoked"


class KeyExpired(Unauthorized):
    """Somebody signs in with a key that has expired."""

    code, title = "key_expired", "This key has expired"


class MissingScope(Problem):
    """The key is valid, and is not for this."""

    status, code, title = 403, "missing_scope", "This key may not do that"


class ForeignOrigin(Problem):
    """A page of another origin asked, which the operator did not allow."""

    status, code, title = 403, "foreign_origin", "Pages of other origins may not ask this"


class QuotaExceeded(Problem):
    """The owner has stored as much as it may.

    Waiting a moment helps nobody, so it is no 429: clients would send it again and again by themselves, as they would
    for a 507.
    """

    status, code, title = 403, "quota_used_up", "The quota is used up"


class NotFound(Problem):
    """There is no such thing, or it belongs to another owner: the two answer alike."""

    status, code, title = 404, "not_found", "There is no such thing"


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    status, code, title = 405, "method_not_allowed", "This method is not allowed here"


class RequestTimeout(Problem):
    """The request's body did not arrive in time."""

    status, code, title = 408, "request_timeout", "The request did not arrive in time"


class TurnRunning(Problem):
    """The conversation is generating a reply already."""

    status, code, title = 409, "turn_running", "A reply is being generated in this conversation"


class ExportFinished(Problem):
    """The export is completed or has failed: there is nothing to cancel any more."""

    status, code, title = 409, "export_finished", "This export is finished already"


class ExportNotReady(Problem):
    """The export has no file: not yet, or never."""

    status, code, title = 409, "export_not_ready", "This export has no file"


class KeyEnded(Problem):
    """The key is revoked or has expired: nothing can take its place."""

    status, code, title = 409, "key_ended", "This key has ended already"


class PreconditionFailed(Problem):
    """The file is not the one that `If-Match` names."""

    status, code, title = 412, "precondition_failed", "The file is not the one that If-Match names"


class BodyTooLarge(Problem):
    """The body is over the limit."""

    status, code, title = 413, "body_too_large", "The body is too large"
    advice = (
        "The body is larger than the server takes (CHATKEEP_MAX_BODY). Send less at once."
        " On the server, chatkeep import takes files of any size."
    )


class UriTooLong(Problem):
    """The request's first line is over the server's limit."""

    status, code, title = 414, "uri_too_long", "The address is too long"


class UnsupportedMediaType(Problem):
    """The body is not declared as JSON."""

    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class RangeNotSatisfiable(Problem):
    """The range lies behind the end of the file."""

    status, code, title = 416, "range_not_satisfiable", "The file has no such range"


class ExpectationFailed(Problem):
    """`Expect` asks for something other than `100-continue`."""

    status, code, title = 417, "expectation_failed", "The server cannot do what Expect asks for"


class UnknownHost(Problem):
    """The server is asked by a name that is not its own."""

    status, code, title = 421, "unknown_host", "The server does not answer to this name"


class InvalidFields(Problem):
    """One or more fields are wrong; ``errors`` names them."""

    status, code, title = 422, "invalid_fields", "Some fields are not valid"

    @classmethod
    def of(cls, faults: list[FieldError]) -> InvalidFields:
        """Return the problem of these faults; the first one is told in the detail, too."""
        told = f"{faults[0].field or 'The body'}: {faults[0].message}."
        return cls(told if len(faults) == 1 else f"{told} See errors for the other wrong fields.", errors=faults)


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used before with another request."""

    status, code, title = 422, "idempotency_key_reused", "This Idempotency-Key belongs to another request"


class SensitiveContent(Problem):
    """The text may not go on, because of what it holds; the problem names the kinds and never the text."""

    status, code, title = 422, "sensitive_content", "The text holds sensitive information"

    @classmethod
    def of(cls, field: str, kinds: Iterable[str]) -> SensitiveContent:
        """Return the problem of one field."""
        told = FieldError(field, f"it holds {', '.join(sorted(kinds))}")
        return cls(f"{told.field}: {told.message}.", errors=[told])


class TooManyExports(Problem):
    """The owner has as many unfinished exports as anybody may have."""

    status, code, title = 429, "too_many_exports", "Too many exports are waiting"


class RateLimited(Problem):
    """A limit is reached and nothing was stored. ``quota_status`` says what is left of each limit."""

    status, code, title = 429, "rate_limited", "A limit is reached"
    quota_status = QuotaStatus()

    def with_quota_status(self, quota_status: QuotaStatus) -> RateLimited:
        """Tell what is left of each limit; return the problem itself."""
        self.quota_status = quota_status
        return self


class HeadersTooLarge(Problem):
    """The request's headers are over the server's limits."""

    status, code, title = 431, "headers_too_large", "The headers are too large"


class UnsupportedTransferCoding(Problem):
    """The body has a transfer coding other than chunked."""

    status, code, title = 501, "unsupported_transfer_coding", "The only transfer coding that is supported is chunked"


class InternalError(Problem):
    """A fault of chatkeep itself."""


class ProviderError(Problem):
    """Base of what goes wrong between chatkeep and the provider."""

    status, code, title = 502, "provider_broke", "The model's provider failed"
    should_retry: bool | None = None
    """What the provider says about trying again, where it says anything."""
    upstream_status: int | None = None
    """The HTTP status that the provider answered with, or that its error in band stands for."""
    told: str = ""
    """The texts of the provider's error, and the fields that it complains about: for code, never shown or logged."""
    finish: Finish | None = None
    """How the provider said that the reply ends, if it did."""
    resent: bool = False
    """Whether the request was sent twice already, because a kept connection had died."""


class ProviderRefused(ProviderError):
    """The provider said no: wrong credentials, unknown model, a request that it does not accept."""

    code, title = "provider_refused", "The model's provider refused the request"


class ProviderQuotaExceeded(ProviderRefused):
    """The operator's quota or balance at the provider is used up: trying again doesn't help."""

    code, title = "provider_quota_exceeded", "The quota at the model's provider is used up"


class ContextTooLong(ProviderRefused):
    """The prompt is longer than the model's context window; the same prompt is never sent again."""

    status, code, title = 422, "context_length_exceeded", "The message is too long for the model"
    should_retry = False


class ProviderBroke(ProviderError):
    """The provider could not be reached, or what it sent is not the protocol."""


class EmptyReply(ProviderError):
    """The provider's reply has no text: the same question would cost as much again, and end as it did."""

    code, title = "empty_reply", "The model gave no answer"


class ProviderBusy(ProviderError):
    """The provider asks for patience; ``retry_after`` is what it asked for, where it did."""

    status, code, title = 503, "provider_busy", "The model's provider is busy"


class ProviderTimeout(ProviderError):
    """The provider kept silent longer than a deadline allows."""

    status, code, title = 504, "provider_timeout", "The model's provider did not answer in time"


class ReplyInterrupted(Problem):
    """The process that generated the reply is gone; what it had shown is kept."""

    status, code, title = 503, "reply_interrupted", "The server stopped while it generated this reply"


class ExportFileMissing(Problem):
    """The export is complete, but its file is not in this host's folder."""

    status, code, title = 503, "export_file_missing", "The file of this export is not on this host"


class StoreProblem(Problem):
    """Base of what goes wrong between chatkeep and the database."""

    status, code, title = 503, "database_unavailable", "The database is not available now"
    unstored: ClassVar[str] = "The database is not available now; nothing was stored."
    """What a request is told whose writes were rolled back."""

    def to_writer(self) -> StoreProblem:
        """Tell what became of the writes of a transaction that failed; return the problem itself."""
        self.detail, self.args = self.unstored, (self.unstored,)
        return self


class StoreUnavailable(StoreProblem):
    """The database cannot be reached, or does not do its work now. It may later: waiting helps."""


class DatabaseTimeout(StoreUnavailable):
    """The database ended a statement that took longer than it may."""

    code = "database_timeout"
    title = "The database took too long; ask for less at once, or try again later"
    unstored = "The database took too long; nothing was stored."


class DatabaseBusy(StoreUnavailable):
    """As many large reads run as may run at once."""

    code = "database_busy"
    title = "Too many searches are running; try again in a moment"


class DatabaseReadOnly(StoreUnavailable):
    """The database takes no writes: it is a replica, or was set to read-only."""

    code = "database_read_only"
    title = "The database is read-only now"
    unstored = "The database is read-only now; nothing was stored."


class DatabaseFull(StoreUnavailable):
    """The database has no room on its disk."""

    code = "database_full"
    title = "The disk is full: nothing can be stored until there is room"
    unstored = "The disk is full: nothing was stored, and nothing can be until there is room."


class OutcomeUnknown(StoreUnavailable):
    """The database did not answer a COMMIT: the transaction is stored as a whole, or nothing of it is."""

    code = "outcome_unknown"
    title = "It is not known whether this was stored"
    unstored = (
        "The database broke off while it stored this. Send the request again with the same Idempotency-Key;"
        " if it had none, look first whether it was stored."
    )


class DatabaseRefused(StoreProblem):
    """The database refused a statement, and would refuse it again; ``statement`` is its beginning, without values."""

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
    """Let a block of several transactions say ``told`` if one fails: earlier ones are stored."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except StoreProblem as problem:
        if problem.detail in {problem.title, problem.unstored}:
            problem.detail, problem.args = told, (told,)
        raise


class ServerStopping(Problem):
    """The process is draining and takes no new turns."""

    status, code, title = 503, "server_stopping", "The server is restarting"


def without_frames(problem: Problem) -> Problem:
    """Let go of where a problem that is kept was raised, and return it.

    A frame that keeps the problem is kept by it: whatever it holds, such as a provider's megabyte, would stay until the
    garbage collector comes by.
    """
    found: BaseException | None = problem
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
    return problem


def problem_of_code(code: str, detail: str | None = None) -> Problem:
    """Return the problem that a stored code stands for; without a stored detail its title is the detail."""
    return _BY_CODE.get(code, InternalError)(detail or "")


def _leaves(root: type[Problem]) -> list[type[Problem]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


_BY_CODE = {kind.code: kind for kind in _leaves(Problem)}
