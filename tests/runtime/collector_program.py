"""Start chatkeep as a server, a command or gunicorn's master, and print the thresholds of the garbage collector."""

from __future__ import annotations

import gc
import importlib
import sys

if __name__ == "__main__":
    if sys.argv[1] == "command":
        importlib.import_module("chatkeep.cli").main(["migrate"], standalone_mode=False)
    else:
        importlib.import_module({"server": "app", "master": "chatkeep.server.gunicorn_conf"}[sys.argv[1]])
    print(gc.get_threshold())  # noqa: T201 - the output of this program
