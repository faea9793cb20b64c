"""Parse the texts of settings: one function for each type of value. Pure.

Each raises `ValueError` with advice on the right form.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from chatkeep.config import database_url as urls
from chatkeep.config.database_url import LAST_PORT
from chatkeep.domain.quota import Defaults, Prices, read_defaults, read_prices
from chatkeep.i18n import _
from chatkeep.i18n.decoding import reason_of
from chatkeep.runtime.hosts import SOCKET, has_sockets, is_loopback

ENVIRONMENTS = ("development", "test", "production")
# The minimum length of a secret (RFC 7518 §3.2).
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
PUBLIC_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "Ed25519", "Ed448",
    "EdDSA",
)  # fmt: skip
TOKENS_EXAMPLE = '{"local": {"algorithm": "HS256", "keys": ["..."], "issuer": "...", "audience": "..."}}'
DIALECTS_EXAMPLE = '{"o3": {"max_tokens": "max_completion_tokens", "temperature": false}}'
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HOST_NAME = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*|\[[0-9a-f:.]+\]|\*")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(:(?P<port>\d*))?/*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATH_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
_FILE_MODE = re.compile("0?[67][0-7]{2}")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def duration(text: str) -> float:
    """Return seconds from ``250ms``, ``90s``, ``15m``, ``24h`` or ``7d``."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(_("write a duration such as 90s, 15m or 24h"))
    return float(match[1]) * _SECONDS[match[2]]


def optional_duration(text: str) -> float | None:
    """Return seconds as `duration` does, or None for ``never``."""
    return None if text == "never" else duration(text)


def size(text: str) -> int:
    """Return bytes from ``1048576``, ``64KiB`` or ``1MiB``."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(_("write a size such as 64KiB or 1MiB"))
    return int(match[1]) * _BYTES[match[2]]


def host(text: str) -> str:
    """Return an address, or `unix:` with a socket's path if the system has Unix sockets."""
    if text.startswith(SOCKET) and not has_sockets():
        raise ValueError(_("Python does not support Unix sockets on this system; write an address: HOST=127.0.0.1"))
    return text


def path_prefix(text: str) -> str:
    """Return a path such as ``/chat`` without a trailing slash; empty for ``/``."""
    prefix = text.rstrip("/")
    if text != "/" and not _PATH_PREFIX.fullmatch(prefix):
        raise ValueError(_("write a path such as /chat, with only letters, digits and - . _ ~"))
    return prefix


def public_url(text: str) -> str:
    """Return the origin at which browsers reach the server, such as ``https://chat.example.com``."""
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or found["scheme"] not in _DEFAULT_PORTS:
        raise ValueError(_("write an origin such as https://chat.example.com; put the path into CHATKEEP_PREFIX"))
    return _origin(text.lower())


def optional_size(text: str) -> int | None:
    """Return bytes as `size` does, or None for ``off``."""
    return None if text == "off" else size(text)


def optional_count(text: str) -> int | None:
    """Return a number as `count` does, or None for ``off``."""
    return None if text == "off" else count(text)


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError(_("write a whole number of at least 1"))
    return int(text)


def port(text: str) -> int:
    """Return a TCP port from 1 to 65535."""
    if not text.isdigit() or not 1 <= int(text) <= LAST_PORT:
        raise ValueError(_("write a port from 1 to 65535"))
    return int(text)


def file_mode(text: str) -> int:
    """Return a socket's mode from octal digits such as ``660``; its owner must have read and write access."""
    if not _FILE_MODE.fullmatch(text):
        raise ValueError(_("write a mode such as 600, 660 or 666"))
    return int(text, 8)


def flag(text: str) -> bool:
    """Return True or False from ``true`` / ``false`` (also 1/0, yes/no, on/off)."""
    lowered = text.lower()
    if lowered not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
        raise ValueError(_("write true or false"))
    return lowered in {"true", "1", "yes", "on"}


