"""Routes that tell how the server is."""

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
# A database that takes longer for nothing is not available.
PROBE_S = 2.0


@routes.route("GET", "/health", tag="health", scopes=PUBLIC, answers={200: schemas.Health, 503: schemas.Health})
def health() -> Response:
    """Tell how the server is."""
    try:
        services().journal.probe(PROBE_S)
    except StoreProblem:
        return rendered(_health("unavailable"), 503)
    return rendered(_health("ok"))


@routes.route("GET", "/health/live", tag="health", scopes=PUBLIC, answers={200: schemas.Alive})
def health_live() -> Response:
    """Tell that the process is up."""
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
    """Tell whether the database can be written; the provider is not called.

    A row is written and rolled back, and the last transaction of the process has to be stored.
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
