"""List a provider's models: a free check that the provider is reachable and accepts the key."""

from __future__ import annotations

import contextlib
import http
import threading

import msgspec

from chatkeep.config.settings import Settings
from chatkeep.errors import ProviderBroke, ProviderTimeout
from chatkeep.httpclient.connections import AbortHandle, ConnectionPool, Route, tls_context
from chatkeep.httpclient.headers import head, headers_of
from chatkeep.i18n import _
from chatkeep.provider import failures
from chatkeep.provider.openai_http import DEFAULT_BASE_URL, FAILURES

SECONDS = 5.0
LIST_LIMIT = 4 * 1024 * 1024
_NO_LIST = {http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED, http.HTTPStatus.NOT_IMPLEMENTED}


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def models(settings: Settings, seconds: float = SECONDS) -> set[str] | None:
    """Return the names of the models, or None if the provider has no list.

    Takes ``seconds`` at most, without the DNS lookup. Raises `ProviderError`, and `SettingsError` if the key or a
    header is not ASCII.
    """
    route = Route.to(settings.openai_base_url or DEFAULT_BASE_URL)
    headers = headers_of(route, settings.openai_api_key, settings.provider_headers) | {"Accept": "application/json"}
    handle = AbortHandle()
    deadline = threading.Timer(seconds, handle.abort)
    deadline.daemon = True
    deadline.start()
    try:
        return _ask(route, headers, handle, settings)
    except FAILURES as error:
        late = ProviderTimeout(_("The provider did not answer in time."))
        raise (late if handle.is_aborted else failures.from_connection(error)) from error
    finally:
        deadline.cancel()


def _ask(route: Route, headers: dict[str, str], handle: AbortHandle, settings: Settings) -> set[str] | None:
    tls = tls_context() if route.url.scheme == "https" else None
    destinations = route.destinations(settings.provider_hosts)
    connections = ConnectionPool(route, min(SECONDS, settings.connect_timeout), tls, destinations)
    with contextlib.closing(connections.open(handle)) as connection:
        begun = connection.send(head("GET", route.target("/models"), headers) + b"\r\n")
        body = b"".join(begun) + connection.read_for(SECONDS, LIST_LIMIT)
        response = connection.response
        handle.raise_if_aborted()
    if response.status in _NO_LIST:
        return None
    if response.status != http.HTTPStatus.OK:
        secrets = [*filter(None, (settings.openai_api_key, *(value for _, value in settings.provider_headers)))]
        raise failures.from_response(response.status, response.header, body, secrets)
    return _names(body)


def _names(body: bytes) -> set[str]:
    try:
        return {model.id for model in msgspec.json.decode(body, type=_Models).data}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProviderBroke(_("The provider's list of models cannot be read: check OPENAI_BASE_URL.")) from error
