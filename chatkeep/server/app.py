"""The application factory: the only place that wires the services together."""

from __future__ import annotations

import atexit
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from flask import Flask, g, request

from chatkeep.auth.access import Access, require_keys
from chatkeep.auth.oidc import Oidc
from chatkeep.auth.tokens import Tokens
from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import now_us
from chatkeep.errors import SettingsError
from chatkeep.exports.worker import ExportWorker
from chatkeep.httpclient.reader import BlockingReader, EpollReader, Reader
from chatkeep.i18n import _
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.limiter import Limiter
from chatkeep.limiting.redis_windows import RedisWindows
from chatkeep.limiting.storage import StorageQuota
from chatkeep.provider import Provider
from chatkeep.provider.demo import DemoProvider
from chatkeep.provider.openai_http import OpenAIHttp
from chatkeep.provider.redacting import RedactingProvider
from chatkeep.provider.resilience import ResilientProvider
from chatkeep.redaction.policies import Redaction, rules_of
from chatkeep.reporting.flusher import MetricsFlusher
from chatkeep.retention.erasure import Eraser
from chatkeep.retention.sweeper import Retention, Sweeper
from chatkeep.runtime import files, logs
from chatkeep.runtime.loop_monitor import LoopMonitor
from chatkeep.runtime.metrics import Registry
from chatkeep.store import idempotency, identity, migrations
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.messages import ROWS
from chatkeep.turns.cache import Cache, MemoryCache, RedisCache
from chatkeep.turns.service import Turns
from chatkeep.turns.watchdog import Watchdog
from chatkeep.web import access_log, auth, headers, problems
from chatkeep.web.application import Application
from chatkeep.web.origins import Origins
from chatkeep.web.routes import (
    admin,
    audit,
    chat,
    conversations,
    end_users,
    exports,
    health,
    imports,
    jobs,
    keys,
    metrics,
    oidc,
    pages,
    sharing,
    sign_in,
    usage,
)
from chatkeep.web.services import EXTENSION, Services

log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
# Response headers that pages of other origins may read, besides the CORS-safelisted ones (Fetch Standard §3.3.3).
EXPOSED = (
    "Accept-Ranges", "Allow", "Content-Disposition", "Content-Encoding", "Content-Range", "ETag", "Location",
    "RateLimit", "RateLimit-Policy", "Repr-Digest", "Retry-After", "WWW-Authenticate", "X-Request-Id",
)  # fmt: skip
DEMO_NOTICE = (
    "no provider is configured: the offline demo model answers;"
    " set OPENAI_API_KEY (and OPENAI_BASE_URL, CHATKEEP_MODEL) to talk to a real one"
)


def create_app(settings: Settings, provider: Provider | None = None) -> Flask:
    """Return the WSGI application of one server process; its threads and connections live until the process exits.

    ``provider`` replaces the one of the settings, for example by `OpenAISdk` with a client of the embedding program.
    Raises `SettingsError` if the database is unusable, or if the server would be open to everyone.
    """
    services = start_services(settings, provider, makes_exports=settings.export_jobs)
    require_keys(settings, services.database)
    app = Application("chatkeep", settings.prefix, settings.public_url)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.url_map.strict_slashes = False
    app.extensions[EXTENSION] = services
    if settings.access_log:
        access_log.register(app)
    app.before_request(partial(_check_origin, Origins.of(settings, services.access.is_open)))
    app.after_request(headers.protect)
    app.after_request(metrics.count_request)
    problems.register(app)
    _register_routes(app)
    auth.register(app)
    app.index_routes()
    _allow_origins(app, settings)
    return app


def start_services(settings: Settings, provider: Provider | None, *, makes_exports: bool) -> Services:
    """Open the database and start the background services; ``makes_exports`` also runs export jobs.

    Raises `SettingsError` if the database is unusable.
    """
    logs.start(settings.log_level, settings.log_format, settings.log_file)
    redaction = Redaction.from_settings(settings)
    files.require_folder(settings.exports_dir)
    database = migrations.opened(settings.database)
    journal = Journal(database)
    journal.write(lambda connection: idempotency.expire(connection, now_us(), ROWS))
    registry, usage = Registry(), UsageAggregator()
    provider = _wrapped(provider or _provider(settings, _reader(journal)), settings, registry, redaction)
    cache = _cache(settings, journal)
    access = Access(database, journal, is_private=settings.is_private)
    retention, quota = Retention.of(settings), StorageQuota.of(settings)
    limiter = Limiter(settings.limits, settings.prices, journal, usage, _windows(settings, journal), quota)
    turns = Turns(settings, database, journal, provider, cache, limiter, registry, policy=redaction.input)
    watchdog = Watchdog(settings, database, journal, access, turns, registry, usage)
    worker_id = turns.worker_id
    upkeep = database.for_upkeep()
    sweeper = Sweeper(
        upkeep, journal, worker_id, registry, interval=settings.sweep_interval, kept=retention, quota=quota
    )
    export_worker = ExportWorker(upkeep, journal, worker_id, settings, redaction, makes=makes_exports)
    flusher = MetricsFlusher(upkeep, journal, worker_id, registry, usage)
    tokens, oidc_client = Tokens(settings.end_user_tokens), Oidc(settings)
    eraser = Eraser(upkeep, journal, cache, limiter, settings.exports_dir)
    services = Services(
        settings, database, journal, access, tokens, oidc_client, provider, cache, limiter, turns, watchdog, sweeper,
        export_worker, registry, flusher, redaction, eraser, LoopMonitor(registry),
    )  # fmt: skip
    atexit.register(services.close)
    return services


