"""Functions of Windows that Wine lacks. This file is in the folder of the Windows Python's modules."""

from __future__ import annotations

import _winapi

if hasattr(_winapi, "CopyFile2"):  # Wine 8 has none; without it Python copies in its own way
    del _winapi.CopyFile2

try:
    import apsw
except ImportError:  # it is being installed
    pass
else:

    class Connection(apsw.Connection):
        """Polls for a lock, as SQLite did before 3.50. Wine never wakes the later way to wait."""

        def set_busy_timeout(self, milliseconds: int) -> None:
            super().set_busy_timeout(milliseconds)
            self.setlk_timeout(0, 0)

    apsw.Connection = Connection  # type: ignore[misc]
