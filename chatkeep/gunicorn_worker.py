"""gunicorn's gevent worker with a drain that loses nothing; imported by gunicorn alone.

On SIGTERM (a restart, a reload's old workers, a deploy) a worker takes no new connections, closes idle ones, and stays
until its replies are whole. At the drain's deadline it stores what there is and tells the followers.
"""

from __future__ import annotations

import gc
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import gevent
from gunicorn.util import close
from gunicorn.workers.ggevent import GeventWorker

from chatkeep.gunicorn_exchange import Corked, Exchange
from chatkeep.replies import PING_S
from chatkeep.settings import Settings
from chatkeep.web.parts import Parts, parts_of

LOOK_S = 0.2
# How many objects more there are before Python looks for cycles among the young, the middle-aged and the old. There are
# hardly any cycles here, and a stream is a hundred objects that are looked through in vain.
GARBAGE = (20_000, 20, 50)


class DrainingWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A gevent worker that drains."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: dict[gevent.Greenlet, float] = {}
        self._left: set[Exchange] = set()
        self._patience = Settings.from_env().drain_timeout

    def run(self) -> None:
        """Serve until told to stop, then until nothing is open."""
        parts = parts_of(self.wsgi)
        # What is there now stays: looking through it again and again would stop all streams for that long.
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gevent.spawn(self._drain, parts)
        gevent.spawn(self._look)
        super().run()
        # What is left has no client any more, and is finished and stored for those who come back.
        deadline = time.monotonic() + self._patience
        while (parts.turns.live or self._left) and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(LOOK_S)
        parts.close()
        gc.unfreeze()  # or else Python, when it ends, frees handlers of logs after what they need for that

    def init_process(self) -> None:
        """Hear SIGTERM from the first moment on, and take as many open files as there may be: a stream needs two."""
        # gunicorn itself begins to listen only when it has patched everything, some tenths of a second later. A SIGTERM
        # of before is lost in what the fork left of the master's handler, and the master waits for the whole drain.
        signal.signal(signal.SIGTERM, self.handle_exit)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().init_process()

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for a connection's next request until somebody finds that it is idle for too long."""
        current = gevent.getcurrent()
        # A look at all of them now and then costs less than a timer for each request.
        self._idle[current] = time.monotonic() + self.cfg.keepalive
        try:
            yield
        except _Idle:
            pass  # no request is what gunicorn closes the connection for
        finally:
            self._idle.pop(current, None)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> None:
        """Answer one request as gunicorn's own does, or begin to: a stream may go on without this greenlet.

        Raises `StopIteration` where the connection is not to be served any more, and `OSError` where it broke.
        """
        self.cfg.pre_request(self, req)
        exchange = Exchange(self, req, Corked(sock, req, is_plain=not self.cfg.is_ssl), listener_name, addr)
        if self.cfg.proxy_protocol == "off":  # what it says stands before a connection's first request alone
            exchange.corked.go_on = partial(gevent.spawn, self._go_on, exchange)
        self.nr += 1
        alive: bool = self.alive  # type: ignore[has-type]
        if alive and self.nr >= self.max_requests:
            self.log.info("Autorestarting worker after current request.")
            self.alive = alive = False
        self._run(exchange, partial(exchange.begin, closes=not alive or not self.cfg.keepalive))
        if exchange.corked.is_left:
            exchange.corked.take_over()
            self._left.add(exchange)
            raise StopIteration

    def _run(self, exchange: Exchange, work: Callable[[], None]) -> None:
        """Do a part of an exchange; raise what `handle_request` raises, and others' exceptions before the response."""
        try:
            work()
            exchange.corked.uncork()
        except OSError:
            raise
        except Exception:
            if not exchange.is_begun:
                raise
            self.log.exception("Error handling request")
            raise StopIteration from None
        except (gevent.GreenletExit, SystemExit):
            raise StopIteration from None
        finally:
            if not exchange.corked.is_left:
                exchange.end()
        if not exchange.corked.is_left and exchange.is_last:
            raise StopIteration

    def _go_on(self, exchange: Exchange) -> None:
        """Go on with a response that was left, and then with its connection."""
        sock = exchange.corked.socket
        try:
            self._run(exchange, exchange.send)
        except (OSError, StopIteration):
            close(sock)
        else:
            if exchange.corked.is_left:
                return
            listener = next(one for one in self.sockets if one.getsockname() == exchange.listener_name)
            self.handle(listener, sock, exchange.addr)
        self._left.discard(exchange)

    def _look(self) -> None:
        """Let no connection be idle for too long, and no client without a sign that its stream is there."""
        while True:
            gevent.sleep(LOOK_S)
            # From the loop itself: a greenlet that interrupts another one is not gone on with.
            gevent.get_hub().loop.run_callback(self._close_idle)
            silent = time.monotonic() - PING_S
            for exchange in self._left:
                if exchange.corked.heard <= silent:
                    exchange.corked.resume()

    def _close_idle(self) -> None:
        """Close connections that are idle for too long; all that are idle where the worker stops."""
        now = time.monotonic()
        for greenlet, until in list(self._idle.items()):
            if not self.alive or until <= now:
                greenlet.throw(_Idle())

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - gunicorn's signature
        """Stop at once, with what there is of the replies stored."""
        self._patience = 0
        self.alive = False

    def _drain(self, parts: Parts) -> None:
        """Wait for the end of service; then let others make exports, and when patience ends, end what runs."""
        while self.alive:
            gevent.sleep(LOOK_S)
        gevent.spawn(parts.maker.close)
        begun = time.monotonic()
        while True:
            if time.monotonic() - begun >= self._patience:
                parts.turns.interrupt_all()
            gevent.sleep(LOOK_S)


class _Idle(BaseException):
    """Ends the wait for a connection's next request; nothing else is to take it for an error."""
