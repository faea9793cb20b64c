"""Run Python as a service that systemd activated: `as_systemd.py DESCRIPTOR ARGUMENTS`.

systemd passes a socket as descriptor 3, and the id of the process that gets it.
"""

from __future__ import annotations

import os
import sys

os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])  # noqa: S606 - the tests' own Python
