"""gunicorn's master, for workers that drain for minutes; imported by its configuration and its workers alone."""

from __future__ import annotations

import enum
import logging
import os
import signal
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NoReturn

from gunicorn.arbiter import Arbiter

# What a new worker hears only when it has handlers of its own: its master's, which it inherits, would lose them.
ENDING = (signal.SIGTERM, signal.SIGQUIT)


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


class Master(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """A master that keeps its number of serving workers, however many old ones drain beside them."""

    WORKERS: dict[int, Any]

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
        serving = self._workers(Stage.SERVING)
        for _ in range(self.num_workers - len(serving) - len(self._workers(Stage.STARTING))):
            self.spawn_worker()
        for worker in serving[: max(0, len(serving) - self.num_workers)]:
            self.kill_worker(worker.pid, signal.SIGTERM)

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

    def _workers(self, stage: Stage) -> list[Any]:
        """Return the workers of one stage, oldest first."""
        return sorted((worker for worker in self.WORKERS.values() if worker.stage is stage), key=attrgetter("age"))
