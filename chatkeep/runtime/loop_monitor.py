"""A native thread that tells where an event loop stands still: whatever blocks it stops every stream of the process."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from types import FrameType

from chatkeep.runtime.concurrency import background, native_sleep, native_thread, on_event_loop
from chatkeep.runtime.logs import log_immediately
from chatkeep.runtime.metrics import LOOP_STALLS, Registry

log = logging.getLogger(__name__)
BEAT_S = 0.1
STALL_S = 1.0


class LoopMonitor:
    """Watches the event loop of this process, where it has one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._closed = False
        self._beat = math.inf  # until the loop runs
        if on_event_loop():
            background(self._keep_beating, name="beat")
            native_thread(self._watchdog, sys.modules["gevent"].get_hub().thread_ident)

    def close(self) -> None:
        """Stop watching."""
        self._closed = True

    def _keep_beating(self) -> None:
        while not self._closed:
            self._beat = time.monotonic()
            time.sleep(BEAT_S)

    def _watchdog(self, loop_thread: int) -> None:
        last = math.nan  # the last beat before a stall
        while not self._closed:
            native_sleep(BEAT_S)
            beat, now = self._beat, time.monotonic()
            if beat != last and now - beat > STALL_S:
                last = beat
                self._registry.count(LOOP_STALLS)
                places = "\n".join(_places(sys._current_frames().get(loop_thread)))  # noqa: SLF001 - there is no other way
                log_immediately(
                    log, logging.ERROR, f"the event loop stands still for more than {STALL_S:g} s:\n{places}"
                )
            elif beat > last:
                log_immediately(log, logging.ERROR, f"the event loop goes on after {beat - last:.1f} s")
                last = math.nan


def _places(frame: FrameType | None) -> Iterator[str]:
    """Yield where a thread is, the innermost place first, in the code's own words."""
    while frame is not None:
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
