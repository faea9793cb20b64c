"""The short form of the suite: a test for several servers or databases runs on one of them.

A plugin of `./dev test`, which `./dev test --all` does without. A test that is marked `everywhere` runs on each of its
servers and databases in both forms.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from tests.servers import PAIRS

# Tests of other folders are about differences of servers or databases, or are fast.
FOLDERS = ("auth", "cli", "faults", "http", "imports", "store")
DATABASES = {database for _, database in PAIRS}


def pytest_report_header() -> str:
    """Say how to run the long form."""
    return "short form: `./dev test --all` runs each test on all of its servers and databases"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that only the long form runs."""
    out = left_out(items)
    config.hook.pytest_deselected(items=[item for item in items if item in out])
    items[:] = [item for item in items if item not in out]


def left_out(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return all but one of the tests that differ only in their server or database.

    Which one stays depends on the name, so that each place gets its share, and a new test moves no other one. Tests
    that share what a module starts in each place depend on its name: then it is started in one place only.
    """
    alike = defaultdict(list)
    for item in items:
        if item.path.parent.name in FOLDERS and not item.get_closest_marker("everywhere"):
            alike[name_without_place(item)].append(item)
    return {
        item
        for name, tests in alike.items()
        for index, item in enumerate(tests)
        if index != zlib.crc32((started_by_module(item) or name).encode()) % len(tests)
    }


def name_without_place(item: pytest.Item) -> str:
    """Return a test's name without its database, or without its server and database."""
    name, _, parameters = item.nodeid.partition("[")
    for place in places(item).values():
        parameters = parameters.replace(place, "", 1)
    return name + parameters


def started_by_module(item: pytest.Item) -> str | None:
    """Return the name of the module's fixture that chooses the server or database, if any."""
    fixtures: Any = getattr(item, "_fixtureinfo", None)  # pytest has no public API for this
    for name in places(item):
        if fixtures.name2fixturedefs[name][-1].scope == "module":
            return f"{item.path.name} {name}"
    return None


def places(item: pytest.Item) -> dict[str, str]:
    """Return the parameters that are a database, or a server and its database, as in the test's id."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params.items() if callspec else ()
    found = {name: "-".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in parameters}
    return {name: text for name, text in found.items() if DATABASES & {text, text.partition("-")[2]}}
