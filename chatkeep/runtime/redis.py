"""A client for an optional Redis: after a failure it pauses for a few seconds, and callers go on without it."""

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
    """Redis refused a command."""


class RedisClient:
    """A client for one part of the server. Raises `ImportError` without the extra `redis`."""

    def __init__(self, url: str, part: str, timeout_s: float = TIMEOUT_S) -> None:
        from redis import Redis  # noqa: PLC0415 - an extra

        self._redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._part = part
        self._silent_until = 0.0
        self._failing: set[str] = set()
        """Commands whose last try failed."""

    def ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Run a command; return None if Redis is unavailable."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            found = self.demand(command, *arguments, **options)
        except OSError as error:
            # Log once, not at every pause: a replica or a full Redis refuses writes and still answers reads.
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
        """Run a command; return None if the key has another type. Raises `OSError` if Redis fails or refuses."""
        from redis import RedisError, ResponseError  # noqa: PLC0415

        try:
            return getattr(self._redis, command)(*arguments, **options)
        except ResponseError as error:
            if str(error).startswith(OTHER_TYPE):
                return None
            raise Refused(str(error)) from error
        except RedisError as error:
            raise ConnectionError(str(error)) from error
