"""Every setting of chatkeep, and the only reader of the environment.

Order: the process environment, then ``.env.<CHATKEEP_ENV>``, then ``.env``, then the defaults below.
``.env.example`` and ``docs/settings.md`` are generated from these fields (``./dev docs``).
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from chatkeep.errors import SettingsError
from chatkeep.limits import Defaults, Prices, read_defaults, read_prices

ENVIRONMENTS = ("development", "test", "production")
PLACEHOLDERS = ("changeme", "change-me", "your-api-key", "your_api_key", "sk-xxx", "xxx", "replace-me", "todo")
LAST_PORT = 65535
SOCKET = "unix:"
# How long a secret must be (RFC 7518 §3.2).
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
PUBLIC_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
TOKENS_EXAMPLE = '{"local": {"algorithm": "HS256", "keys": ["..."], "issuer": "...", "audience": "..."}}'
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HOST_NAME = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*|\[[0-9a-f:.]+\]|\*")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def duration(text: str) -> float:
    """Return seconds from ``250ms``, ``90s``, ``15m``, ``24h`` or ``7d``."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError("write a duration such as 90s, 15m or 24h")
    return float(match[1]) * _SECONDS[match[2]]


def optional_duration(text: str) -> float | None:
    """Return seconds as `duration` does, or None for ``never``."""
    return None if text == "never" else duration(text)


def size(text: str) -> int:
    """Return bytes from ``1048576``, ``64KiB`` or ``1MiB``."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("write a size such as 64KiB or 1MiB")
    return int(match[1]) * _BYTES[match[2]]


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError("write a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """Return a TCP port from 1 to 65535."""
    if not text.isdigit() or not 1 <= int(text) <= LAST_PORT:
        raise ValueError("write a port from 1 to 65535")
    return int(text)


def flag(text: str) -> bool:
    """Return True or False from ``true`` / ``false`` (also 1/0, yes/no, on/off)."""
    lowered = text.lower()
    if lowered not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
        raise ValueError("write true or false")
    return lowered in {"true", "1", "yes", "on"}


def http_url(text: str) -> str:
    """Return an absolute http(s) URL without a trailing slash."""
    _require_port(text)
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write a URL that begins with http:// or https://")
    if parts.username is not None:
        raise ValueError("write no password into it; OPENAI_API_KEY and CHATKEEP_PROVIDER_HEADERS are for that")
    return text.rstrip("/")


def issuer(text: str) -> str:
    """Return the URL of an OpenID provider, just as it writes it: over TLS, or on this machine."""
    parts = urlsplit(text)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not is_safe or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write a URL that begins with https://, as the provider itself writes it")
    return text


def account(text: str) -> str:
    """Return the name of an account."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", text):
        raise ValueError("write up to 32 of a-z, 0-9, _ and -")
    return text


def user_scopes(text: str) -> tuple[str, ...]:
    """Return what people may who are no operators."""
    found = words(text)
    if not found or not set(found) <= {"chat", "read", "export"}:
        raise ValueError("write some of chat, read, export")
    return found


def public_algorithm(text: str) -> str:
    """Return an algorithm that signs with a key of which the public half is enough to verify."""
    if text not in PUBLIC_ALGORITHMS:
        raise ValueError(f"write one of {', '.join(PUBLIC_ALGORITHMS)}")
    return text


def database_url(text: str) -> str:
    """Return the URL of a SQLite file or of a MySQL/MariaDB database."""
    if not text.startswith(("sqlite:///", "mysql+pymysql://", "mysql://", "mariadb://", "mariadb+pymysql://")):
        raise ValueError("write sqlite:///path/to/file or mysql+pymysql://user:password@host:3306/database")
    _require_port(text)
    return re.sub(r"^(mysql|mariadb)(\+pymysql)?://", "mysql+pymysql://", text)


def redis_url(text: str) -> str:
    """Return the URL of a Redis."""
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("write redis://host:6379/0")
    _require_port(text)
    return text


def _require_port(url: str) -> None:
    """Raise where what stands for a port is none, before a library quotes it: it may be a piece of a password."""
    try:
        urlsplit(url).port  # noqa: B018 - reading it is asking
    except ValueError:
        reason = "write the port as a number, and / ? # @ : of a password as %2F %3F %23 %40 %3A"
        raise ValueError(reason) from None


