"""A Redis that is a help and not a need: where it does not answer it is left alone for a while."""

from __future__ import annotations

import logging
import time
from typing import Any

from chatkeep.logs import named

log = logging.getLogger(__name__)

TIMEOUT_S = 0.25
PAUSE_S = 5.0
PING_TIMEOUT_S = 2.0


class RedisClient:
    """Asks a Redis for one part of the server. Raises `ImportError` without the extra for it."""

    def __init__(self, url: str, part: str) -> None:
        # Only where it is asked for: the package is an extra.
        from redis import Redis  # noqa: PLC0415

        self._redis = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._part = part
        self._silent_until = 0.0

    def ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Return what Redis answers; None where it does not."""
        from redis import RedisError  # noqa: PLC0415

        if time.monotonic() < self._silent_until:
            return None
        try:
            return getattr(self._redis, command)(*arguments, **options)
        except (RedisError, OSError) as error:
            log.warning("Redis does not answer, %s without: %s", self._part, named(error))
            self._silent_until = time.monotonic() + PAUSE_S
            return None


def ping(url: str) -> None:
    """Ask a Redis whether it answers. Raises `OSError` where it does not, `ImportError` without the extra for it."""
    from redis import Redis, RedisError  # noqa: PLC0415

    try:
        with Redis.from_url(url, socket_timeout=PING_TIMEOUT_S, socket_connect_timeout=PING_TIMEOUT_S) as asked:
            asked.ping()
    except (RedisError, ValueError) as error:
        raise ConnectionError(str(error)) from error
