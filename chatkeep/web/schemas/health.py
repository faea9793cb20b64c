"""The JSON of health."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Availability = Literal["ok", "unavailable"]


class CacheHealth(Struct):
    """The cache of this process since it started."""

    hits: int
    misses: int
    entries: int
    bytes: int


class Health(Struct):
    """The server's health."""

    status: Availability
    version: str
    provider: str
    model: str
    database: Availability
    cache: CacheHealth


class Alive(Struct):
    """The process runs."""

    status: Literal["ok"] = "ok"
