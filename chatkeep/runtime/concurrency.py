"""Hide the differences between threads (Waitress, ``python app.py``) and greenlets (gunicorn with gevent).

All other code uses ``threading`` and ``queue``, which the gevent worker patches. Nothing here imports gevent, which
Windows lacks.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager
from functools import cache, cached_property
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast

from chatkeep.runtime import logs

T = TypeVar("T")
# How often to interrupt work that is past its deadline until it ends.
INTERRUPT_INTERVAL_S = 0.05


def on_event_loop() -> bool:
    """Return whether this process runs on gevent's event loop."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def short_lock() -> AbstractContextManager[Any]:
    """Return a native lock for sections that never block; gevent's lock costs ten times as much."""
    return _native("_thread", "allocate_lock")()  # type: ignore[no-any-return]


@cache
def _native(module: str, name: str) -> Callable[..., Any]:
    """Return a module's function without gevent's patches."""
    monkey = sys.modules.get("gevent.monkey")
    found = monkey.get_original(module, name) if monkey else getattr(import_module(module), name)
    return cast("Callable[..., Any]", found)


class Event(Protocol):
    """The interface of `threading.Event`."""

    def set(self) -> None:
        """Wake all waiters; later ones don't wait."""

    def clear(self) -> None:
        """Let later waiters wait."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, for ``timeout`` seconds at most; return whether it is."""


def event() -> Event:
    """Return an event; under gevent its own, which is cheaper than a patched `threading.Event`."""
    return sys.modules["gevent.event"].Event() if on_event_loop() else threading.Event()


class Lane:
    """A pool of native threads for one kind of work, so that no kind waits for another.

    gevent's own pool stays free for DNS. ``work`` must not use locks, queues or sockets. Without an event loop the
    caller's thread does the work.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads

    @cached_property
    def _threads(self) -> Executor:
        return import_module("gevent.threadpool").ThreadPoolExecutor(self._most)  # type: ignore[no-any-return]

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run ``work(*args)`` in the pool. For C calls that would block the event loop, such as SQLite's."""
        return _result(self._begun(work, args).result()) if on_event_loop() else work(*args)

    def run_within(self, seconds: float, stop: Callable[[], None], work: Callable[..., T], *args: Any) -> T:
        """Run ``work(*args)``; after ``seconds`` call ``stop`` repeatedly until the work ends.

        If the calling greenlet is killed, the work is stopped as well, so that the thread releases what it holds.
        """
        if not on_event_loop():
            with _stopping_after(seconds, stop):
                return work(*args)
        begun = self._begun(work, args)
        try:
            outcome = begun.result(seconds)
        except TimeoutError:
            outcome = _stopped(begun, stop)
        except BaseException:
            _stopped(begun, stop)
            raise
        return _result(outcome)

    def _begun(self, work: Callable[..., T], args: tuple[Any, ...]) -> Future[_Outcome[T]]:
        return self._threads.submit(_outcome, work, args)


_Outcome = tuple[T | None, BaseException | None]
FILES = Lane(4)
"""For files and long texts: work of some milliseconds that requests wait for."""
UPKEEP = Lane(1)
"""For work that no request waits for: files of export jobs, and cleaning up after deletions."""


def _outcome(work: Callable[..., T], args: tuple[Any, ...]) -> _Outcome[T]:
    """Return the result or the exception; gevent's pool would print an exception that is raised."""
    try:
        return work(*args), None
    except Exception as error:  # noqa: BLE001 - the caller raises it
        return None, error


def _result(outcome: _Outcome[T]) -> T:
    result, error = outcome
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _stopped(begun: Future[T], stop: Callable[[], None]) -> T:
    """Interrupt work until it ends, and return its outcome."""
    while True:
        stop()
        try:
            return begun.result(INTERRUPT_INTERVAL_S)
        except TimeoutError:
            pass


@contextmanager
def _stopping_after(seconds: float, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` from another thread once the block takes longer than ``seconds``, and never after it ends."""
    done = threading.Event()

    def watchdog() -> None:
        wait = seconds
        while not done.wait(wait):
            stop()
            wait = INTERRUPT_INTERVAL_S

    watching = background(watchdog, name="deadline")
    try:
        yield
    finally:
        done.set()
        watching.join()


@contextmanager
def deadline(seconds: float, error: Exception) -> Iterator[None]:
    """Raise ``error`` in a block that takes longer than ``seconds``; only under gevent.

    A thread cannot be interrupted, but Waitress reads the whole request before it calls the application.
    """
    if not on_event_loop():
        yield
        return
    with sys.modules["gevent"].Timeout(seconds, error):
        yield


@contextmanager
def unless_gone(sock: socket.socket | None) -> Iterator[None]:
    """Kill the current greenlet if the client hangs up during the block. Threads cannot be interrupted."""
    if sock is None or not on_event_loop():
        yield
        return
    gevent = sys.modules["gevent"]
    watching = gevent.spawn(_end_if_gone, sock, gevent.getcurrent())
    try:
        yield
    finally:
        watching.kill()


def _end_if_gone(sock: socket.socket, waiting: object) -> None:
    try:
        is_gone = not sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return
    except OSError:
        is_gone = True
    if is_gone:
        sys.modules["gevent"].kill(waiting)  # takes effect when this greenlet yields


class Task(Protocol):
    """A background thread or greenlet."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until the task ends, for ``timeout`` seconds at most."""


def native_thread(work: Callable[..., None], *args: Any) -> None:
    """Start ``work`` in a native thread, which runs even while the event loop is blocked.

    ``work`` must not use locks, queues or sockets: they belong to the event loop.
    """
    _native("_thread", "start_new_thread")(work, args)


def native_sleep(seconds: float) -> None:
    """Sleep in a native thread."""
    _native("time", "sleep")(seconds)


def background(work: Callable[..., None], *args: Any, name: str) -> Task:
    """Start ``work`` in a daemon thread; under gevent in a bare greenlet, at a tenth of the cost."""
    task = (logs.request_id.get(), work, *args)
    if on_event_loop():
        return sys.modules["gevent"].spawn(logs.on_behalf, *task)  # type: ignore[no-any-return]
    thread = threading.Thread(target=logs.on_behalf, args=task, name=name, daemon=True)
    thread.start()
    return thread
