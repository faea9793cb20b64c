"""How Flask's own server answers a connection, for `python app.py`."""

from __future__ import annotations

from typing import Any

from werkzeug.serving import WSGIRequestHandler


class Answering(WSGIRequestHandler):
    """Answers as the production servers do, with keep-alive and chunked streams, and logs no more than they may."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002 - Werkzeug's signature
        """Log a request without its query, which may hold what people search for."""
        path = getattr(self, "path", "").partition("?")[0]
        self.log("info", "%s %r %s", self.command or "-", path, getattr(code, "value", code))

    def log_error(self, format: str, *args: Any) -> None:  # noqa: ARG002 - Werkzeug's signature
        """Log that a request could not be read, and nothing of it."""
        self.log("error", "a request could not be read")
