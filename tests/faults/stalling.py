"""chatkeep's application for gunicorn, with additional paths that block the event loop."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app import app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BLOCKS_S = 1.5
inner = app.wsgi_app


def sleep_natively(secret: str) -> None:
    """Block the loop in C, as a database driver does."""
    sys.modules["gevent.monkey"].get_original("time", "sleep")(BLOCKS_S + 0 * len(secret))


def backtrack(secret: str) -> None:
    """Hold the GIL in C, as a backtracking regular expression does."""
    began, length = time.monotonic(), 20
    while time.monotonic() - began < BLOCKS_S:
        length += 1
        re.match(r"(?:a|a)+$", "a" * length + secret)


def count_on(secret: str) -> None:
    """Run Python code."""
    began, found = time.monotonic(), 0
    while time.monotonic() - began < BLOCKS_S:
        found += len(secret)


BLOCKING = {f"/block/{work.__name__}": work for work in (sleep_natively, backtrack, count_on)}


def blocking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Block if the path says so."""
    work = BLOCKING.get(environ["PATH_INFO"])
    if work is None:
        return inner(environ, start_response)
    work(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "0")])
    return []


app.wsgi_app = blocking  # type: ignore[method-assign]  # as Flask's documentation has it
