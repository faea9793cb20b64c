"""Problems of a request, and of the server that answers it."""

from __future__ import annotations

from collections.abc import Iterable

from chatkeep.domain.quota import QuotaStatus
from chatkeep.errors.base import FieldError, Problem

# One text for a missing conversation and for another owner's.
NO_CONVERSATION = "There is no such conversation; it may have expired or been deleted."
NO_MESSAGE = "There is no such message in this conversation."
NO_SHARE = "This link leads nowhere; it may have been ended, or what it showed is gone."
NO_EXPORT = "There is no such export; it may have expired or been deleted."
# One text for missing, unknown, revoked and expired keys, so that callers cannot probe which keys exist.
NO_ACCESS = "Send a key in the header Authorization: Bearer ck_...; it may be mistyped, revoked or expired."
# The same for end-user tokens.
NO_TOKEN = "Send a valid X-End-User-Token; its signature, time or names are not as the server is set."  # noqa: S105 - no password
NO_KEYS = "There is no key yet; make one on the server: chatkeep keys create NAME"


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


class ReplyInterrupted(Problem):
    """The process that generated the reply ended; the text shown so far is stored."""

    status, code, title = 503, "reply_interrupted", "The server stopped while it generated this reply"


class ExportFileMissing(Problem):
    """The export is complete, but its file is on another host."""

    status, code, title = 503, "export_file_missing", "The file of this export is not on this host"


class ServerStopping(Problem):
    """The process is draining and accepts no new turns."""

    status, code, title = 503, "server_stopping", "The server is restarting"
