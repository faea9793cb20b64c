"""The short form of the suite: a test that can run on several servers or databases runs on one of them.

A plugin of `./dev test`, which `./dev test --all` does without. A test that is marked `everywhere` runs on each of its
servers and databases in both forms.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable

import pytest

from tests.servers import PAIRS

# Their tests come in by the front door. The other folders have the tests of what servers or databases do differently,
# such as `store`, or their tests take no time.
FOLDERS = ("access", "commands", "faults", "http", "imports")
DATABASES = {database for _, database in PAIRS}


def pytest_report_header() -> str:
    """Say how to run the other form."""
    return "short form: `./dev test --all` runs each test on all of its servers and databases"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that this form does without."""
    out = left_out(items)
    config.hook.pytest_deselected(items=[item for item in items if item in out])
    items[:] = [item for item in items if item not in out]


def left_out(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return all but one of the tests that differ in their place only.

    Which one stays depends on the name, so that each place gets its share, and a new test moves no other one.
    """
    alike = defaultdict(list)
    for item in items:
        if item.path.parent.name in FOLDERS and not item.get_closest_marker("everywhere"):
            alike[name_without_place(item)].append(item)
    return {
        item
        for name, tests in alike.items()
        for index, item in enumerate(tests)
        if index != zlib.crc32(name.encode()) % len(tests)
    }


def name_without_place(item: pytest.Item) -> str:
    """Return a test's name without its database, or without its server and the server's database."""
    name, _, parameters = item.nodeid.partition("[")
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        place = value if isinstance(value, tuple) else str(value).split("-")
        if len(place) <= len(("command", "database")) and place[-1] in DATABASES:
            parameters = parameters.replace("-".join(place), "", 1)
    return name + parameters
