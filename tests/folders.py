"""Run a folder whose tests share servers or a browser in one process, and other tests file by file.

A plugin of `./dev test`, for `--dist loadfile`. Otherwise each process would start the shared servers of such a folder,
and idle servers also take time.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# The slowest first.
SHARING = ("http", "browser", "auth", "cli")


class Folders(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
    """The schedule of xdist by files, except for those folders."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the scope of tests that stay in one process."""
        file = PurePosixPath(super()._split_scope(nodeid))
        return str(file.parent if file.parent.name in SHARING else file)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Folders:
    """Replace the schedule of xdist."""
    return Folders(config, log)
