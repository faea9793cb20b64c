"""Parse a database's URL into connection arguments: address, password and TLS."""

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
    """Parse a database's URL. The path of an embedded one is taken literally, without escapes."""
    return URL.create("sqlite", database=url.removeprefix(_FILE)) if url.startswith(_FILE) else make_url(url)


def options_of(url: URL) -> Options:
    """Return the options in a URL's query."""
    return options((name, value) for name, values in url.normalized_query.items() for value in values)


def arguments(url: URL) -> dict[str, Any]:
    """Return the arguments of all connections to a URL. Raises `SettingsError`.

    They share one TLS context: creating one takes tens of milliseconds, which would block an event loop.
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
            context.load_cert_chain(chosen.cert, chosen.key, password="")  # never prompt for a password
    if chosen.cipher:
        with _usable("ssl-cipher", chosen.cipher):
            context.set_ciphers(chosen.cipher)
    return context


@contextmanager
def _usable(option: str, value: str | None) -> Iterator[None]:
    """Raise `SettingsError` with the option whose value cannot be used."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is an OSError
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
