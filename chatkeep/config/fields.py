"""The fields of the settings: for each its environment variable, parser, default and help.

``.env.example`` and ``docs/settings.md`` are generated from them (``./dev docs``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatkeep.config import parsing
from chatkeep.domain.quota import Defaults, Prices


def setting(name: str, read: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False) -> Any:
    """Declare a field of `Settings`: its variable, its parser, its default as text, and its help."""
    value = read(default) if default is not None else None
    return field(default=value, metadata={"env": name, "read": read, "text": default, "doc": doc, "secret": secret})


@dataclass(frozen=True, slots=True)
class SettingsFields:
    """The fields of `Settings`, in the order of ``.env.example``."""

    env: str = setting(
        "CHATKEEP_ENV",
        parsing.environment,
        "development",
        "development, test or production. Production refuses placeholder secrets, and a public address without keys.",
    )
    host: str = setting(
        "HOST",
        parsing.host,
        "127.0.0.1",
        "The address to listen on, or `unix:/path/of/a/socket` for a proxy on this machine; not on Windows.",
    )
    port: int = setting("PORT", parsing.port, "5010", "The port to listen on.")
    prefix: str = setting(
        "CHATKEEP_PREFIX",
        parsing.path_prefix,
        "/",
        "The path under which a proxy serves chatkeep, such as `/chat`. The proxy removes it from each request's path.",
    )
    public_url: str | None = setting(
        "CHATKEEP_PUBLIC_URL",
        parsing.public_url,
        None,
        "The address at which browsers reach the server, such as `https://chat.example.com`, without CHATKEEP_PREFIX. "
        "Set it if a proxy cannot say that they use https, as one that ends TLS and passes on TCP. A server that "
        "has one lets nobody in without a key.",
    )
    socket_mode: int = setting(
        "CHATKEEP_SOCKET_MODE",
        parsing.file_mode,
        "660",
        "Who may connect to a socket, as the mode of its file: with `660` the server's user and group, so the proxy's "
        "user has to be in that group.",
    )
    workers: int = setting("WEB_CONCURRENCY", parsing.count, "2", "How many gunicorn worker processes serve.")
    threads: int = setting(
        "CHATKEEP_THREADS",
        parsing.count,
        "64",
        "How many requests Waitress serves at once; every open stream takes one.",
    )
    database_url: str | None = setting(
        "DATABASE_URL",
        parsing.database_url,
        None,
        "Where conversations are stored; a SQLite file in the data folder by default. "
        "MySQL and MariaDB: `mysql+pymysql://user:password@host:3306/database`; in a password `% / ? # @` and spaces "
        "are `%25 %2F %3F %23 %40 %20`. Options: `?ssl-mode=REQUIRED`, `VERIFY_CA` or `VERIFY_IDENTITY` encrypts the "
        "connections, beside it `ssl-ca`, `ssl-capath`, `ssl-cert`, `ssl-key` and `ssl-cipher`; `unix-socket`.",
        secret=True,
    )
    database_password: str | None = setting(
        "DATABASE_PASSWORD",
        str,
        None,
        "The password of the user in DATABASE_URL, with nothing escaped. Write the URL without one then: "
        "`mysql+pymysql://user@host:3306/database`.",
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
        parsing.http_url,
        None,
        "The root of an OpenAI-compatible API; `https://api.openai.com/v1` by default where a key is set.",
    )
    provider_hosts: tuple[str, ...] = setting(
        "CHATKEEP_PROVIDER_HOSTS",
        parsing.host_names,
        "",
        "Hosts that calls to providers may go to, comma-separated; that of OPENAI_BASE_URL alone by default. A host "
        "that is named may be private, such as a model in your network; `*.example.com` and `*` are for public "
        "addresses only.",
    )
    model: str = setting("CHATKEEP_MODEL", str, "gpt-4o-mini", "The model that answers where a request names none.")
    provider_headers: tuple[tuple[str, str], ...] = setting(
        "CHATKEEP_PROVIDER_HEADERS",
        parsing.headers,
        "{}",
        "More headers for the provider, as a JSON object.",
        secret=True,
    )
    stream_usage: bool = setting(
        "CHATKEEP_STREAM_USAGE",
        parsing.flag,
        "true",
        "Ask the provider for token counts of streams (`stream_options`).",
    )
    provider_dialects: tuple[tuple[str, parsing.DialectRule], ...] = setting(
        "CHATKEEP_PROVIDER_DIALECTS",
        parsing.dialects,
        "{}",
        "How requests are written, by the beginning of the model's name, as a JSON object such as "
        '`{"o3": {"max_tokens": "max_completion_tokens", "temperature": false}}`; what is not set is learnt from the '
        "provider's refusals. See [deployment](deployment.md#dialects).",
    )
    connect_timeout: float = setting(
        "CHATKEEP_CONNECT_TIMEOUT", parsing.duration, "5s", "How long connecting may take."
    )
    first_token_timeout: float = setting(
        "CHATKEEP_FIRST_TOKEN_TIMEOUT",
        parsing.duration,
        "60s",
        "How long the provider may take until the first token. Comments that it sends meanwhile are no token.",
    )
    gap_timeout: float = setting(
        "CHATKEEP_GAP_TIMEOUT",
        parsing.duration,
        "30s",
        "How long the provider may be silent between two tokens.",
    )
    reply_timeout: float = setting(
        "CHATKEEP_REPLY_TIMEOUT", parsing.duration, "10m", "How long a whole reply may take."
    )
    drain_timeout: float = setting(
        "CHATKEEP_DRAIN_TIMEOUT",
        parsing.duration,
        "10m",
        "How long a stopping server waits for its running replies before it stores what there is of them.",
    )
    max_reply: int = setting(
        "CHATKEEP_MAX_REPLY", parsing.size, "1MiB", "How large a reply may grow before it is truncated."
    )
    max_body: int = setting("CHATKEEP_MAX_BODY", parsing.size, "1MiB", "How large the body of a request may be.")
    body_timeout: float = setting(
        "CHATKEEP_BODY_TIMEOUT", parsing.duration, "10s", "How long a request's body may take to arrive."
    )
    context_messages: int = setting(
        "CHATKEEP_CONTEXT_MESSAGES",
        parsing.count,
        "10",
        "How many of the last messages are sent as context, the new one included; less one if they would begin with a "
        "reply. Turns that failed without any text don't count.",
    )
    conversation_ttl: float | None = setting(
        "CHATKEEP_CONVERSATION_TTL",
        parsing.optional_duration,
        "24h",
        "How long a new conversation is kept after its last activity; `never` keeps it.",
    )
    cache_size: int = setting(
        "CHATKEEP_CACHE_SIZE",
        parsing.size,
        "16MiB",
        "How much memory each process spends on answers it gave; 0 turns it off.",
    )
    cache_ttl: float = setting("CHATKEEP_CACHE_TTL", parsing.duration, "1h", "How long an answer is given again.")
    redis_url: str | None = setting(
        "REDIS_URL",
        parsing.redis_url,
        None,
        "A Redis that processes and hosts share answers through, and that counts for limits, `redis://host:6379/0`; "
        "needs `chatkeep[redis]`.",
        secret=True,
    )
    limits: Defaults = setting(
        "CHATKEEP_LIMITS",
        parsing.limits,
        "{}",
        "What each key, each end user and each account may use, as a JSON object of `key`, `end_user` and `account`, "
        "each with any of `requests_per_minute`, `requests_per_day`, `tokens_per_minute`, `tokens_per_day` and "
        "`concurrent_replies`; see [limits](limits.md).",
    )
    quota_messages: int | None = setting(
        "CHATKEEP_QUOTA_MESSAGES",
        parsing.optional_count,
        "off",
        "How many messages each owner may have stored, an account or an end user: `100000`, or `off`. What goes beyond "
        "it is refused (403 `quota_used_up`).",
    )
    quota_bytes: int | None = setting(
        "CHATKEEP_QUOTA_BYTES",
        parsing.optional_size,
        "off",
        "How much text each owner may have stored: `1GiB`, or `off`. A reply is written to its end.",
    )
    quota_export_bytes: int | None = setting(
        "CHATKEEP_QUOTA_EXPORT_BYTES",
        parsing.optional_size,
        "1GiB",
        "How much room the files of each owner's export jobs may take, or `off`.",
    )
    prices: Prices = setting(
        "CHATKEEP_PRICES",
        parsing.prices,
        "{}",
        "What a million tokens cost, by the beginning of the model's name, as a JSON object such as "
        '`{"gpt-4o-mini": {"input": 0.15, "output": 0.6}}`, in any currency.',
    )
    usage_ttl: float = setting(
        "CHATKEEP_USAGE_TTL", parsing.duration, "400d", "How long it is kept what was used on a day."
    )
    audit_ttl: float = setting(
        "CHATKEEP_AUDIT_TTL", parsing.duration, "365d", "How long the audit log keeps who has done what."
    )
    sweep_interval: float = setting(
        "CHATKEEP_SWEEP_INTERVAL", parsing.duration, "20s", "How often what has expired is deleted for good."
    )
    tombstone_ttl: float = setting(
        "CHATKEEP_TOMBSTONE_TTL",
        parsing.duration,
        "30d",
        "How long it is remembered which conversations are gone: an increment of an export may begin no earlier.",
    )
    export_jobs: bool = setting(
        "CHATKEEP_EXPORT_JOBS",
        parsing.flag,
        "true",
        "Whether servers make the files of `POST /api/exports` themselves; else `chatkeep work` must run beside them.",
    )
    export_ttl: float = setting(
        "CHATKEEP_EXPORT_TTL",
        parsing.duration,
        "24h",
        "How long a finished export is kept, with its file in the data folder.",
    )
    require_keys: bool = setting(
        "CHATKEEP_REQUIRE_KEYS",
        parsing.flag,
        "false",
        "Let nobody in without a key, from this machine either: for a server behind a proxy that others reach.",
    )
    end_user_tokens: tuple[tuple[str, parsing.TokenRule], ...] = setting(
        "CHATKEEP_END_USER_TOKENS",
        parsing.token_rules,
        "{}",
        "Accounts whose end users are named by signed tokens (`X-End-User-Token`) and not by `X-End-User`, as a JSON"
        " object: the algorithm, the secrets or public keys, and an issuer and audience where they must be in it;"
        " needs `chatkeep[jwt]`.",
        secret=True,
    )
    redact_input: str = setting(
        "CHATKEEP_REDACT_INPUT",
        parsing.policy,
        "off",
        "Sensitive text in what users send: `mask` puts a label in its place before it is stored and sent to the model,"
        " `block` refuses the request.",
    )
    redact_output: str = setting(
        "CHATKEEP_REDACT_OUTPUT",
        parsing.policy,
        "off",
        "Sensitive text in what models answer: `mask` puts a label in its place before it is stored and shown, "
        "`block` ends the reply before it.",
    )
    redact_export: str = setting(
        "CHATKEEP_REDACT_EXPORT",
        parsing.policy,
        "off",
        "Sensitive text in exports, also where it was stored before: `mask` puts a label in its place, "
        "`block` leaves out the whole text.",
    )
    redact_kinds: tuple[str, ...] = setting(
        "CHATKEEP_REDACT_KINDS",
        parsing.words,
        "",
        "What is sensitive, comma-separated, of phone, id-card, bank-card, passport, email, ip and api-key; "
        "all of them by default.",
    )
    redact_words: tuple[str, ...] = setting(
        "CHATKEEP_REDACT_WORDS",
        parsing.words,
        "",
        "Own words that are sensitive, comma-separated; their label is `[word]`.",
        secret=True,
    )
    redact_patterns: tuple[tuple[str, str], ...] = setting(
        "CHATKEEP_REDACT_PATTERNS",
        parsing.expressions,
        "{}",
        "Own regular expressions of what is sensitive, by their labels, as a JSON object: "
        '`{"staff": "EMP-[0-9]{4,6}"}`. A match has at most 200 characters.',
    )
    oidc_issuer: str | None = setting(
        "CHATKEEP_OIDC_ISSUER",
        parsing.issuer,
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
        "CHATKEEP_OIDC_ACCOUNT", parsing.account, "local", "The account whose end users those are who sign in so."
    )
    oidc_scopes: tuple[str, ...] = setting(
        "CHATKEEP_OIDC_SCOPES",
        parsing.user_scopes,
        "chat,read,export",
        "What they may: some of `chat`, `read` and `export`.",
    )
    oidc_algorithm: str = setting(
        "CHATKEEP_OIDC_ALGORITHM",
        parsing.public_algorithm,
        "RS256",
        "How the provider's tokens are signed, and no other way.",
    )
    oidc_name: str | None = setting(
        "CHATKEEP_OIDC_NAME", str, None, "What people call the provider; its host by default."
    )
    cors_origins: tuple[str, ...] = setting(
        "CHATKEEP_CORS_ORIGINS",
        parsing.origins,
        "",
        "Origins whose pages may call the API, comma-separated, such as `https://app.example.com`; `*` for all.",
    )
    hosts: tuple[str, ...] = setting(
        "CHATKEEP_HOSTS",
        parsing.host_names,
        "",
        "Names by which the server is asked beside this machine's own, comma-separated, such as `chat.example.com`: "
        "those in the address bar, which proxies pass on; `*.example.com` and `*` for many. Without it a server that "
        "needs no key answers to loopback names alone, and others to all.",
    )
    log_level: str = setting("CHATKEEP_LOG_LEVEL", parsing.log_level, "INFO", "DEBUG, INFO, WARNING or ERROR.")
    log_format: str = setting(
        "CHATKEEP_LOG_FORMAT",
        parsing.log_format,
        "text",
        "`text`, or `json` for one JSON object a line, with the id of its request and its stack trace in it.",
    )
    log_file: str | None = setting(
        "CHATKEEP_LOG_FILE",
        str,
        None,
        "The file to log to; standard error by default. It is made anew when it was moved away (logrotate).",
    )
    access_log: bool = setting(
        "CHATKEEP_ACCESS_LOG",
        parsing.flag,
        "false",
        "Log each request when its response has ended: method, route, status and seconds.",
    )
