"""gunicorn's master process for workers that may drain for minutes; only its configuration and workers import this.

It overrides the arbiter, which is not a public API: gunicorn's own waits for old workers at a reload, and ends all
workers if one can't start. `tests/server/test_gunicorn.py` fails if the arbiter changes.
"""

from __future__ import annotations

import enum
import logging
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NoReturn
from uuid import UUID

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from chatkeep.server import serving as servers

# Blocked while a worker is forked, until it has its own handlers: those that it inherits would lose the signal.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)
# The backoff after a worker failed to start; it doubles with each failure.
BACKOFF_S, MAX_BACKOFF_S = 1, 30
POLL_S = 0.1


def run_in_child(work: Callable[[], None]) -> None:
    """Run ``work`` in a child process, so that workers inherit nothing from it, and wait for it.

    If it fails, which it reports itself, this process exits with its status.
    """
    child = os.fork()
    if not child:
        _exit_after(work)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if status:
        code = os.waitstatus_to_exitcode(status)
        sys.exit(code if code > 0 else 128 - code)  # the shell's convention for a signal


def _exit_after(work: Callable[[], None]) -> NoReturn:
    """Run ``work`` and exit without the parent's cleanup."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status: Any = 1
    try:
        work()
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        logging.getLogger(__name__).exception("could not prepare the database")
    finally:
        logging.shutdown()
        os._exit(status if isinstance(status, int) else 1)


class Stage(enum.IntEnum):
    """A worker's stage, which it shares with its master."""

    STARTING = 0
    SERVING = 1
    RETIRED = 2
    """It accepts no new connections."""
    FAILED = 3
    """It could not start, has reported why, and exits."""


class EndedWorkers:
    """The ids of the last workers that exited, in shared memory: the master writes them, and every worker reads them.

    A killed worker leaves running replies behind. Without the master's report the other workers would need seconds of
    missing heartbeats to tell that it is dead and not just slow.
    """

    CAPACITY = 64
    _SIZE = 16  # bytes of an id

    def __init__(self) -> None:
        self._ids = mmap.mmap(-1, self.CAPACITY * self._SIZE)  # shared with workers that are forked later
        self._count = 0

    def add(self, id: bytes) -> None:
        """Add a worker's id, in place of the oldest one."""
        begin = self._count % self.CAPACITY * self._SIZE
        self._ids[begin : begin + self._SIZE] = id
        self._count += 1

    def read(self) -> set[UUID]:
        """Return the ids."""
        return {UUID(bytes=self._ids[begin : begin + self._SIZE]) for begin in range(0, len(self._ids), self._SIZE)}


ENDED = EndedWorkers()


class Master(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """A master that keeps the configured number of workers serving, in addition to those that drain."""

    WORKERS: dict[int, Any]
    _failures = 0
    """Failed starts since the last successful one."""
    _failed_age = 0
    """gunicorn's `age` of the last worker that failed to start: a serial number, greater for younger workers."""
    _retry_at = 0.0
    _is_announced = False
    _is_stopping = False

    def reload(self) -> None:
        """Start new workers. The old ones serve until the new ones do; then `manage_workers` retires them."""
        for worker in self._workers(Stage.STARTING):
            self.kill_worker(worker.pid, signal.SIGTERM)
        # gunicorn's reload blocks, without handling signals, as long as it sees old workers.
        old, self.WORKERS = self.WORKERS, {}
        try:
            super().reload()
        finally:
            self.WORKERS = old | self.WORKERS

    def manage_workers(self) -> None:
        """Replace workers that exited or drain; retire the oldest ones if too many serve."""
        serving, starting = self._workers(Stage.SERVING), self._workers(Stage.STARTING, Stage.FAILED)
        missing = self.num_workers - len(serving) - len(starting)
        if self._is_proven():
            self._failures = 0
            self._announce()
        else:  # start one at a time, so that a common cause is reported once
            missing = min(missing, 1 - len(starting)) if time.monotonic() >= self._retry_at else 0
        for _ in range(missing):
            self.spawn_worker()
        for worker in serving[: max(0, len(serving) - self.num_workers)]:
            self.kill_worker(worker.pid, signal.SIGTERM)

    def wait_for_signals(self, timeout: float | None = 1.0) -> list[int]:
        """Wait for a signal; only briefly while a worker is starting."""
        signals: list[int] = super().wait_for_signals(timeout if self._is_proven() else POLL_S)
        return signals

    def reap_workers(self) -> None:
        """Reap exited workers. A failed start halts the server only if no worker serves.

        gunicorn's own would halt the serving workers.
        """
        before, status = list(self.WORKERS.values()), 0
        while True:
            try:
                super().reap_workers()
                break
            except HaltServer as halt:
                status = halt.exit_status
        ended = [worker for worker in before if worker.pid not in self.WORKERS]
        for worker in ended:
            ENDED.add(worker.id)
        if any(worker.stage is Stage.FAILED for worker in ended):  # it has reported why
            status = servers.CANNOT_START
        if status and not self._is_stopping:
            self._start_failed(max(worker.age for worker in ended), status)

    def _start_failed(self, age: int, status: int) -> None:
        """Schedule the next start with backoff; halt if no worker serves or starts."""
        serving = len(self._workers(Stage.SERVING))
        if not serving and not self._workers(Stage.STARTING, Stage.FAILED):
            raise HaltServer("no worker can start", status)
        self._failures += 1
        self._failed_age = age
        backoff = min(BACKOFF_S * 2 ** (self._failures - 1), MAX_BACKOFF_S)
        self._retry_at = time.monotonic() + backoff
        self.log.error("A worker failed to start; %s of %s workers serve", serving, self.num_workers)
        if serving < self.num_workers:
            self.log.error("Starting the next worker in %s s", backoff)

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - gunicorn's own
        """Stop the workers."""
        self._is_stopping = True
        super().stop(graceful)

    def _is_proven(self) -> bool:
        """Return whether a worker serves that was started after the last failed one."""
        return any(worker.age > self._failed_age for worker in self._workers(Stage.SERVING))

    def _announce(self) -> None:
        if not self._is_announced:
            self._is_announced = True
            servers.announce(", ".join(map(str, self.LISTENERS)))

    def spawn_worker(self) -> int:
        """Fork a worker, which doesn't miss a signal that comes before it has handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            pid: int = super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return pid

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop the workers and end."""
        try:
            super().halt(reason, exit_status)
        except SystemExit:
            logging.shutdown()
            os._exit(exit_status)  # like workers

    def _workers(self, *stages: Stage) -> list[Any]:
        """Return the workers in these stages, oldest first."""
        return sorted((worker for worker in self.WORKERS.values() if worker.stage in stages), key=attrgetter("age"))
