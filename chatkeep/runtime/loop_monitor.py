"""Log the stack when the event loop is blocked, because that stops every stream of the process."""

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
HEARTBEAT_S = 0.1
STALL_S = 1.0


class LoopMonitor:
    """Watch this process's event loop, if it has one, from a native thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._closed = False
        self._heartbeat = math.inf  # until the event loop runs
        if on_event_loop():
            background(self._send_heartbeats, name="heartbeat")
            native_thread(self._watchdog, sys.modules["gevent"].get_hub().thread_ident)

    def close(self) -> None:
        """Stop watching."""
        self._closed = True

    def _send_heartbeats(self) -> None:
        while not self._closed:
            self._heartbeat = time.monotonic()
            time.sleep(HEARTBEAT_S)

    def _watchdog(self, loop_thread: int) -> None:
        last = math.nan  # the last heartbeat before a stall
        while not self._closed:
            native_sleep(HEARTBEAT_S)
            beat, now = self._heartbeat, time.monotonic()
            if beat != last and now - beat > STALL_S:
                last = beat
                self._registry.count(LOOP_STALLS)
                places = "\n".join(_stack(sys._current_frames().get(loop_thread)))  # noqa: SLF001 - Python has no other way
                log_immediately(
                    log, logging.ERROR, f"the event loop stands still for more than {STALL_S:g} s:\n{places}"
                )
            elif beat > last:
                log_immediately(log, logging.ERROR, f"the event loop goes on after {beat - last:.1f} s")
                last = math.nan


def _stack(frame: FrameType | None) -> Iterator[str]:
    """Yield the stack of a thread, the innermost frame first."""
    while frame is not None:
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
