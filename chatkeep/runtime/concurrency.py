"""What differs between a server of threads (Waitress, ``python app.py``) and one of greenlets (gunicorn's gevent).

Everything else uses ``threading`` and ``queue`` as they are: the gevent worker patches them into greenlets. Nothing
here imports gevent, so that Windows never needs it.
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
# How often work that is past its deadline is told to stop until it does.
STOP_AGAIN_S = 0.05


def on_event_loop() -> bool:
    """Return whether this process serves from gevent's event loop."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def short_lock() -> AbstractContextManager[Any]:
    """Return a lock for sections in which nothing is waited for; gevent's own costs ten times as much."""
    return _native("_thread", "allocate_lock")()  # type: ignore[no-any-return]


@cache
def _native(module: str, name: str) -> Callable[..., Any]:
    """Return what a module's function is where gevent has not patched it."""
    monkey = sys.modules.get("gevent.monkey")
    found = monkey.get_original(module, name) if monkey else getattr(import_module(module), name)
    return cast("Callable[..., Any]", found)


class Event(Protocol):
    """What `threading.Event` is."""

    def set(self) -> None:
        """Let go on who waits, and whoever comes."""

    def clear(self) -> None:
        """Let wait whoever comes."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for so many seconds at most; return whether it is."""


def event() -> Event:
    """Return an event, under gevent its own: `threading.Event` is made of a lock, a condition and a queue there."""
    return sys.modules["gevent.event"].Event() if on_event_loop() else threading.Event()


class Lane:
    """Native threads for one kind of work beside an event loop: no kind waits for the threads of another.

    gevent's own pool is left to it: it resolves the names of hosts. ``work`` may use no lock, queue or socket. Without
    an event loop the caller's own thread does the work.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads

    @cached_property
    def _threads(self) -> Executor:
        return import_module("gevent.threadpool").ThreadPoolExecutor(self._most)  # type: ignore[no-any-return]

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Return ``work(*args)``. For calls into C that gevent cannot interrupt, such as SQLite's."""
        return _result(self._begun(work, args).result()) if on_event_loop() else work(*args)

    def run_within(self, seconds: float, stop: Callable[[], None], work: Callable[..., T], *args: Any) -> T:
        """Return ``work(*args)``; after ``seconds`` call ``stop``, which ends it, until it has ended.

        A caller that is killed meanwhile ends the work, too: the thread lets go of what it was lent.
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
"""For files, and for text that takes long to look through: pieces of some milliseconds that requests wait for."""
UPKEEP = Lane(1)
"""For what no request waits for: the files of export jobs, and what is left of what was deleted."""


def _outcome(work: Callable[..., T], args: tuple[Any, ...]) -> _Outcome[T]:
    """Return the result or the exception: gevent's pool would print the latter before it hands it over."""
    try:
        return work(*args), None
    except Exception as error:  # noqa: BLE001 - handed to the caller, which raises it
        return None, error


def _result(outcome: _Outcome[T]) -> T:
    result, error = outcome
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _stopped(begun: Future[T], stop: Callable[[], None]) -> T:
    """Return what comes of work that is told to stop until it does."""
    while True:
        stop()
        try:
            return begun.result(STOP_AGAIN_S)
        except TimeoutError:
            pass


@contextmanager
def _stopping_after(seconds: float, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` from another thread while the block takes longer than ``seconds``, and never after it."""
    over = threading.Event()

    def watchdog() -> None:
        wait = seconds
        while not over.wait(wait):
            stop()
            wait = STOP_AGAIN_S

    watching = background(watchdog, name="deadline")
    try:
        yield
    finally:
        over.set()
        watching.join()


@contextmanager
def deadline(seconds: float, error: Exception) -> Iterator[None]:
    """Raise ``error`` in a block that takes longer than ``seconds``, where a server of greenlets runs it.

    A thread cannot be interrupted; Waitress has read the whole request before it calls the application.
    """
    if not on_event_loop():
        yield
        return
    with sys.modules["gevent"].Timeout(seconds, error):
        yield


@contextmanager
def unless_gone(sock: socket.socket | None) -> Iterator[None]:
    """End the greenlet that runs the block if the client of a plain socket hangs up meanwhile.

    Threads go on: a thread cannot be interrupted.
    """
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
        sys.modules["gevent"].kill(waiting)  # from the loop, once this greenlet sleeps


class Task(Protocol):
    """What runs in the background: a thread or a greenlet."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for so many seconds at most."""


def native_thread(work: Callable[..., None], *args: Any) -> None:
    """Start ``work`` in a thread of the system's own, which goes on while an event loop stands still.

    It may use no lock, queue or socket, for these are the loop's.
    """
    _native("_thread", "start_new_thread")(work, args)


def native_sleep(seconds: float) -> None:
    """Let a native thread sleep."""
    _native("time", "sleep")(seconds)


def background(work: Callable[..., None], *args: Any, name: str) -> Task:
    """Start ``work`` in a thread that never keeps the process alive; under gevent in a bare greenlet, at a tenth."""
    task = (logs.request_id.get(), work, *args)
    if on_event_loop():
        return sys.modules["gevent"].spawn(logs.on_behalf, *task)  # type: ignore[no-any-return]
    thread = threading.Thread(target=logs.on_behalf, args=task, name=name, daemon=True)
    thread.start()
    return thread
