"""Problems between chatkeep and the provider."""

from __future__ import annotations

from chatkeep.domain.conversation import Finish
from chatkeep.errors.base import Problem
from chatkeep.i18n import _


class ProviderError(Problem):
    """The base of provider errors."""

    status, code, title = 502, "provider_broke", _("The model's provider failed")
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

    code, title = "provider_refused", _("The model's provider refused the request")


class ProviderQuotaExceeded(ProviderRefused):
    """The operator's quota at the provider is used up; a retry doesn't help."""

    code, title = "provider_quota_exceeded", _("The quota at the model's provider is used up")


class ContextTooLong(ProviderRefused):
    """The prompt exceeds the model's context window; it is not retried as it is."""

    status, code, title = 422, "context_length_exceeded", _("The message is too long for the model")
    should_retry = False


class ProviderBroke(ProviderError):
    """The provider is unreachable, or its response breaks the protocol."""


class EmptyReply(ProviderError):
    """The provider's reply has no text; a retry would cost as much and fail again."""

    code, title = "empty_reply", _("The model gave no answer")


class ProviderBusy(ProviderError):
    """The provider is overloaded; ``retry_after`` is the delay that it asked for, if any."""

    status, code, title = 503, "provider_busy", _("The model's provider is busy")


class ProviderTimeout(ProviderError):
    """The provider did not respond before a deadline."""

    status, code, title = 504, "provider_timeout", _("The model's provider did not answer in time")
