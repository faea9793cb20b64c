"""What differs between a server of threads (Waitress, ``python app.py``) and one of greenlets (gunicorn's gevent).

Everything else uses ``threading`` and ``queue`` as they are: the gevent worker patches them into greenlets. Nothing
here imports gevent, so that Windows never needs it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


def on_event_loop() -> bool:
    """Return whether this process serves from gevent's event loop."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def short_lock() -> AbstractContextManager[Any]:
    """Return a lock for sections in which nothing is waited for; gevent's own costs ten times as much."""
    return _native_lock()()


@cache
def _native_lock() -> Callable[[], AbstractContextManager[Any]]:
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("_thread", "allocate_lock") if monkey else threading.Lock


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


def off_loop(work: Callable[..., T], *args: Any) -> T:
    """Return ``work(*args)``, in a native thread where an event loop would otherwise stand still.

    For calls into C that gevent cannot interrupt: SQLite. ``work`` may use no lock, queue or socket there.
    """
    if not on_event_loop():
        return work(*args)
    pool = sys.modules["gevent"].get_hub().threadpool
    result, error = pool.apply(_outcome, (work, args))
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _outcome(work: Callable[..., T], args: tuple[Any, ...]) -> tuple[T | None, BaseException | None]:
    """Return the result or the exception: gevent's pool would print the latter before it hands it over."""
    try:
        return work(*args), None
    except Exception as error:  # noqa: BLE001 - handed to the caller, which raises it
        return None, error


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


class Task(Protocol):
    """What runs in the background: a thread or a greenlet."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for so many seconds at most."""


def background(work: Callable[..., None], *args: Any, name: str) -> Task:
    """Start ``work`` in a thread that never keeps the process alive; under gevent in a bare greenlet, at a tenth."""
    if on_event_loop():
        return sys.modules["gevent"].spawn(work, *args)  # type: ignore[no-any-return]
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    thread.start()
    return thread
