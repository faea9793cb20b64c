"""Read and validate bodies, query parameters and metadata of requests."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from flask import request
from werkzeug.exceptions import ClientDisconnected

from chatkeep.errors import BodyTooLarge, FieldError, InvalidFields, MalformedJson, RequestTimeout, UnsupportedMediaType
from chatkeep.i18n import _
from chatkeep.i18n.decoding import reason_of
from chatkeep.runtime.concurrency import deadline
from chatkeep.web import fields
from chatkeep.web.services import services

S = TypeVar("S", bound=msgspec.Struct)
METADATA_BYTES = 16 * 1024
METADATA_DEPTH = 64


def body_as(shape: type[S]) -> S:
    """Decode and validate the request's JSON body.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `MalformedJson` and `InvalidFields`.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(_("Send the body as JSON with the header Content-Type: application/json."))
    try:
        return fields.read_body(read_body(), shape)
    except UnicodeError as error:
        raise MalformedJson(_("The body is not UTF-8.")) from error
    except RecursionError as error:
        raise MalformedJson(_("The body is nested too deeply.")) from error
    except msgspec.DecodeError as error:
        raise MalformedJson(_("JSON is malformed: {reason}.", reason=reason_of(error))) from error


def read_body() -> bytes:
    """Return the body. Raises `BodyTooLarge`, `RequestTimeout` and `UnsupportedMediaType`.

    After an error the server drains the rest of the body, or closes the connection.
    """
    if content_coding() != "identity":
        raise UnsupportedMediaType(_("Send the body without a Content-Encoding."))
    return read_coded_body()


def content_coding() -> str:
    """Return the body's content coding in lower case."""
    return request.headers.get("Content-Encoding", "identity").strip().lower()


def read_coded_body() -> bytes:
    """Return the body without decoding it. Raises `BodyTooLarge` and `RequestTimeout`."""
    seconds, limit = services().settings.body_timeout, services().settings.max_body
    with deadline(seconds, RequestTimeout(_("The body did not arrive within {seconds} s.", seconds=f"{seconds:g}"))):
        body = _body_up_to(limit)
    if body is None:
        raise BodyTooLarge(_("The body exceeds {most} bytes (CHATKEEP_MAX_BODY).", most=limit))
    return body


def _body_up_to(limit: int) -> bytes | None:
    """Return the body, or None if it is larger than ``limit`` bytes."""
    length, stream = request.content_length, request.environ["wsgi.input"]
    if length is None:
        # Werkzeug knows which servers support chunked bodies. It silently truncates a body at the limit.
        body = request.get_data(cache=False)
        return None if len(body) >= limit and stream.read(1) else body
    if length > limit:
        return None
    found: bytes = stream.read(length)
    if len(found) < length:
        raise ClientDisconnected
    return found


def query_as(shape: type[S]) -> S:
    """Validate the request's query parameters. Raises `InvalidFields`."""
    repeated = [fields.shortened(name) for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        repeats = [FieldError(name, _("is repeated")) for name in repeated[: fields.MAX_ERRORS]]
        raise InvalidFields(_("Send each parameter only once."), errors=repeats)
    return fields.read_fields(request.args.to_dict(), shape, strict=False)


def require_small_metadata(metadata: dict[str, Any] | msgspec.UnsetType) -> None:
    """Raise `InvalidFields` if metadata is too large or too deeply nested."""
    if metadata is msgspec.UNSET:
        return
    wrong = None
    if _is_deeper(metadata, METADATA_DEPTH):
        wrong = _("is nested more than {depth} levels deep", depth=METADATA_DEPTH)
    elif len(msgspec.json.encode(metadata)) > METADATA_BYTES:
        wrong = _("is larger than {bytes} bytes", bytes=METADATA_BYTES)
    if wrong:
        raise InvalidFields.of([FieldError("metadata", wrong)])


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in inner)


def given(value: Any) -> Any:
    """Return a field's value, or ``...`` if the request omits it."""
    return ... if value is msgspec.UNSET else value


def public_url(path: str) -> str:
    """Return the absolute URL of a path from `url_for`, based on CHATKEEP_PUBLIC_URL or on this request's host."""
    return (services().settings.public_url or request.host_url.rstrip("/")) + path


def client_socket() -> Any:
    """Return the client's socket if the server provides it and the connection has no TLS, otherwise None."""
    sock: Any = request.environ.get("gunicorn.socket")
    return sock.socket if getattr(sock, "is_plain", False) else None
