"""Problems of a request, and of the server that answers it."""

from __future__ import annotations

from collections.abc import Iterable

from chatkeep.domain.quota import QuotaStatus
from chatkeep.errors.base import FieldError, Problem
from chatkeep.i18n import _

# One text for a missing conversation and for another owner's.
NO_CONVERSATION = _("Conversation not found. It may have expired or been deleted.")
NO_MESSAGE = _("Message not found in this conversation.")
NO_SHARE = _("This link is invalid: it was revoked, or its conversation was deleted.")
NO_EXPORT = _("Export not found. It may have expired or been deleted.")
# One text for missing, unknown, revoked and expired keys, so that callers cannot probe which keys exist.
NO_ACCESS = _("Send a valid key in the header Authorization: Bearer ck_... Yours may be mistyped, revoked or expired.")
# The same for end-user tokens.
NO_TOKEN = _("Send a valid X-End-User-Token. Its signature, time or claims do not match the server's settings.")
NO_KEYS = _("No API key exists. Create one on the server: chatkeep keys create NAME")


class BadRequest(Problem):
    """The request is malformed."""

    status, code, title = 400, "bad_request", _("Bad request")


class MalformedJson(BadRequest):
    """The body is not JSON in UTF-8."""

    code, title = "malformed_json", _("The body is not valid JSON")


class Unauthorized(Problem):
    """The key is missing, unknown, revoked or expired."""

    status, code, title = 401, "unauthorized", _("API key missing or invalid")


class KeyRevoked(Unauthorized):
    """A sign-in with a revoked key."""

    code, title = "key_revoked", _("This key was revoked")


class KeyExpired(Unauthorized):
    """A sign-in with an expired key."""

    code, title = "key_expired", _("This key has expired")


class MissingScope(Problem):
    """The key lacks the scope."""

    status, code, title = 403, "missing_scope", _("API key lacks a required scope")


class ForeignOrigin(Problem):
    """A page of an origin that the operator has not allowed sent the request."""

    status, code, title = 403, "foreign_origin", _("Cross-origin request refused")


class QuotaExceeded(Problem):
    """The owner's storage quota is used up.

    Not a 429 or 507: clients retry those by themselves, and a retry does not help here.
    """

    status, code, title = 403, "quota_used_up", _("Storage quota exceeded")


class NotFound(Problem):
    """The resource does not exist or belongs to another owner; the response is the same."""

    status, code, title = 404, "not_found", _("Not found")


class MethodNotAllowed(Problem):
    """The path does not support this method."""

    status, code, title = 405, "method_not_allowed", _("Method not allowed")


class RequestTimeout(Problem):
    """The request's body did not arrive in time."""

    status, code, title = 408, "request_timeout", _("Request timeout")


class TurnRunning(Problem):
    """The conversation is already generating a reply."""

    status, code, title = 409, "turn_running", _("A reply is being generated in this conversation")


class ExportFinished(Problem):
    """The export has ended and cannot be cancelled."""

    status, code, title = 409, "export_finished", _("The export is already finished")


class ExportNotReady(Problem):
    """The export is not finished, or failed."""

    status, code, title = 409, "export_not_ready", _("Export file not available")


class KeyEnded(Problem):
    """The key was revoked or has expired, so it cannot be rotated."""

    status, code, title = 409, "key_ended", _("The key is already revoked or expired")


class PreconditionFailed(Problem):
    """`If-Match` names another version of the file."""

    status, code, title = 412, "precondition_failed", _("If-Match does not match the file")


class BodyTooLarge(Problem):
    """The body exceeds the limit."""

    status, code, title = 413, "body_too_large", _("Request body too large")
    advice = _(
        "The body exceeds CHATKEEP_MAX_BODY. Send less at once. On the server, chatkeep import takes files of any size."
    )


class UriTooLong(Problem):
    """The request line exceeds the server's limit."""

    status, code, title = 414, "uri_too_long", _("URI too long")


class UnsupportedMediaType(Problem):
    """The body is not declared as JSON."""

    status, code, title = 415, "unsupported_media_type", _("Unsupported media type")


class RangeNotSatisfiable(Problem):
    """The range starts after the end of the file."""

    status, code, title = 416, "range_not_satisfiable", _("Range not satisfiable")


class ExpectationFailed(Problem):
    """`Expect` has another value than `100-continue`."""

    status, code, title = 417, "expectation_failed", _("Unsupported Expect header")


class UnknownHost(Problem):
    """The `Host` header names another server."""

    status, code, title = 421, "unknown_host", _("Unknown host")


class InvalidFields(Problem):
    """One or more fields are invalid; ``errors`` lists them."""

    status, code, title = 422, "invalid_fields", _("Invalid fields")

    @classmethod
    def of(cls, faults: list[FieldError]) -> InvalidFields:
        """Return the problem of these errors; the detail has the first one."""
        field, reason = faults[0].field or _("The body"), faults[0].message
        if len(faults) == 1:
            return cls(_("{field}: {reason}.", field=field, reason=reason), errors=faults)
        told = _("{field}: {reason}. See errors for the other wrong fields.", field=field, reason=reason)
        return cls(told, errors=faults)

    @classmethod
    def not_in_list(cls) -> InvalidFields:
        """Return the problem of an ``after`` that is not an item of the list."""
        return cls.of([FieldError("after", _("is not in this list; start again without it"))])


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used for another request."""

    status, code, title = 422, "idempotency_key_reused", _("Idempotency-Key already used for another request")


class SensitiveContent(Problem):
    """A redaction policy blocks the text; the problem names the kinds, never the text."""

    status, code, title = 422, "sensitive_content", _("The text contains sensitive information")

    @classmethod
    def of(cls, field: str, kinds: Iterable[str]) -> SensitiveContent:
        """Return the problem of one field."""
        told = _("contains {kinds}", kinds=", ".join(sorted(kinds)))
        return cls(_("{field}: {reason}.", field=field, reason=told), errors=[FieldError(field, told)])


class TooManyExports(Problem):
    """The owner has the maximum number of unfinished exports."""

    status, code, title = 429, "too_many_exports", _("Too many unfinished exports")


class RateLimited(Problem):
    """A quota is exceeded and nothing was stored; ``quota_status`` has the rest of each quota."""

    status, code, title = 429, "rate_limited", _("Rate limit exceeded")
    quota_status = QuotaStatus()

    def with_quota_status(self, quota_status: QuotaStatus) -> RateLimited:
        """Add the rest of each quota; return self."""
        self.quota_status = quota_status
        return self


class HeadersTooLarge(Problem):
    """The headers exceed the server's limits."""

    status, code, title = 431, "headers_too_large", _("Request headers too large")


class UnsupportedTransferCoding(Problem):
    """The body has another transfer coding than chunked."""

    status, code, title = 501, "unsupported_transfer_coding", _("Unsupported transfer coding: use chunked")


class ReplyInterrupted(Problem):
    """The process that generated the reply ended; the text shown so far is stored."""

    status, code, title = 503, "reply_interrupted", _("The server stopped while it generated this reply")


class ExportFileMissing(Problem):
    """The export is complete, but its file is on another host."""

    status, code, title = 503, "export_file_missing", _("Export file not on this host")


class ServerStopping(Problem):
    """The process is draining and accepts no new turns."""

    status, code, title = 503, "server_stopping", _("The server is restarting")
