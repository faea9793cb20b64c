"""A line in the log for each request, when its response has ended."""

from __future__ import annotations

import logging
import time
from functools import partial

from flask import Flask, Response, g, request

from chatkeep.web.routes.metrics import route_of

log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Log every request of an application; call it before what may refuse requests is registered."""
    app.before_request(_begin)
    app.after_request(_log_at_end)


def _begin() -> None:
    g.begun = time.monotonic()


def _log_at_end(response: Response) -> Response:
    # A path may hold the token of a share, and where no route matched anybody's words: the rule tells enough.
    fields = {"method": request.method, "route": route_of(request), "status": response.status_code}
    response.call_on_close(partial(_log, fields, g.begun, g.get("request_id", "")))
    return response


def _log(fields: dict[str, object], begun: float, request_id: str) -> None:
    told = fields | {"seconds": round(time.monotonic() - begun, 3), "request_id": request_id}
    log.info(
        "%s %s %s %.3f s %s",
        fields["method"], fields["route"], fields["status"], told["seconds"], request_id, extra={"fields": told},
    )  # fmt: skip
