"""gunicorn's master, for workers that drain for minutes; imported by its configuration and its workers alone."""

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

# What a new worker hears only when it has handlers of its own: its master's, which it inherits, would lose them.
ENDING = (signal.SIGTERM, signal.SIGQUIT)
# How long the next try to start a worker waits, twice as long after each that failed.
WAIT_S, MOST_WAIT_S = 1, 30
LOOK_S = 0.1


def run_in_child(work: Callable[[], None]) -> None:
    """Do what must be done before there are workers, in a process of its own: they inherit nothing of it.

    If it fails, it has said why, and this process ends with its status.
    """
    child = os.fork()
    if not child:
        _end_with(work)
    for number in ENDING:
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    if status:
        code = os.waitstatus_to_exitcode(status)
        sys.exit(code if code > 0 else 128 - code)  # as a shell has it for a signal


def _end_with(work: Callable[[], None]) -> NoReturn:
    """Do the work and end this process, without what its parent would do at its end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status: Any = 1
    try:
        work()
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        logging.getLogger(__name__).exception("the database could not be made ready")
    finally:
        logging.shutdown()
        os._exit(status if isinstance(status, int) else 1)


class Stage(enum.IntEnum):
    """What a worker is doing, as it tells its master."""

    STARTING = 0
    SERVING = 1
    RETIRED = 2
    """It takes no new connections, for whatever reason."""
    FAILED = 3
    """It cannot start, has said why, and ends."""


class Ended:
    """The ids of the last workers that ended: the master writes them, and every worker reads them.

    A worker that was killed leaves replies behind. Without the master's word the others must watch it for seconds to
    know that it is not merely slow.
    """

    KEPT = 64
    _SIZE = 16  # bytes of an id

    def __init__(self) -> None:
        self._ids = mmap.mmap(-1, self.KEPT * self._SIZE)  # shared with the workers, which are forked later
        self._count = 0

    def add(self, id: bytes) -> None:
        """Add a worker's id; the oldest one is forgotten."""
        begin = self._count % self.KEPT * self._SIZE
        self._ids[begin : begin + self._SIZE] = id
        self._count += 1

    def read(self) -> set[UUID]:
        """Return the ids."""
        return {UUID(bytes=self._ids[begin : begin + self._SIZE]) for begin in range(0, len(self._ids), self._SIZE)}


ENDED = Ended()


class Master(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """A master that keeps its number of serving workers, however many old ones drain beside them."""

    WORKERS: dict[int, Any]
    _failures = 0
    """How many workers could not start since the last one that could."""
    _failed_age = 0
    """The age of the last of them; workers that are younger have a greater one."""
    _try_at = 0.0
    _is_announced = False
    _is_stopping = False

    def reload(self) -> None:
        """Start new workers. The old ones serve until these do: `manage_workers` retires them then."""
        for worker in self._workers(Stage.STARTING):
            self.kill_worker(worker.pid, signal.SIGTERM)
        # gunicorn's own waits in here, deaf to every signal, for as long as it sees an old worker.
        old, self.WORKERS = self.WORKERS, {}
        try:
            super().reload()
        finally:
            self.WORKERS = old | self.WORKERS

    def manage_workers(self) -> None:
        """Replace workers that ended or drain, and retire the oldest if more serve than should."""
        serving, starting = self._workers(Stage.SERVING), self._workers(Stage.STARTING, Stage.FAILED)
        missing = self.num_workers - len(serving) - len(starting)
        if self._is_proven():
            self._failures = 0
            self._announce()
        else:  # one alone tries it, so that a reason why none can start is told once
            missing = min(missing, 1 - len(starting)) if time.monotonic() >= self._try_at else 0
        for _ in range(missing):
            self.spawn_worker()
        for worker in serving[: max(0, len(serving) - self.num_workers)]:
            self.kill_worker(worker.pid, signal.SIGTERM)

    def wait_for_signals(self, timeout: float | None = 1.0) -> list[int]:
        """Wait for a signal, and not for long while a worker is awaited."""
        signals: list[int] = super().wait_for_signals(timeout if self._is_proven() else LOOK_S)
        return signals

    def reap_workers(self) -> None:
        """Take note of workers that ended. One that could not start ends the server only if no other worker serves.

        gunicorn's own would end workers that serve, too.
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
        if any(worker.stage is Stage.FAILED for worker in ended):  # it has said why
            status = servers.CANNOT_START
        if status and not self._is_stopping:
            self._note_failure(max(worker.age for worker in ended), status)

    def _note_failure(self, age: int, status: int) -> None:
        """Let the next try wait, or end where there is nothing to wait for."""
        serving = len(self._workers(Stage.SERVING))
        if not serving and not self._workers(Stage.STARTING, Stage.FAILED):
            raise HaltServer("no worker can start", status)
        self._failures += 1
        self._failed_age = age
        wait = min(WAIT_S * 2 ** (self._failures - 1), MOST_WAIT_S)
        self._try_at = time.monotonic() + wait
        self.log.error("A worker could not start; %s of %s serve", serving, self.num_workers)
        if serving < self.num_workers:
            self.log.error("The next worker is started in %s s", wait)

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - gunicorn's own
        """Stop the workers."""
        self._is_stopping = True
        super().stop(graceful)

    def _is_proven(self) -> bool:
        """Return whether a worker serves that is younger than the last one that could not start."""
        return any(worker.age > self._failed_age for worker in self._workers(Stage.SERVING))

    def _announce(self) -> None:
        if not self._is_announced:
            self._is_announced = True
            servers.announce(", ".join(map(str, self.LISTENERS)))

    def spawn_worker(self) -> int:
        """Fork a worker; one that is told to end at once is not to miss that."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            pid: int = super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return pid

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop the workers and end."""
        try:
            super().halt(reason, exit_status)
        except SystemExit:
            logging.shutdown()
            os._exit(exit_status)  # as workers do

    def _workers(self, *stages: Stage) -> list[Any]:
        """Return the workers of some stages, oldest first."""
        return sorted((worker for worker in self.WORKERS.values() if worker.stage in stages), key=attrgetter("age"))