def http_url(text: str) -> str:
    """Return an absolute http(s) URL without a trailing slash."""
    _require_port(text)
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(_("write a URL that begins with http:// or https://"))
    if parts.username is not None:
        raise ValueError(_("remove the password; use OPENAI_API_KEY or CHATKEEP_PROVIDER_HEADERS instead"))
    return text.rstrip("/")


def issuer(text: str) -> str:
    """Return the URL of an OpenID provider unchanged; it must use TLS or loopback."""
    parts = urlsplit(text)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not is_safe or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(_("write a URL that begins with https://, exactly as the provider publishes it"))
    return text


def account(text: str) -> str:
    """Return the name of an account."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", text):
        raise ValueError(_("write up to 32 characters of a-z, 0-9, _ and -"))
    return text


def user_scopes(text: str) -> tuple[str, ...]:
    """Return scopes for users; ``admin`` is not allowed."""
    found = words(text)
    if not found or not set(found) <= {"chat", "read", "export"}:
        raise ValueError(_("write one or more of chat, read and export"))
    return found


def public_algorithm(text: str) -> str:
    """Return the name of an asymmetric signature algorithm."""
    if text not in PUBLIC_ALGORITHMS:
        raise ValueError(_("write one of {choices}", choices=", ".join(PUBLIC_ALGORITHMS)))
    return text


def database_url(text: str) -> str:
    """Return the URL of a SQLite file or of a MySQL/MariaDB database."""
    if text.startswith("sqlite:///"):
        return urls.of_file(text)
    if not text.startswith(("mysql+pymysql://", "mysql://", "mariadb://", "mariadb+pymysql://")):
        raise ValueError(_("write sqlite:///path/to/file or mysql+pymysql://user:password@host:3306/database"))
    url = urls.of_server(text)
    if urls.options(parse_qsl(url.partition("?")[2])).unix_socket and not has_sockets():
        raise ValueError(_("Python does not support Unix sockets on this system; remove the option unix-socket"))
    return url


def redis_url(text: str) -> str:
    """Return the URL of a Redis server."""
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(_("write redis://host:6379/0"))
    if text.startswith(SOCKET) and not has_sockets():
        raise ValueError(_("Python does not support Unix sockets on this system; write redis://host:6379/0"))
    _require_port(text)
    return text


def _require_port(url: str) -> None:
    """Raise `ValueError` for a bad port before a library quotes it: it may be a part of a password."""
    try:
        urlsplit(url).port  # noqa: B018 - reading the property validates it
    except ValueError:
        reason = _("write the port as a number, and / ? # @ : in the password as %2F %3F %23 %40 %3A")
        raise ValueError(reason) from None


def words(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def host_names(text: str) -> tuple[str, ...]:
    """Return host names in lower case from a comma-separated list."""
    names = tuple(name.lower() for name in words(text))
    if any(not _HOST_NAME.fullmatch(name) for name in names):
        raise ValueError(_("write names without scheme and port, such as chat.example.com"))
    return names


def origins(text: str) -> tuple[str, ...]:
    """Return origins in the form of the Origin header from a comma-separated list; ``*`` allows all."""
    return tuple(dict.fromkeys(word if word == "*" else _origin(word.lower()) for word in words(text)))


def _origin(text: str) -> str:
    """Return an origin in lower case without its default port (RFC 6454, section 6.2; WHATWG URL for hosts)."""
    found = _ORIGIN.fullmatch(text)
    if text == "null" or text.startswith("file:"):
        raise ValueError(_("remove null and file: any page can have these origins; serve your page from a host"))
    if "*" in text:
        raise ValueError(_("write each origin in full, or only * for all origins; other patterns are not supported"))
    if found is None or not (host := _ascii(found["host"])):
        raise ValueError(_("write origins such as https://app.example.com, without a path"))
    number = int(found["port"]) if found["port"] else _DEFAULT_PORTS.get(found["scheme"])
    if number is not None and not 1 <= number <= LAST_PORT:
        raise ValueError(_("write a port from 1 to 65535"))
    shown = "" if number in {None, _DEFAULT_PORTS.get(found["scheme"])} else f":{number}"
    return f"{found['scheme']}://{host}{shown}"


def _ascii(host: str) -> str:
    """Return a host as browsers send it, with other scripts as Punycode; empty if it is invalid."""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""


def headers(text: str) -> tuple[tuple[str, str], ...]:
    """Return header names and values from a JSON object of strings."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(_('write a JSON object of strings, such as {"X-Team": "search"}'))
    if any("\n" in part or "\r" in part for pair in value.items() for part in pair):
        raise ValueError(_("header names and values may not contain line breaks"))
    return tuple(value.items())


