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
        "`development`, `test` or `production`. Production refuses placeholder secrets, and a public address "
        "without API keys.",
    )
    host: str = setting(
        "HOST",
        parsing.host,
        "127.0.0.1",
        "The address to listen on, or `unix:/path/to/socket` for a proxy on the same machine (not on Windows).",
    )
    port: int = setting("PORT", parsing.port, "5010", "The port to listen on.")
    prefix: str = setting(
        "CHATKEEP_PREFIX",
        parsing.path_prefix,
        "/",
        "The path under which a proxy serves chatkeep, such as `/chat`. The proxy must strip it from the request path.",
    )
    public_url: str | None = setting(
        "CHATKEEP_PUBLIC_URL",
        parsing.public_url,
        None,
        "The URL that browsers use, such as `https://chat.example.com`, without CHATKEEP_PREFIX. Set it if the "
        "proxy can't report HTTPS. Requires an API key, even from localhost.",
    )
    socket_mode: int = setting(
        "CHATKEEP_SOCKET_MODE",
        parsing.file_mode,
        "660",
        "The mode of the socket's file. With `660`, add the proxy's user to the server's group.",
    )
    workers: int = setting("WEB_CONCURRENCY", parsing.count, "2", "Number of gunicorn worker processes.")
    threads: int = setting(
        "CHATKEEP_THREADS",
        parsing.count,
        "64",
        "Number of requests that Waitress serves at once. Every open stream takes one.",
    )
    database_url: str | None = setting(
        "DATABASE_URL",
        parsing.database_url,
        None,
        "The database; by default a SQLite file in CHATKEEP_DATA_DIR. MySQL and MariaDB: "
        "`mysql+pymysql://user:password@host:3306/database`; in the password, write `% / ? # @` and spaces as `%25 "
        "%2F %3F %23 %40 %20`. Options: `?ssl-mode=REQUIRED`, `VERIFY_CA` or `VERIFY_IDENTITY`, `ssl-ca`, "
        "`ssl-capath`, `ssl-cert`, `ssl-key`, `ssl-cipher` and `unix-socket`.",
        secret=True,
    )
    database_password: str | None = setting(
        "DATABASE_PASSWORD",
        str,
        None,
        "The database password, unescaped, if DATABASE_URL has none: `mysql+pymysql://user@host:3306/database`.",
        secret=True,
    )
    data_dir: Path = setting("CHATKEEP_DATA_DIR", Path, "data", "The folder for the server's files.")
    openai_api_key: str | None = setting(
        "OPENAI_API_KEY",
        str,
        None,
        "The provider's API key. Without it and without OPENAI_BASE_URL, the offline demo model answers.",
        secret=True,
    )
    openai_base_url: str | None = setting(
        "OPENAI_BASE_URL",
        parsing.http_url,
        None,
        "The base URL of an OpenAI-compatible API; `https://api.openai.com/v1` by default if a key is set.",
    )
    provider_hosts: tuple[str, ...] = setting(
        "CHATKEEP_PROVIDER_HOSTS",
        parsing.host_names,
        "",
        "Hosts that provider calls may reach; by default only that of OPENAI_BASE_URL. A host in the list may be "
        "private; `*.example.com` and `*` match public addresses only.",
    )
    model: str = setting("CHATKEEP_MODEL", str, "gpt-4o-mini", "The default model.")
    provider_headers: tuple[tuple[str, str], ...] = setting(
        "CHATKEEP_PROVIDER_HEADERS",
        parsing.headers,
        "{}",
        "Extra headers for the provider.",
        secret=True,
    )
    stream_usage: bool = setting(
        "CHATKEEP_STREAM_USAGE",
        parsing.flag,
        "true",
        "Request token counts for streams (`stream_options`).",
    )
    provider_dialects: tuple[tuple[str, parsing.DialectRule], ...] = setting(
        "CHATKEEP_PROVIDER_DIALECTS",
        parsing.dialects,
        "{}",
        'Request formats by model name prefix, such as `{"o3": {"max_tokens": "max_completion_tokens", '
        '"temperature": false}}`. The server learns the rest from the provider\'s refusals. See '
        "[deployment](deployment.md#dialects).",
    )
    connect_timeout: float = setting(
        "CHATKEEP_CONNECT_TIMEOUT", parsing.duration, "5s", "Timeout for connecting to the provider."
    )
    first_token_timeout: float = setting(
        "CHATKEEP_FIRST_TOKEN_TIMEOUT",
        parsing.duration,
        "60s",
        "Timeout for the provider's first token. Comments don't count as tokens.",
    )
    gap_timeout: float = setting(
        "CHATKEEP_GAP_TIMEOUT",
        parsing.duration,
        "30s",
        "Timeout between two tokens.",
    )
    reply_timeout: float = setting("CHATKEEP_REPLY_TIMEOUT", parsing.duration, "10m", "Timeout for a whole reply.")
    drain_timeout: float = setting(
        "CHATKEEP_DRAIN_TIMEOUT",
        parsing.duration,
        "10m",
        "How long a stopping server waits for running replies. It then stores what it has.",
    )
    max_reply: int = setting(
        "CHATKEEP_MAX_REPLY", parsing.size, "1MiB", "Maximum size of a reply. Longer replies are truncated."
    )
    max_body: int = setting("CHATKEEP_MAX_BODY", parsing.size, "1MiB", "Maximum size of a request body.")
    body_timeout: float = setting(
        "CHATKEEP_BODY_TIMEOUT", parsing.duration, "10s", "Timeout for receiving a request body."
    )
    context_messages: int = setting(
        "CHATKEEP_CONTEXT_MESSAGES",
        parsing.count,
        "10",
        "Number of latest messages sent as context, including the new one. The context never begins with a reply. "
        "Turns that failed without text don't count.",
    )
    conversation_ttl: float | None = setting(
        "CHATKEEP_CONVERSATION_TTL",
        parsing.optional_duration,
        "24h",
        "How long to keep a new conversation after its last activity.",
    )
    cache_size: int = setting(
        "CHATKEEP_CACHE_SIZE",
        parsing.size,
        "16MiB",
        "Memory for cached answers in each process; 0 disables the cache.",
    )
    cache_ttl: float = setting("CHATKEEP_CACHE_TTL", parsing.duration, "1h", "How long to cache an answer.")
    redis_url: str | None = setting(
        "REDIS_URL",
        parsing.redis_url,
        None,
        "A Redis server for a shared cache and shared limits, such as `redis://host:6379/0`. Needs `chatkeep[redis]`.",
        secret=True,
    )
    limits: Defaults = setting(
        "CHATKEEP_LIMITS",
        parsing.limits,
        "{}",
        "Limits for each `key`, `end_user` and `account`: any of `requests_per_minute`, `requests_per_day`, "
        "`tokens_per_minute`, `tokens_per_day` and `concurrent_replies`. See [limits](limits.md).",
    )
    quota_messages: int | None = setting(
        "CHATKEEP_QUOTA_MESSAGES",
        parsing.optional_count,
        "off",
        "Maximum number of stored messages for each account or end user. Beyond it, requests get 403 `quota_used_up`.",
    )
    quota_bytes: int | None = setting(
        "CHATKEEP_QUOTA_BYTES",
        parsing.optional_size,
        "off",
        "Maximum size of stored text for each account or end user, such as `1GiB`. A running reply may exceed it.",
    )
    quota_export_bytes: int | None = setting(
        "CHATKEEP_QUOTA_EXPORT_BYTES",
        parsing.optional_size,
        "1GiB",
        "Maximum size of export files for each account or end user.",
    )
    prices: Prices = setting(
        "CHATKEEP_PRICES",
        parsing.prices,
        "{}",
        'Prices of a million tokens by model name prefix, in any currency, such as `{"gpt-4o-mini": {"input": 0.15,'
        ' "output": 0.6}}`.',
    )
    usage_ttl: float = setting("CHATKEEP_USAGE_TTL", parsing.duration, "400d", "How long to keep daily usage.")
    audit_ttl: float = setting("CHATKEEP_AUDIT_TTL", parsing.duration, "365d", "How long to keep audit log entries.")
    sweep_interval: float = setting(
        "CHATKEEP_SWEEP_INTERVAL", parsing.duration, "20s", "How often to delete expired data."
    )
    tombstone_ttl: float = setting(
        "CHATKEEP_TOMBSTONE_TTL",
        parsing.duration,
        "30d",
        "How long to remember deleted conversations. The cursor of an incremental export can't be older.",
    )
    export_jobs: bool = setting(
        "CHATKEEP_EXPORT_JOBS",
        parsing.flag,
        "true",
        "Whether servers run export jobs. If `false`, run `chatkeep work` beside them.",
    )
    export_ttl: float = setting(
        "CHATKEEP_EXPORT_TTL",
        parsing.duration,
        "24h",
        "How long to keep a finished export and its file.",
    )
    require_keys: bool = setting(
        "CHATKEEP_REQUIRE_KEYS",
        parsing.flag,
        "false",
        "Require an API key, even from localhost. Use it behind a public proxy.",
    )
    end_user_tokens: tuple[tuple[str, parsing.TokenRule], ...] = setting(
        "CHATKEEP_END_USER_TOKENS",
        parsing.token_rules,
        "{}",
        "Accounts that name end users by signed tokens (`X-End-User-Token`) in place of `X-End-User`: the "
        "algorithm, the secrets or public keys, and optionally the issuer and audience. Needs `chatkeep[jwt]`.",
        secret=True,
    )
    redact_input: str = setting(
        "CHATKEEP_REDACT_INPUT",
        parsing.policy,
        "off",
        "Sensitive text in user messages: `mask` replaces it by a label before it is stored and sent to the model, "
        "`block` refuses the request.",
    )
    redact_output: str = setting(
        "CHATKEEP_REDACT_OUTPUT",
        parsing.policy,
        "off",
        "Sensitive text in replies: `mask` replaces it by a label before it is stored and shown, `block` ends the "
        "reply.",
    )
    redact_export: str = setting(
        "CHATKEEP_REDACT_EXPORT",
        parsing.policy,
        "off",
        "Sensitive text in exports, including text stored earlier: `mask` replaces it by a label, `block` omits the"
        " whole text.",
    )
    redact_kinds: tuple[str, ...] = setting(
        "CHATKEEP_REDACT_KINDS",
        parsing.words,
        "",
        "Kinds of sensitive text: any of `phone`, `id-card`, `bank-card`, `passport`, `email`, `ip` and `api-key`; "
        "all by default.",
    )
    redact_words: tuple[str, ...] = setting(
        "CHATKEEP_REDACT_WORDS",
        parsing.words,
        "",
        "Your own sensitive words. Their label is `[word]`.",
        secret=True,
    )
    redact_patterns: tuple[tuple[str, str], ...] = setting(
        "CHATKEEP_REDACT_PATTERNS",
        parsing.expressions,
        "{}",
        'Your own regular expressions by label: `{"staff": "EMP-[0-9]{4,6}"}`. A match has at most 200 characters.',
    )
    oidc_issuer: str | None = setting(
        "CHATKEEP_OIDC_ISSUER",
        parsing.issuer,
        None,
        "The OpenID Connect provider for sign-in on the page, exactly as it writes its URL. Requires an API key or "
        "a sign-in, even from localhost. Needs `chatkeep[oidc]`.",
    )
    oidc_client_id: str | None = setting(
        "CHATKEEP_OIDC_CLIENT_ID", str, None, "The server's client ID at the OpenID Connect provider."
    )
    oidc_client_secret: str | None = setting(
        "CHATKEEP_OIDC_CLIENT_SECRET",
        str,
        None,
        "The client secret; none for a public client.",
        secret=True,
    )
    oidc_account: str = setting(
        "CHATKEEP_OIDC_ACCOUNT", parsing.account, "local", "The account whose end users sign in this way."
    )
    oidc_scopes: tuple[str, ...] = setting(
        "CHATKEEP_OIDC_SCOPES",
        parsing.user_scopes,
        "chat,read,export",
        "Scopes of signed-in users: any of `chat`, `read` and `export`.",
    )
    oidc_algorithm: str = setting(
        "CHATKEEP_OIDC_ALGORITHM",
        parsing.public_algorithm,
        "RS256",
        "The only accepted signature algorithm of the provider's tokens.",
    )
    oidc_name: str | None = setting(
        "CHATKEEP_OIDC_NAME", str, None, "The provider's display name; its host by default."
    )
    cors_origins: tuple[str, ...] = setting(
        "CHATKEEP_CORS_ORIGINS",
        parsing.origins,
        "",
        "Origins whose pages may call the API, such as `https://app.example.com`; `*` for all.",
    )
    hosts: tuple[str, ...] = setting(
        "CHATKEEP_HOSTS",
        parsing.host_names,
        "",
        "Host names that the server accepts beside localhost, such as `chat.example.com`; `*.example.com` and `*` "
        "also work. By default, a server without API keys accepts only loopback names, and others accept all.",
    )
    log_level: str = setting("CHATKEEP_LOG_LEVEL", parsing.log_level, "INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`.")
    log_format: str = setting(
        "CHATKEEP_LOG_FORMAT",
        parsing.log_format,
        "text",
        "`text`, or `json` for one JSON object per line, including the request id and stack trace.",
    )
    log_file: str | None = setting(
        "CHATKEEP_LOG_FILE",
        str,
        None,
        "The log file; standard error by default. It is reopened after rotation.",
    )
    access_log: bool = setting(
        "CHATKEEP_ACCESS_LOG",
        parsing.flag,
        "false",
        "Log each request with its method, route, status and duration.",
    )
