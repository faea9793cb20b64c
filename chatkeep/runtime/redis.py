"""A Redis that is a help and not a need: while it cannot be used, it is left alone for a few seconds at a time."""

from __future__ import annotations

import logging
import time
from typing import Any

from chatkeep.runtime.logs import named

log = logging.getLogger(__name__)

TIMEOUT_S = 0.25
PAUSE_S = 5.0
OTHER_TYPE = "WRONGTYPE"


class Refused(ConnectionError):
    """Redis answers, and does not do what it is asked to."""


class RedisClient:
    """Asks a Redis for one part of the server. Raises `ImportError` without the extra for it."""

    def __init__(self, url: str, part: str, timeout_s: float = TIMEOUT_S) -> None:
        # Only where it is asked for: the package is an extra.
        from redis import Redis  # noqa: PLC0415

        self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._part = part
        self._silent_until = 0.0
        self._failing: set[str] = set()
        """Commands that failed when they were last tried."""

    def ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Return what Redis answers; None if it cannot be used."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            found = self.demand(command, *arguments, **options)
        except OSError as error:
            # Once, and not at every pause: a replica, or a full Redis, refuses writes and goes on answering.
            if not self._failing:
                how = "refuses" if isinstance(error, Refused) else "does not answer"
                log.warning("Redis %s, %s without: %s", how, self._part, named(error))
            self._failing.add(command)
            self._silent_until = time.monotonic() + PAUSE_S
            return None
        if command in self._failing:
            self._failing.remove(command)
            if not self._failing:
                log.info("Redis can be used again")
        return found

    def demand(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Return what Redis answers; None if a key holds a value of another type. Raises `OSError` if it refuses."""
        from redis import RedisError, ResponseError  # noqa: PLC0415

        try:
            return getattr(self._redis, command)(*arguments, **options)
        except ResponseError as error:
            if str(error).startswith(OTHER_TYPE):
                return None
            raise Refused(str(error)) from error
        except RedisError as error:
            raise ConnectionError(str(error)) from error
