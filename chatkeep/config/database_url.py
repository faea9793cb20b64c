"""Check the URL of a MySQL or MariaDB database, and parse its options. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from chatkeep.i18n import _

LAST_PORT = 65535
_PART = r"(?:[^:@/?#%\s]|%[0-9A-Fa-f]{2})*"
_PASSWORD = r"(?:[^@/?#%\s]|%[0-9A-Fa-f]{2})*"  # noqa: S105 - a pattern, no password
_URL = re.compile(
    rf"(?:mysql|mariadb)(?:\+pymysql)?://(?P<rest>(?:{_PART}(?::{_PASSWORD})?@)?"
    r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::(?P<port>\d{1,5}))?/[^/?#@%\s]+)(?:\?(?P<query>(?:[^#@%\s]|%[0-9A-Fa-f]{2})*))?"
)
_WITHOUT_PASSWORD = re.compile(r"(mysql\+pymysql://[^:@/]+)(@.*)")
_SHOWABLE = re.compile(r"[A-Za-z_-]{1,32}")
OPTIONS = ("ssl-mode", "ssl-ca", "ssl-capath", "ssl-cert", "ssl-key", "ssl-cipher", "unix-socket", "charset")


class Tls(enum.IntEnum):
    """TLS modes with the names of MySQL's clients; a larger value is stricter."""

    DISABLED = 0
    REQUIRED = 1
    """The server's certificate is not verified."""
    VERIFY_CA = 2
    VERIFY_IDENTITY = 3
    """The certificate is signed by a trusted CA and matches the host of the URL."""


# Options and values in the spellings of MySQL, PostgreSQL, PyMySQL, JDBC and Go, without case, - and _.
_MODE_NAMES = {"sslmode", "ssl", "tls", "tlsmode", "usessl", "usetls", "requiressl", "requiretls"}
_MODES = {
    **dict.fromkeys(("disabled", "disable", "false", "0", "no", "off"), Tls.DISABLED),
    **dict.fromkeys(("required", "require", "true", "1", "yes", "on", "skipverify"), Tls.REQUIRED),
    "verifyca": Tls.VERIFY_CA,
    **dict.fromkeys(("verifyidentity", "verifyfull"), Tls.VERIFY_IDENTITY),
}
# The modes for false and true.
_FLAGS = {
    "sslverifycert": (Tls.REQUIRED, Tls.VERIFY_CA),
    "verifyservercertificate": (Tls.REQUIRED, Tls.VERIFY_CA),
    "sslverifyidentity": (Tls.REQUIRED, Tls.VERIFY_IDENTITY),
    "sslcheckhostname": (Tls.REQUIRED, Tls.VERIFY_IDENTITY),
    "ssldisabled": (Tls.REQUIRED, Tls.DISABLED),
}
_TEXTS = {
    "sslca": "ca",
    "sslrootcert": "ca",
    "sslcapath": "capath",
    "sslcert": "cert",
    "sslkey": "key",
    "sslcipher": "cipher",
    "unixsocket": "unix_socket",
    "socket": "unix_socket",
}
# Every connection uses utf8mb4, which includes utf8.
_CHARSETS = {"utf8", "utf8mb4"}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a database's URL."""

    tls: Tls = Tls.DISABLED
    ca: str | None = None
    capath: str | None = None
    cert: str | None = None
    key: str | None = None
    cipher: str | None = None
    unix_socket: str | None = None


def of_file(text: str) -> str:
    """Check the URL of a SQLite file. Raises `ValueError` if it has options."""
    names = ", ".join(name for name, _value in parse_qsl(text.partition("?")[2], keep_blank_values=True))
    if "?" in text:
        raise ValueError(
            _("SQLite does not support the options {options}; write sqlite:///path/to/file", options=names or "?")
        )
    return text


def of_server(text: str) -> str:
    """Return the URL of a database server in SQLAlchemy's form.

    Raises `ValueError`, whose text never shows a part of a password. Unescaped special characters are refused: a
    password would end at one, and errors would show the rest of it as a host name.
    """
    match = _URL.fullmatch(text)
    if not match:
        raise ValueError(
            _(
                "write mysql+pymysql://user:password@host:3306/database, and in a password % / ? # @ and spaces as "
                "%25 %2F %3F %23 %40 %20"
            )
        )
    if match["port"] and not 1 <= int(match["port"]) <= LAST_PORT:
        raise ValueError(_("write a port from 1 to 65535"))
    query = match["query"] or ""
    options(parse_qsl(query, keep_blank_values=True))
    return f"mysql+pymysql://{match['rest']}" + (f"?{query}" if query else "")


def with_password(url: str, password: str) -> str:
    """Insert a password into a URL. Raises `ValueError` if the URL has a password or no user."""
    match = _WITHOUT_PASSWORD.fullmatch(url)
    if not match:
        raise ValueError(_("write DATABASE_URL with a user and no password, mysql+pymysql://user@host:3306/database"))
    return f"{match[1]}:{quote(password, safe='')}{match[2]}"


def options(pairs: Iterable[tuple[str, str]]) -> Options:
    """Parse the options of a URL's query. Raises `ValueError`, which lists the valid options."""
    modes: set[Tls] = set()
    texts: dict[str, str] = {}
    for name, value in pairs:
        normalized = _normalized(name)
        if normalized in _TEXTS:
            if not value or _TEXTS[normalized] in texts:
                raise ValueError(_("the option {name} is empty or repeated; write it once, with a value", name=name))
            texts[_TEXTS[normalized]] = value
        elif normalized in _MODE_NAMES:
            modes.add(_mode(value))
        elif normalized in _FLAGS:
            modes.add(_mode_of_flag(normalized, value))
        elif normalized != "charset":
            shown = name if _SHOWABLE.fullmatch(name) else _("(name hidden)")
            raise ValueError(
                _("unknown option {option}; the options are {options}", option=shown, options=", ".join(OPTIONS))
            )
        elif value.lower() not in _CHARSETS:
            raise ValueError(_("the option charset must be utf8mb4"))
    return Options(_strictest(modes, texts), **texts)


def _mode(value: str) -> Tls:
    if _normalized(value) not in _MODES:
        raise ValueError(_("the option ssl-mode takes one of {modes}", modes=", ".join(mode.name for mode in Tls)))
    return _MODES[_normalized(value)]


def _mode_of_flag(name: str, value: str) -> Tls:
    found = _MODES.get(_normalized(value))
    if found not in {Tls.DISABLED, Tls.REQUIRED}:
        raise ValueError(_("the option {name} takes true or false", name=name))
    return _FLAGS[name][found is Tls.REQUIRED]


def _strictest(modes: set[Tls], texts: dict[str, str]) -> Tls:
    """Return the strictest mode; naming a CA implies that it is verified."""
    authority, files = texts.keys() & {"ca", "capath"}, texts.keys() - {"unix_socket"}
    if Tls.DISABLED in modes and (len(modes) > 1 or files):
        raise ValueError(_("one option disables TLS, and another one requires it; remove one of them"))
    if "key" in texts and "cert" not in texts:
        raise ValueError(_("the option ssl-key requires ssl-cert; add it"))
    if not modes:
        return Tls.VERIFY_IDENTITY if authority else Tls.REQUIRED if files else Tls.DISABLED
    return max(*modes, Tls.VERIFY_CA) if authority else max(modes)


def _normalized(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
