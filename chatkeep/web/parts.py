"""What the routes call: the parts of the server that the factory put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from chatkeep.provider import Provider
from chatkeep.settings import Settings
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.turns import Turns

EXTENSION = "chatkeep"
# Until keys exist everybody who reaches the server is this owner.
OPEN_OWNER = "local"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one server process."""

    settings: Settings
    database: Database
    journal: Journal
    provider: Provider
    turns: Turns


def parts() -> Parts:
    """Return the parts of the server that serves this request."""
    return cast("Parts", current_app.extensions[EXTENSION])


def owner() -> str:
    """Return whom this request speaks for."""
    return OPEN_OWNER