def eraser_of(settings: Settings, database: Database, journal: Journal) -> Eraser:
    """Return an eraser for the command line, which runs beside the servers. Raises `SettingsError`."""
    limiter = Limiter(settings.limits, settings.prices, journal, UsageAggregator(), _windows(settings, journal))
    return Eraser(database, journal, _cache(settings, journal), limiter, settings.exports_dir)


def _cache(settings: Settings, journal: Journal) -> Cache:
    local = MemoryCache(settings.cache_size, settings.cache_ttl)
    if settings.redis_url is None or not settings.cache_size:
        return local
    with _redis_installed():
        number = journal.write(identity.number)
        return RedisCache(settings.redis_url, number, local, settings.cache_ttl, rules_of(settings))


def _windows(settings: Settings, journal: Journal) -> RedisWindows | None:
    """Return the windows of rate limits in Redis, or None to count in the database."""
    if settings.redis_url is None:
        return None
    with _redis_installed():
        return RedisWindows(settings.redis_url, journal.write(identity.number))


@contextmanager
def _redis_installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            [_("REDIS_URL: the package redis is missing; run: pip install 'chatkeep[redis]'")]
        ) from error


def _reader(journal: Journal) -> Reader:
    """Return the reader of provider sockets; on an event loop it reads all of them before each transaction."""
    if not EpollReader.is_possible():
        return BlockingReader()
    reader = EpollReader(journal.wake)
    journal.collect = reader.collect
    return reader


def _provider(settings: Settings, reader: Reader) -> Provider:
    if settings.demo:
        log.warning(DEMO_NOTICE)
        return DemoProvider()
    return OpenAIHttp.from_settings(settings, reader)


def _wrapped(provider: Provider, settings: Settings, registry: Registry, redaction: Redaction) -> Provider:
    """Add timeouts, retries and the circuit breaker to a provider, and redaction if it is configured."""
    resilient = ResilientProvider(provider, settings.first_token_timeout, registry)
    if redaction.input or redaction.output:
        return RedactingProvider(resilient, prompt_policy=redaction.input, reply_policy=redaction.output)
    return resilient


def _register_routes(app: Flask) -> None:
    documented = [
        chat.routes,
        conversations.routes,
        sharing.routes,
        exports.routes,
        imports.routes,
        jobs.routes,
        end_users.routes,
        keys.routes,
        sign_in.routes,
        health.routes,
        admin.routes,
        audit.routes,
        usage.routes,
        pages.routes,
    ]
    for routes in documented:
        app.register_blueprint(routes.blueprint)
    app.register_blueprint(pages.pages)
    app.register_blueprint(admin.page)
    app.register_blueprint(oidc.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.extensions[pages.DOCUMENT] = [operation for routes in documented for operation in routes.operations]


def _allow_origins(app: Flask, settings: Settings) -> None:
    """Enable CORS for the configured origins."""
    if not settings.cors_origins:
        return
    from flask_cors import CORS  # noqa: PLC0415 - only if configured

    # flask-cors takes text with a bracket, such as http://[::1]:3000, for a regular expression.
    origins = [origin if origin == "*" else re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins]
    CORS(app, resources=r"/(api|health|openapi).*", origins=origins, expose_headers=list(EXPOSED))


def _check_origin(origins: Origins) -> None:
    """Set the request's id, the caller's if it is valid; then check the Host and Origin headers."""
    environ = request.environ  # cheaper than request.headers, which catches an exception for a missing header
    sent = environ.get("HTTP_X_REQUEST_ID", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else os.urandom(16).hex()
    logs.request_id.set(g.request_id)
    origins.check(environ, request.url_rule.rule if request.url_rule else "")
