"""A configuration of gunicorn for tests: a request with the query ``count`` logs how many objects form cycles."""

from __future__ import annotations

import gc
from typing import Any

from chatkeep.server.gunicorn_conf import *  # noqa: F403 - gunicorn reads the names of this module


def post_worker_init(_worker: Any) -> None:
    """Turn the collector off. The worker has frozen all earlier objects, so only later ones count."""
    gc.disable()


def post_request(_worker: Any, req: Any, _environ: Any, _response: Any) -> None:
    """Log how many objects only the collector could free."""
    if req.query == "count":
        print("garbage:", gc.collect(), flush=True)  # noqa: T201 - the log of the server
