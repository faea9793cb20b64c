"""The only place where the services are wired together."""

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
from chatkeep.limiting.aggregator import UsageAggregator
from chatkeep.limiting.limiter import Limiter, RedisWindows
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
# What pages of other origins may read beside the headers that every page may (Fetch Standard, section 3.3.3).
EXPOSED = (
    "Accept-Ranges", "Allow", "Content-Disposition", "Content-Encoding", "Content-Range", "ETag", "Location",
    "RateLimit", "RateLimit-Policy", "Repr-Digest", "Retry-After", "WWW-Authenticate", "X-Request-Id",
)  # fmt: skip
DEMO_NOTICE = (
    "no provider is configured: the offline demo model answers;"
    " set OPENAI_API_KEY (and OPENAI_BASE_URL, CHATKEEP_MODEL) to talk to a real one"
)


def create_app(settings: Settings, provider: Provider | None = None) -> Flask:
    """Return the WSGI application of one server process; it owns its threads and connections until the process ends.

    ``provider`` replaces the one that the settings describe, such as `OpenAISdk` around a client of the caller's own.
    Raises `SettingsError` where the database cannot serve, or anybody could come in.
    """
    services = start_services(settings, provider, makes_exports=settings.export_jobs)
    require_keys(settings, services.database)
    app = Application("chatkeep", settings.prefix, settings.public_url)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.url_map.strict_slashes = False
    app.extensions[EXTENSION] = services
    if settings.access_log:
        access_log.register(app)
    app.before_request(partial(_admit, Origins.of(settings, services.access.is_open)))
    app.after_request(headers.protect)
    app.after_request(metrics.count_request)
    problems.register(app)
    _register_routes(app)
    auth.register(app)
    app.index_routes()
    _allow_origins(app, settings)
    return app


def start_services(settings: Settings, provider: Provider | None, *, makes_exports: bool) -> Services:
    """Open the database and start what runs beside the requests; with ``makes_exports`` also the export jobs.

    Raises `SettingsError` where the database cannot serve.
    """
    logs.start(settings.log_level, settings.log_format, settings.log_file)
    redaction = Redaction.from_settings(settings)
    files.require_folder(settings.exports_dir)
    database = migrations.opened(settings.database)
    journal = Journal(database)
    journal.write(lambda connection: idempotency.expire(connection, now_us(), ROWS))
    registry, usage = Registry(), UsageAggregator()
    calling = provider or _provider(settings, _reader(journal))
    answering: Provider = ResilientProvider(calling, settings.first_token_timeout, registry)
    if redaction.input or redaction.output:
        answering = RedactingProvider(answering, asking=redaction.input, answering=redaction.output)
    cache = _cache(settings, journal)
    access = Access(database, journal, is_private=settings.is_private)
    limiter = Limiter(settings.limits, settings.prices, journal, usage, _windows(settings, journal))
    turns = Turns(settings, database, journal, answering, cache, limiter, registry, policy=redaction.input)
    watchdog = Watchdog(settings, database, journal, access, turns, registry, usage)
    me = turns.worker_id
    beside = database.for_upkeep()
    kept, quota = Retention.of(settings), StorageQuota.of(settings)
    sweeper = Sweeper(beside, journal, me, registry, interval=settings.sweep_interval, kept=kept, quota=quota)
    export_worker = ExportWorker(beside, journal, me, settings, redaction, makes=makes_exports)
    flusher = MetricsFlusher(beside, journal, me, registry, usage)
    tokens, signing_in = Tokens(settings.end_user_tokens), Oidc(settings)
    eraser = Eraser(beside, journal, cache, limiter, settings.exports_dir)
    services = Services(
        settings, database, journal, access, tokens, signing_in, answering, cache, limiter, turns, watchdog, sweeper,
        export_worker, registry, flusher, redaction, eraser, LoopMonitor(registry),
    )  # fmt: skip
    atexit.register(services.close)
    return services


def eraser_of(settings: Settings, database: Database, journal: Journal) -> Eraser:
    """Return what erases end users beside the servers, for the command line. Raises `SettingsError`."""
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
    """Return where limits are counted, if not in the database."""
    if settings.redis_url is None:
        return None
    with _redis_installed():
        return RedisWindows(settings.redis_url, journal.write(identity.number))


@contextmanager
def _redis_installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(["REDIS_URL: the package redis is missing; run: pip install 'chatkeep[redis]'"]) from error


def _reader(journal: Journal) -> Reader:
    """Return how sockets are read: on an event loop all at once, before each of the journal's transactions."""
    if not EpollReader.is_possible():
        return BlockingReader()
    gathered = EpollReader(journal.wake)
    journal.collect = gathered.collect
    return gathered


def _provider(settings: Settings, reader: Reader) -> Provider:
    if settings.demo:
        log.warning(DEMO_NOTICE)
        return DemoProvider()
    return OpenAIHttp.from_settings(settings, reader)


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
    """Let pages of the configured origins call the API."""
    if not settings.cors_origins:
        return
    from flask_cors import CORS  # noqa: PLC0415 - only where it is asked for

    # flask-cors takes what holds a bracket, such as http://[::1]:3000, for an expression.
    origins = [origin if origin == "*" else re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins]
    CORS(app, resources=r"/(api|health|openapi).*", origins=origins, expose_headers=list(EXPOSED))


def _admit(origins: Origins) -> None:
    """Take the caller's request id where it is sound, or make one; then see whether the request may come in."""
    environ = request.environ  # Werkzeug raises and catches an exception for a header that is missing
    named = environ.get("HTTP_X_REQUEST_ID", "")
    g.request_id = named if _REQUEST_ID.fullmatch(named) else os.urandom(16).hex()
    logs.request_id.set(g.request_id)
    origins.check(environ, request.url_rule.rule if request.url_rule else "")
