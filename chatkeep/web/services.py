"""The services of a server process, which the factory creates and the routes call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app, g

from chatkeep.auth.access import Access, Caller
from chatkeep.auth.oidc import Oidc
from chatkeep.auth.tokens import Tokens
from chatkeep.config.settings import Settings
from chatkeep.domain.audit import Actor
from chatkeep.exports.worker import ExportWorker
from chatkeep.limiting.limiter import Limiter
from chatkeep.provider import Provider
from chatkeep.redaction.policies import Redaction
from chatkeep.reporting.flusher import MetricsFlusher
from chatkeep.retention.erasure import Eraser
from chatkeep.retention.sweeper import Sweeper
from chatkeep.runtime.loop_monitor import LoopMonitor
from chatkeep.runtime.metrics import Registry
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.turns.cache import Cache
from chatkeep.turns.service import Turns
from chatkeep.turns.watchdog import Watchdog

EXTENSION = "chatkeep"
# How long a stopping process waits until its replies are stored.
CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one server process."""

    settings: Settings
    database: Database
    journal: Journal
    access: Access
    tokens: Tokens
    oidc: Oidc
    provider: Provider
    cache: Cache
    limiter: Limiter
    turns: Turns
    watchdog: Watchdog
    sweeper: Sweeper
    export_worker: ExportWorker
    registry: Registry
    flusher: MetricsFlusher
    redaction: Redaction
    eraser: Eraser
    loop_monitor: LoopMonitor

    def close(self) -> None:
        """Stop all threads, store pending changes and release all resources. Calling it twice has no effect."""
        deadline = time.monotonic() + CLOSE_S
        self.turns.interrupt_all()
        self.export_worker.close()
        while self.turns.live and time.monotonic() < deadline:
            time.sleep(0.05)
            self.turns.interrupt_all()
        self.sweeper.close()
        self.watchdog.close()
        self.flusher.close()
        self.journal.close()
        self.provider.close()
        self.database.close()
        self.loop_monitor.close()


def services() -> Services:
    """Return the services of the server that handles this request."""
    return services_of(current_app)


def services_of(app: Flask) -> Services:
    """Return the services of an application."""
    return cast("Services", app.extensions[EXTENSION])


def caller() -> Caller:
    """Return the caller of this request. The route must require a scope."""
    return cast("Caller", g.caller)


def actor() -> Actor:
    """Return the caller of this request as an actor in the audit log."""
    return caller().actor(g.request_id)


def owner() -> str:
    """Return the owner whose data this request may access."""
    return caller().owner
