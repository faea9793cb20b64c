"""Routes that report the server's health."""

from __future__ import annotations

from flask import Blueprint, Response

from chatkeep import __version__
from chatkeep.errors import (
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseTimeout,
    StoreProblem,
    StoreUnavailable,
)
from chatkeep.web.auth import PUBLIC
from chatkeep.web.openapi import Routes
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import health as schemas
from chatkeep.web.services import services

routes = Routes(Blueprint("health", __name__))
# A slower database counts as unavailable.
PROBE_S = 2.0


@routes.route("GET", "/health", tag="health", scopes=PUBLIC, answers={200: schemas.Health, 503: schemas.Health})
def health() -> Response:
    """Report server health."""
    try:
        services().journal.probe(PROBE_S)
    except StoreProblem:
        return rendered(_health("unavailable"), 503)
    return rendered(_health("ok"))


@routes.route("GET", "/health/live", tag="health", scopes=PUBLIC, answers={200: schemas.Alive})
def health_live() -> Response:
    """Report that the process runs (liveness)."""
    return rendered(schemas.Alive())


@routes.route(
    "GET",
    "/health/ready",
    tag="health",
    scopes=PUBLIC,
    answers={200: schemas.Alive},
    raises=(StoreUnavailable, DatabaseTimeout, DatabaseReadOnly, DatabaseFull, DatabaseRefused),
)
def health_ready() -> Response:
    """Report whether the database is writable (readiness).

    The check writes a row and rolls back. It also fails if the process's last transaction was not stored. It doesn't
    call the provider.
    """
    services().journal.probe(PROBE_S)
    return rendered(schemas.Alive())


def _health(database: schemas.Availability) -> schemas.Health:
    provider, counts = services().provider, services().cache.counts()
    return schemas.Health(
        status=database,
        version=__version__,
        provider=provider.name,
        model=provider.default_model,
        database=database,
        cache=schemas.CacheHealth(counts.hits, counts.misses, counts.entries, counts.bytes),
    )
