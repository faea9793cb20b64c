"""Give a folder whose tests share servers or a browser to one process, and other tests file by file.

A plugin of `./dev test`, for `--dist loadfile`. Otherwise each process starts all servers of such a folder, and even
idle servers take CPU time.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Those first that take longest.
SHARING = ("http", "browser", "auth", "cli")


class Folders(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
    """xdist's own schedule of files, but for those folders."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the name of what stays in one process."""
        file = PurePosixPath(super()._split_scope(nodeid))
        return str(file.parent if file.parent.name in SHARING else file)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Folders:
    """Take the place of xdist's own."""
    return Folders(config, log)