def words(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def host_names(text: str) -> tuple[str, ...]:
    """Return names of hosts in lower case, from a comma-separated list."""
    names = tuple(name.lower() for name in words(text))
    if any(not _HOST_NAME.fullmatch(name) for name in names):
        raise ValueError("write names without scheme and port, such as chat.example.com")
    return names


def is_listed(host: str, names: Iterable[str]) -> bool:
    """Return whether a host in lower case is one of ``names``, of which ``*.example.com`` and ``*`` stand for many."""
    return any(host == name or (name[0] == "*" and host.endswith(name[1:])) for name in names)


def headers(text: str) -> tuple[tuple[str, str], ...]:
    """Return header names and values from a JSON object of strings."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError('write a JSON object of strings, such as {"X-Team": "search"}')
    if any("\n" in part or "\r" in part for pair in value.items() for part in pair):
        raise ValueError("header names and values may not contain line breaks")
    return tuple(value.items())


def limits(text: str) -> Defaults:
    """Return the limits of every key, every end user and every account from a JSON object."""
    try:
        return read_defaults(text)
    except ValueError as error:
        raise ValueError('write a JSON object such as {"key": {"requests_per_minute": 60}}') from error


def prices(text: str) -> Prices:
    """Return what a million tokens of each model cost from a JSON object."""
    try:
        return read_prices(text)
    except ValueError as error:
        raise ValueError('write a JSON object such as {"gpt-4o-mini": {"input": 0.15, "output": 0.6}}') from error


def expressions(text: str) -> tuple[tuple[str, str], ...]:
    """Return names and regular expressions from a JSON object of strings."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("write a JSON object of names and regular expressions")
    return tuple(value.items())


def policy(text: str) -> str:
    """Return what is done about sensitive text."""
    if text not in {"off", "mask", "block"}:
        raise ValueError("write one of off, mask, block")
    return text


def environment(text: str) -> str:
    """Return one of `ENVIRONMENTS`."""
    if text not in ENVIRONMENTS:
        raise ValueError(f"write one of {', '.join(ENVIRONMENTS)}")
    return text


def log_level(text: str) -> str:
    """Return a level name of the standard library's logging, in capitals."""
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("write one of DEBUG, INFO, WARNING, ERROR")
    return text.upper()


class TokenRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the tokens are signed by which an account's application names its end users."""

    algorithm: str
    keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Secrets, or public keys in PEM; more than one while one takes another's place."""
    issuer: str | None = None
    audience: str | None = None

    def __repr__(self) -> str:
        return f"TokenRule({self.algorithm!r}, {len(self.keys)} keys)"


def token_rules(text: str) -> tuple[tuple[str, TokenRule], ...]:
    """Return the rule of each account from a JSON object."""
    try:
        found = msgspec.json.decode(text, type=dict[str, TokenRule])
    except msgspec.DecodeError:
        raise ValueError(f"write a JSON object such as {TOKENS_EXAMPLE}") from None
    for rule in found.values():
        if rule.algorithm not in (*SECRET_BYTES, *PUBLIC_ALGORITHMS):
            raise ValueError(f"write an algorithm of {', '.join((*SECRET_BYTES, *PUBLIC_ALGORITHMS))}")
        least = SECRET_BYTES.get(rule.algorithm, 0)
        if min(len(key.encode()) for key in rule.keys) < least:
            raise ValueError(f"write secrets of at least {least} bytes")
    return tuple(found.items())


def setting(name: str, read: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False) -> Any:
    """Declare a field of `Settings`: the variable it is read from, its default as text, and what it means."""
    value = read(default) if default is not None else None
    return field(default=value, metadata={"env": name, "read": read, "text": default, "doc": doc, "secret": secret})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server; build it with `from_env`, or directly in tests and embedding programs."""

    env: str = setting(
        "CHATKEEP_ENV",
        environment,
        "development",
        "development, test or production. Production refuses placeholder secrets, and a public address without keys.",
    )
    host: str = setting(
        "HOST",
        str,
        "127.0.0.1",
        "The address to listen on, or `unix:/path/of/a/socket` for a proxy on this machine.",
    )
    port: int = setting("PORT", port, "5010", "The port to listen on.")
    workers: int = setting("WEB_CONCURRENCY", count, "2", "How many gunicorn worker processes serve.")
    threads: int = setting(
        "CHATKEEP_THREADS",
        count,
        "64",
        "How many requests Waitress serves at once; every open stream takes one.",
    )
    database_url: str | None = setting(
        "DATABASE_URL",
        database_url,
        None,
        "Where conversations are stored; a SQLite file in the data folder by default. "
        "MySQL and MariaDB: `mysql+pymysql://user:password@host:3306/database`.",
        secret=True,
    )
    data_dir: Path = setting("CHATKEEP_DATA_DIR", Path, "data", "The folder for files that the server keeps.")
    openai_api_key: str | None = setting(
        "OPENAI_API_KEY",
        str,
        None,
        "The key of the model's provider. Without a key and without OPENAI_BASE_URL the offline demo model answers.",
        secret=True,
    )
    openai_base_url: str | None = setting(
        "OPENAI_BASE_URL",
        http_url,
        None,
        "The root of an OpenAI-compatible API; `https://api.openai.com/v1` by default where a key is set.",
    )
    provider_hosts: tuple[str, ...] = setting(
        "CHATKEEP_PROVIDER_HOSTS",
        host_names,
        "",
        "Hosts that calls to providers may go to, comma-separated; that of OPENAI_BASE_URL alone by default. A host "
        "that is named may be private, such as a model in your network; `*.example.com` and `*` are for public "
        "addresses only.",
    )
    model: str = setting("CHATKEEP_MODEL", str, "gpt-4o-mini", "The model that answers where a request names none.")
    provider_headers: tuple[tuple[str, str], ...] = setting(
        "CHATKEEP_PROVIDER_HEADERS",
        headers,
        "{}",
        "More headers for the provider, as a JSON object.",
        secret=True,
    )
    stream_usage: bool = setting(
        "CHATKEEP_STREAM_USAGE",
        flag,
        "true",
        "Ask the provider for token counts of streams (`stream_options`); turn it off where a provider refuses that.",
    )
    connect_timeout: float = setting("CHATKEEP_CONNECT_TIMEOUT", duration, "5s", "How long connecting may take.")
    first_token_timeout: float = setting(
        "CHATKEEP_FIRST_TOKEN_TIMEOUT",
        duration,
        "60s",
        "How long the provider may take until the first token.",
    )
    gap_timeout: float = setting(
        "CHATKEEP_GAP_TIMEOUT",
        duration,
        "30s",
        "How long the provider may be silent between two tokens.",
    )
    reply_timeout: float = setting("CHATKEEP_REPLY_TIMEOUT", duration, "10m", "How long a whole reply may take.")
    drain_timeout: float = setting(
        "CHATKEEP_DRAIN_TIMEOUT",
        duration,
        "10m",
        "How long a stopping server waits for its running replies before it stores what there is of them.",
    )
    max_reply: int = setting("CHATKEEP_MAX_REPLY", size, "1MiB", "How large a reply may grow before it is truncated.")
    max_body: int = setting("CHATKEEP_MAX_BODY", size, "1MiB", "How large the body of a request may be.")
    body_timeout: float = setting(
        "CHATKEEP_BODY_TIMEOUT", duration, "10s", "How long a request's body may take to arrive."
    )
    context_messages: int = setting(
        "CHATKEEP_CONTEXT_MESSAGES",
        count,
        "10",
        "How many of the last messages are sent as context, the new one included.",
    )
    conversation_ttl: float | None = setting(
        "CHATKEEP_CONVERSATION_TTL",
        optional_duration,
        "24h",
        "How long a conversation is kept after its last activity; `never` keeps it.",
    )
    cache_size: int = setting(
        "CHATKEEP_CACHE_SIZE", size, "16MiB", "How much memory each process spends on answers it gave; 0 turns it off."
    )
    cache_ttl: float = setting("CHATKEEP_CACHE_TTL", duration, "1h", "How long an answer is given again.")
    redis_url: str | None = setting(
        "REDIS_URL",
        redis_url,
        None,
        "A Redis that processes and hosts share answers through, and that counts for limits, `redis://host:6379/0`; "
        "needs `chatkeep[redis]`.",
        secret=True,
    )
    limits: Defaults = setting(
        "CHATKEEP_LIMITS",
        limits,
        "{}",
        "What each key, each end user and each account may use, as a JSON object of `key`, `end_user` and `account`, "
        "each with any of `requests_per_minute`, `requests_per_day`, `tokens_per_minute`, `tokens_per_day` and "
        "`concurrent_replies`; see [limits](limits.md).",
    )
    prices: Prices = setting(
        "CHATKEEP_PRICES",
        prices,
        "{}",
        "What a million tokens cost, by the beginning of the model's name, as a JSON object such as "
        '`{"gpt-4o-mini": {"input": 0.15, "output": 0.6}}`, in any currency.',
    )
    usage_ttl: float = setting("CHATKEEP_USAGE_TTL", duration, "400d", "How long it is kept what was used on a day.")
    audit_ttl: float = setting(
        "CHATKEEP_AUDIT_TTL", duration, "365d", "How long the audit log keeps who has done what."
    )
    sweep_interval: float = setting(
        "CHATKEEP_SWEEP_INTERVAL", duration, "20s", "How often what has expired is deleted for good."
    )
    tombstone_ttl: float = setting(
        "CHATKEEP_TOMBSTONE_TTL",
        duration,
        "30d",
        "How long it is remembered which conversations are gone: an increment of an export may begin no earlier.",
    )
    export_jobs: bool = setting(
        "CHATKEEP_EXPORT_JOBS",
        flag,
        "true",
        "Whether servers make the files of `POST /api/exports` themselves; else `chatkeep work` must run beside them.",
    )
    export_ttl: float = setting(
        "CHATKEEP_EXPORT_TTL", duration, "24h", "How long a finished export is kept, with its file in the data folder."
    )
    require_keys: bool = setting(
        "CHATKEEP_REQUIRE_KEYS",
        flag,
        "false",
        "Let nobody in without a key, from this machine either: for a server behind a proxy that others reach.",
    )
    end_user_tokens: tuple[tuple[str, TokenRule], ...] = setting(
        "CHATKEEP_END_USER_TOKENS",
        token_rules,
        "{}",
        "Accounts whose end users are named by signed tokens (`X-End-User-Token`) and not by `X-End-User`, as a JSON"
        " object: the algorithm, the secrets or public keys, and an issuer and audience where they must be in it;"
        " needs `chatkeep[jwt]`.",
        secret=True,
    )
    redact_input: str = setting(
        "CHATKEEP_REDACT_INPUT",
        policy,
        "off",
        "Sensitive text in what users send: `mask` puts a label in its place before it is stored and sent to the model,"
        " `block` refuses the request.",
    )
    redact_output: str = setting(
        "CHATKEEP_REDACT_OUTPUT",
        policy,
        "off",
        "Sensitive text in what models answer: `mask` puts a label in its place before it is stored and shown, "
        "`block` ends the reply before it.",
    )
    redact_export: str = setting(
        "CHATKEEP_REDACT_EXPORT",
        policy,
        "off",
        "Sensitive text in exports, also where it was stored before: `mask` puts a label in its place, "
        "`block` leaves out the whole text.",
    )
    redact_kinds: tuple[str, ...] = setting(
        "CHATKEEP_REDACT_KINDS",
        words,
        "",
        "What is sensitive, comma-separated, of phone, id-card, bank-card, passport, email, ip and api-key; "
        "all of them by default.",
    )
    redact_words: tuple[str, ...] = setting(
        "CHATKEEP_REDACT_WORDS",
        words,
        "",
        "Own words that are sensitive, comma-separated; their label is `[word]`.",
        secret=True,
    )
    redact_patterns: tuple[tuple[str, str], ...] = setting(
        "CHATKEEP_REDACT_PATTERNS",
        expressions,
        "{}",
        "Own regular expressions of what is sensitive, by their labels, as a JSON object: "
        '`{"staff": "EMP-[0-9]{4,6}"}`. A match has at most 200 characters.',
    )
    oidc_issuer: str | None = setting(
        "CHATKEEP_OIDC_ISSUER",
        issuer,
        None,
        "The OpenID provider that people sign in with on the page, as it writes its own URL; needs `chatkeep[oidc]`. "
        "A server that has one lets nobody in without a key, from this machine either.",
    )
    oidc_client_id: str | None = setting(
        "CHATKEEP_OIDC_CLIENT_ID", str, None, "The name under which the OpenID provider knows this server."
    )
    oidc_client_secret: str | None = setting(
        "CHATKEEP_OIDC_CLIENT_SECRET",
        str,
        None,
        "The secret that goes with it; none for a public client.",
        secret=True,
    )
    oidc_account: str = setting(
        "CHATKEEP_OIDC_ACCOUNT", account, "local", "The account whose end users those are who sign in so."
    )
    oidc_scopes: tuple[str, ...] = setting(
        "CHATKEEP_OIDC_SCOPES", user_scopes, "chat,read,export", "What they may: some of `chat`, `read` and `export`."
    )
    oidc_algorithm: str = setting(
        "CHATKEEP_OIDC_ALGORITHM", public_algorithm, "RS256", "How the provider's tokens are signed, and no other way."
    )
    oidc_name: str | None = setting(
        "CHATKEEP_OIDC_NAME", str, None, "What people call the provider; its host by default."
    )
    cors_origins: tuple[str, ...] = setting(
        "CHATKEEP_CORS_ORIGINS",
        words,
        "",
        "Origins whose pages may call the API, comma-separated, such as `https://app.example.com`; `*` for all.",
    )
    hosts: tuple[str, ...] = setting(
        "CHATKEEP_HOSTS",
        host_names,
        "",
        "Names by which the server is asked beside this machine's own, comma-separated, such as `chat.example.com`: "
        "those in the address bar, which proxies pass on; `*.example.com` and `*` for many. Without it a server that "
        "needs no key answers to loopback names alone, and others to all.",
    )
    log_level: str = setting("CHATKEEP_LOG_LEVEL", log_level, "INFO", "DEBUG, INFO, WARNING or ERROR.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
        """Return the settings of the environment and of the ``.env`` files in ``folder`` (the current one by default).

        Raises `SettingsError` that names every wrong value and what would be right.
        """
        found = dict(os.environ if environ is None else environ)
        layers = [found, *map(read_env_file, env_files(found, folder or Path.cwd()))]
        problems: list[str] = []
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = item.metadata["env"]
            text = next((layer[name] for layer in layers if layer.get(name)), None)
            if text is None:
                continue
            try:
                values[item.name] = item.metadata["read"](text)
            except ValueError as error:
                # What stands before an @ may be a password, wherever it was written.
                shown = "the value" if item.metadata["secret"] or "@" in text else repr(text)
                problems.append(f"{name}: {shown} is not right; {error}")
        settings = cls(**values)
        problems += settings.dangers()
        if problems:
            raise SettingsError(problems)
        return settings

    def dangers(self) -> list[str]:
        """Return why these settings may not serve in production, a sentence each; nothing in other environments."""
        if self.env != "production":
            return []
        found = []
        if self.openai_api_key and self.openai_api_key.lower().startswith(PLACEHOLDERS):
            found.append("OPENAI_API_KEY: this is a placeholder; set the real key, or remove it to use the demo model")
        return found

    @property
    def socket_path(self) -> str | None:
        """The path of the socket to listen on, where HOST names one in place of an address."""
        return self.host.removeprefix(SOCKET) if self.host.startswith(SOCKET) else None

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches the server, and nobody from outside through it."""
        return is_loopback(self.host) and not self.require_keys and self.oidc_issuer is None

    @property
    def oidc_label(self) -> str:
        """What people call the OpenID provider; empty where there is none."""
        return self.oidc_name or urlsplit(self.oidc_issuer or "").netloc

    @property
    def place(self) -> str:
        """Where the server listens, as gunicorn writes it: `host:port` or `unix:/path`."""
        return self.host if self.socket_path else f"{self.host}:{self.port}"

    @property
    def database(self) -> str:
        """The database's URL, with the embedded file where none is set."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'chatkeep.sqlite3').as_posix()}"

    @property
    def exports_dir(self) -> Path:
        """The folder of the files that export jobs make."""
        return self.data_dir / "exports"

    @property
    def demo(self) -> bool:
        """Whether the offline demo model answers, because no provider is configured."""
        return not self.openai_api_key and not self.openai_base_url


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``."""
    if host == "localhost" or host.startswith(SOCKET):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def env_files(environ: Mapping[str, str], folder: Path) -> list[Path]:
    """Return where settings are looked for after the process environment, first things first; not all need be there."""
    general = folder / ".env"
    chosen = environ.get("CHATKEEP_ENV") or read_env_file(general).get("CHATKEEP_ENV") or "development"
    return [folder / f".env.{chosen}", general]


def unknown_names(environ: Mapping[str, str], files: Iterable[Path]) -> list[str]:
    """Return the names that look like settings of chatkeep's and are none."""
    named = {name for names in (environ, *map(read_env_file, files)) for name in names if name.startswith("CHATKEEP_")}
    return sorted(named - {item.metadata["env"] for item in described()})


def read_env_file(path: Path) -> dict[str, str]:
    """Return the ``NAME=value`` lines of a file; comments, blank lines, ``export`` and quotes are understood.

    A comment behind a value begins with a space and ``#``; a value that holds these is written in quotes.
    """
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote and quote in "\"'" and quote in value[1:]:
        return value[1 : value.index(quote, 1)]
    return re.split(r"\s#", value, maxsplit=1)[0].rstrip()


def described() -> list[Field[Any]]:
    """Return the fields of `Settings` in order, each with ``env``, ``text``, ``doc`` and ``secret`` in its metadata."""
    return [item for item in fields(Settings) if item.default is not MISSING]
