"""Ask a provider which models it has: it costs nothing, and shows whether it is reached and takes the key."""

from __future__ import annotations

import contextlib
import http
import threading

import msgspec

from chatkeep.config.settings import Settings
from chatkeep.errors import ProviderBroke, ProviderTimeout
from chatkeep.httpclient.connections import ConnectionPool, Line, Route, tls_context
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
    """Return the names of the models, or None where the provider has no list of them; it takes ``seconds`` at most.

    Only the look-up of the provider's name has the system's own time. Raises `ProviderError`, and `SettingsError`
    where the key or a header cannot be sent.
    """
    route = Route.to(settings.openai_base_url or DEFAULT_BASE_URL)
    headers = headers_of(route, settings.openai_api_key, settings.provider_headers) | {"Accept": "application/json"}
    line = Line()
    deadline = threading.Timer(seconds, line.cut)
    deadline.daemon = True
    deadline.start()
    try:
        return _ask(route, headers, line, settings)
    except FAILURES as error:
        late = ProviderTimeout(_("The provider did not answer in time."))
        raise (late if line.is_cut else failures.from_connection(error)) from error
    finally:
        deadline.cancel()


def _ask(route: Route, headers: dict[str, str], line: Line, settings: Settings) -> set[str] | None:
    tls = tls_context() if route.url.scheme == "https" else None
    destinations = route.destinations(settings.provider_hosts)
    connections = ConnectionPool(route, min(SECONDS, settings.connect_timeout), tls, destinations)
    with contextlib.closing(connections.open(line)) as connection:
        begun = connection.ask(head("GET", route.target("/models"), headers) + b"\r\n")
        body = b"".join(begun) + connection.read_for(SECONDS, LIST_LIMIT)
        response = connection.response
        line.check()
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
