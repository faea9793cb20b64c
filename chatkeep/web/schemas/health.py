"""The JSON of health."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Availability = Literal["ok", "unavailable"]


class CacheHealth(Struct):
    """How this process's cache has served since it began."""

    hits: int
    misses: int
    entries: int
    bytes: int


class Health(Struct):
    """How the server is."""

    status: Availability
    version: str
    provider: str
    model: str
    database: Availability
    cache: CacheHealth


class Alive(Struct):
    """The process is up."""

    status: Literal["ok"] = "ok"
