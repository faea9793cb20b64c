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

from chatkeep.errors.base import (
    ChatkeepError,
    FieldError,
    InternalError,
    KeysRequired,
    Problem,
    SettingsError,
    SignInFailed,
    TransferError,
    without_frames,
)
from chatkeep.errors.provider import (
    ContextTooLong,
    EmptyReply,
    ProviderBroke,
    ProviderBusy,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
    ProviderTimeout,
)
from chatkeep.errors.requests import (
    NO_ACCESS,
    NO_CONVERSATION,
    NO_EXPORT,
    NO_KEYS,
    NO_MESSAGE,
    NO_SHARE,
    NO_TOKEN,
    BadRequest,
    BodyTooLarge,
    ExpectationFailed,
    ExportFileMissing,
    ExportFinished,
    ExportNotReady,
    ForeignOrigin,
    HeadersTooLarge,
    IdempotencyKeyReused,
    InvalidFields,
    KeyEnded,
    KeyExpired,
    KeyRevoked,
    MalformedJson,
    MethodNotAllowed,
    MissingScope,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    RateLimited,
    ReplyInterrupted,
    RequestTimeout,
    SensitiveContent,
    ServerStopping,
    TooManyExports,
    TurnRunning,
    Unauthorized,
    UnknownHost,
    UnsupportedMediaType,
    UnsupportedTransferCoding,
    UriTooLong,
)
from chatkeep.errors.store import (
    MOST_OF_STATEMENT,
    DatabaseBusy,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    OutcomeUnknown,
    StoreProblem,
    StoreUnavailable,
    stored_in_part,
)
from chatkeep.i18n.stored import recognized

__all__ = [
    "MOST_OF_STATEMENT",
    "NO_ACCESS",
    "NO_CONVERSATION",
    "NO_EXPORT",
    "NO_KEYS",
    "NO_MESSAGE",
    "NO_SHARE",
    "NO_TOKEN",
    "BadRequest",
    "BodyTooLarge",
    "ChatkeepError",
    "ContextTooLong",
    "DatabaseBusy",
    "DatabaseFull",
    "DatabaseReadOnly",
    "DatabaseRefused",
    "DatabaseTimeout",
    "EmptyReply",
    "ExpectationFailed",
    "ExportFileMissing",
    "ExportFinished",
    "ExportNotReady",
    "FieldError",
    "ForeignOrigin",
    "HeadersTooLarge",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidFields",
    "KeyEnded",
    "KeyExpired",
    "KeyRevoked",
    "KeysRequired",
    "MalformedJson",
    "MethodNotAllowed",
    "MissingScope",
    "NotFound",
    "OutcomeUnknown",
    "PreconditionFailed",
    "Problem",
    "ProviderBroke",
    "ProviderBusy",
    "ProviderError",
    "ProviderQuotaExceeded",
    "ProviderRefused",
    "ProviderTimeout",
    "QuotaExceeded",
    "RangeNotSatisfiable",
    "RateLimited",
    "ReplyInterrupted",
    "RequestTimeout",
    "SensitiveContent",
    "ServerStopping",
    "SettingsError",
    "SignInFailed",
    "StoreProblem",
    "StoreUnavailable",
    "TooManyExports",
    "TransferError",
    "TurnRunning",
    "Unauthorized",
    "UnknownHost",
    "UnsupportedMediaType",
    "UnsupportedTransferCoding",
    "UriTooLong",
    "problem_of_code",
    "stored_in_part",
    "without_frames",
]


def problem_of_code(code: str, detail: str | None = None) -> Problem:
    """Return the problem of a stored code; the detail defaults to its title."""
    return _BY_CODE.get(code, InternalError)(recognized(detail) if detail else None)


def _leaves(root: type[Problem]) -> list[type[Problem]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


_BY_CODE = {kind.code: kind for kind in _leaves(Problem)}
