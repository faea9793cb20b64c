"""Fail with a quotation in the main thread, in another thread and, with ``gevent``, in a greenlet."""

from __future__ import annotations

import importlib
import sys
import threading


def fail() -> None:
    """Raise an error that quotes the second argument."""
    raise ValueError(sys.argv[2])


def run(target: object) -> None:
    """Run a function in a thread."""
    thread = threading.Thread(target=target)  # type: ignore[arg-type]
    thread.start()
    thread.join()


if __name__ == "__main__":
    gevent = importlib.import_module("gevent") if sys.argv[1] == "gevent" else None
    if gevent:
        importlib.import_module("gevent.monkey").patch_all()
    importlib.import_module("chatkeep.runtime.logs").catch_uncaught()
    run(fail)
    run(sys.exit)
    if gevent:
        gevent.spawn(fail).join()
    raise LookupError(sys.argv[2])
