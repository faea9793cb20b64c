"""The access log: a line for each request at the end of its response."""

from __future__ import annotations

import logging
import time
from functools import partial

from flask import Flask, Response, g, request

from chatkeep.web.routes.metrics import route_of

log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Log every request of an application. Call it before registering anything that may reject requests."""
    app.before_request(_start_timer)
    app.after_request(_log_at_end)


def _start_timer() -> None:
    g.begun = time.monotonic()


def _log_at_end(response: Response) -> Response:
    # The route's rule, not the path: a path may contain the token of a share, or what a user typed.
    fields = {"method": request.method, "route": route_of(request), "status": response.status_code}
    response.call_on_close(partial(_log, fields, g.begun, g.get("request_id", "")))
    return response


def _log(fields: dict[str, object], begun: float, request_id: str) -> None:
    full = fields | {"seconds": round(time.monotonic() - begun, 3), "request_id": request_id}
    log.info(
        "%s %s %s %.3f s %s",
        fields["method"], fields["route"], fields["status"], full["seconds"], request_id, extra={"fields": full},
    )  # fmt: skip
