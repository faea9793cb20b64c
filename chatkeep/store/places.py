"""Where connections find a database on a server, and how they are encrypted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import URL, make_url

from chatkeep.config.database_url import Options, Tls, options
from chatkeep.errors import SettingsError
from chatkeep.i18n import _

_FILE = "sqlite:///"


def parsed(url: str) -> URL:
    """Return the parts of a database's URL; of an embedded one the path as it is written, without escapes."""
    return URL.create("sqlite", database=url.removeprefix(_FILE)) if url.startswith(_FILE) else make_url(url)


def options_of(url: URL) -> Options:
    """Return the options in the query of a URL."""
    return options((name, value) for name, values in url.normalized_query.items() for value in values)


def arguments(url: URL) -> dict[str, Any]:
    """Return the arguments by which all connections of a URL find their server. Raises `SettingsError`.

    They share one TLS context: to build one takes tens of milliseconds, in which an event loop would stand still.
    """
    chosen = options_of(url)
    place: dict[str, Any] = {"password": (url.password or "").encode()}  # PyMySQL's own encoding is Latin-1
    if chosen.unix_socket:
        place["unix_socket"] = chosen.unix_socket
    return place | ({"ssl": _tls_context(chosen)} if chosen.tls else {"ssl_disabled": True})


def _tls_context(chosen: Options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = chosen.tls is Tls.VERIFY_IDENTITY
    context.verify_mode = ssl.CERT_REQUIRED if chosen.tls >= Tls.VERIFY_CA else ssl.CERT_NONE
    if chosen.ca or chosen.capath:
        with _usable("ssl-ca", chosen.ca or chosen.capath):
            context.load_verify_locations(chosen.ca, chosen.capath)
    elif chosen.tls >= Tls.VERIFY_CA:
        context.load_default_certs()
    if chosen.cert:
        with _usable("ssl-cert", chosen.cert):
            context.load_cert_chain(chosen.cert, chosen.key, password="")  # nobody is there to be asked for one
    if chosen.cipher:
        with _usable("ssl-cipher", chosen.cipher):
            context.set_ciphers(chosen.cipher)
    return context


@contextmanager
def _usable(option: str, value: str | None) -> Iterator[None]:
    """Name the option whose value cannot be used."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one, too
        why = getattr(error, "reason", None) or error.strerror or error.args[0]
        raise SettingsError(
            [
                _(
                    "DATABASE_URL: the option {option}={value} cannot be used: {reason}",
                    option=option,
                    value=value,
                    reason=why,
                )
            ]
        ) from error
