"""From values to responses."""

from __future__ import annotations

import msgspec
from flask import Response


def rendered(shape: msgspec.Struct, status: int = 200) -> Response:
    """Return the JSON response of a shape."""
    return Response(msgspec.json.encode(shape), status, mimetype="application/json")