def limits(text: str) -> Defaults:
    """Return the default quotas of keys, end users and accounts from a JSON object."""
    try:
        return read_defaults(text)
    except ValueError as error:
        raise ValueError(_('write a JSON object such as {"key": {"requests_per_minute": 60}}')) from error


def prices(text: str) -> Prices:
    """Return the price of a million tokens for each model from a JSON object."""
    try:
        return read_prices(text)
    except ValueError as error:
        raise ValueError(_('write a JSON object such as {"gpt-4o-mini": {"input": 0.15, "output": 0.6}}')) from error


class DialectRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The provider's dialect for a model; None means that it is detected."""

    system: Literal["system", "developer", "user"] | None = None
    max_tokens: Literal["max_tokens", "max_completion_tokens"] | None = None
    temperature: bool | None = None
    stream_options: bool | None = None
    stream: bool | None = None
    thinking: bool | None = None


def dialects(text: str) -> tuple[tuple[str, DialectRule], ...]:
    """Return the rule of each model from a JSON object, the longest names first."""
    try:
        found = msgspec.json.decode(text, type=dict[str, DialectRule])
    except msgspec.DecodeError as error:
        raise ValueError(
            _("write a JSON object such as {example} ({reason})", example=DIALECTS_EXAMPLE, reason=reason_of(error))
        ) from error
    return tuple(sorted(found.items(), key=lambda pair: len(pair[0]), reverse=True))


def expressions(text: str) -> tuple[tuple[str, str], ...]:
    """Return labels and regular expressions from a JSON object of strings."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(_("write a JSON object of names and regular expressions"))
    return tuple(value.items())


def policy(text: str) -> str:
    """Return a redaction mode."""
    if text not in {"off", "mask", "block"}:
        raise ValueError(_("write one of {choices}", choices="off, mask, block"))
    return text


def environment(text: str) -> str:
    """Return one of `ENVIRONMENTS`."""
    if text not in ENVIRONMENTS:
        raise ValueError(_("write one of {choices}", choices=", ".join(ENVIRONMENTS)))
    return text


def log_format(text: str) -> str:
    """Return a log format."""
    if text not in {"text", "json"}:
        raise ValueError(_("write one of {choices}", choices="text, json"))
    return text


def log_level(text: str) -> str:
    """Return the name of a log level in upper case."""
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError(_("write one of {choices}", choices="DEBUG, INFO, WARNING, ERROR"))
    return text.upper()


class TokenRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an account's application signs the tokens that name its end users."""

    algorithm: str
    keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Secrets, or public keys in PEM; several during a rotation."""
    issuer: str | None = None
    audience: str | None = None

    def __repr__(self) -> str:
        return f"TokenRule({self.algorithm!r}, {len(self.keys)} keys)"


def token_rules(text: str) -> tuple[tuple[str, TokenRule], ...]:
    """Return the rule of each account from a JSON object."""
    try:
        found = msgspec.json.decode(text, type=dict[str, TokenRule])
    except msgspec.DecodeError:
        raise ValueError(_("write a JSON object such as {example}", example=TOKENS_EXAMPLE)) from None
    for rule in found.values():
        if rule.algorithm not in (*SECRET_BYTES, *PUBLIC_ALGORITHMS):
            raise ValueError(
                _("write one of the algorithms {algorithms}", algorithms=", ".join((*SECRET_BYTES, *PUBLIC_ALGORITHMS)))
            )
        least = SECRET_BYTES.get(rule.algorithm, 0)
        if min(len(key.encode()) for key in rule.keys) < least:
            raise ValueError(_("write secrets of at least {least} bytes", least=least))
    return tuple(found.items())
