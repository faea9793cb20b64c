"""gunicorn's gevent worker with a drain that loses nothing; imported by gunicorn alone.

On SIGTERM (a restart, a reload's old workers, a deploy) a worker takes no new connections and stays until its replies
are whole. Idle connections stay for some seconds, in which a request is answered and the connection is closed. At the
drain's deadline the worker stores what there is and tells the followers.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import math
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import get_original
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.sock import ssl_context
from gunicorn.util import close
from gunicorn.workers.ggevent import GeventWorker

from chatkeep.errors import InternalError
from chatkeep.server.gunicorn_exchange import Corked, Exchange, problem_of, refuse
from chatkeep.server.gunicorn_master import ENDED, ENDING, Stage
from chatkeep.turns.live import PING_S
from chatkeep.web.services import Services, services_of

LOOK_S = 0.2
DRAIN_LOOK_S = 0.05
# How long a draining worker keeps idle connections. A proxy that uses one meanwhile learns that it closes; a proxy that
# uses it in the moment in which it is closed loses its request.
GRACE_S = 3.0
# The same at the end, when nothing else is open: a proxy sends its next request as soon as a stream has ended.
LAST_S = 0.3
# How long the last events have to reach their clients after the drain's deadline.
FLUSH_S = 5.0
# For how long another thread may run Python while the loop waits: that is after each call into the system or SQLite.
SWITCH_S = 0.0005


class DrainingWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A gevent worker that drains."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told = mmap.mmap(-1, 1 + 16)  # the stage and the id, shared with the master, which forks after this
        self._idle: dict[gevent.Greenlet, float] = {}
        self._clients: dict[gevent.Greenlet, socket.socket] = {}
        self._left: set[Exchange] = set()
        self._patience = math.inf
        self._retired_at = math.inf
        self._is_over = False  # but for idle connections

    @property
    def stage(self) -> Stage:
        """What the worker is doing, read in the worker or in its master."""
        return Stage(self._told[0])

    @property
    def id(self) -> bytes:
        """The id by which the database knows the worker, read in the worker or in its master; zeros at the start."""
        return self._told[1:]

    def run(self) -> None:
        """Serve until told to stop, then until nothing is open."""
        services = services_of(self.wsgi)
        self._patience = services.settings.drain_timeout
        # What is there now stays: looking through it again and again would stop all streams for that long.
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()
        gevent.spawn(self._look)
        connections = Pool(self.worker_connections)
        servers = [self._listen(listener, connections) for listener in self.sockets]
        self._told[0] = Stage.SERVING
        while self.alive:
            self.notify()
            gevent.sleep(LOOK_S)
        self._told[0] = Stage.RETIRED
        self._retired_at = time.monotonic()
        for server in servers:
            _stop_listening(server)
        self._drain(services, connections)
        services.close()
        self.log.info("Worker exiting (pid: %s)", self.pid)
        logging.shutdown()
        os._exit(0)  # to free each object takes Python 0.3 s, in which a deploy would wait

    def init_process(self) -> None:
        """Hear signals from the first moment on, and take as many open files as there may be: a stream needs two."""
        # gunicorn itself begins to listen only when it has patched everything, some tenths of a second later. A signal
        # that is lost until then makes the master wait for the whole drain.
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().init_process()

    def load_wsgi(self) -> None:
        """Import the application, or tell the master that this worker cannot start."""
        try:
            super().load_wsgi()
        except BaseException:  # SystemExit, too
            self._told[0] = Stage.FAILED
            raise
        services = services_of(self.wsgi)
        self._told[1:] = services.turns.worker_id.bytes
        services.watchdog.ended = ENDED.read

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; end at once if nothing was served yet."""
        if self.stage is Stage.STARTING:
            os._exit(0)
        super().handle_exit(sig, frame)

    def init_signals(self) -> None:
        """End at once on SIGABRT, which the master sends to a worker that hangs, and print where it hung."""
        super().init_signals()
        # gunicorn's handler raises SystemExit in whatever runs, which may catch it; then the worker would drain.
        faulthandler.enable()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Serve a connection."""
        current = gevent.getcurrent()
        self._clients[current] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._clients[current]

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for a connection's next request until somebody finds that it is idle for too long."""
        current = gevent.getcurrent()
        # A look at all of them now and then costs less than a timer for each request.
        self._idle[current] = time.monotonic()
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
        except TimeoutError:
            exchange.abandon()
            raise StopIteration from None
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

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:  # noqa: ARG002 - gunicorn's
        """Answer with a problem what gunicorn refuses, and what failed before its response."""
        problem = problem_of(exc)
        if isinstance(problem, InternalError):
            self.log.error("Error handling request", exc_info=exc)
        else:
            self.log.warning("Request refused: %s", type(exc).__name__)
        refuse(client, problem)

    def _go_on(self, exchange: Exchange) -> None:
        """Go on with a response that was left, and then with its connection."""
        sock = exchange.corked.socket
        try:
            self._run(exchange, exchange.send)
            if exchange.corked.is_left:
                return
            self.handle(_Named(exchange.listener_name), sock, exchange.addr)
        except (OSError, StopIteration):
            pass  # the connection broke, or its response was the last
        finally:
            if not exchange.corked.is_left:
                close(sock)
                self._left.discard(exchange)

    def _look(self) -> None:
        """Let no connection be idle for too long, and no client without a sign that its stream is there."""
        while True:
            gevent.sleep(LOOK_S if self.alive else DRAIN_LOOK_S)
            # From the loop itself: a greenlet that interrupts another one is not gone on with.
            gevent.get_hub().loop.run_callback(self._close_idle)
            silent = time.monotonic() - PING_S
            for exchange in self._left:
                if exchange.corked.heard <= silent:
                    exchange.corked.resume()

    def _close_idle(self) -> None:
        """Close connections that are idle for too long."""
        now = time.monotonic()
        for greenlet, since in list(self._idle.items()):
            if self._idle_until(since) <= now and not _has_sent(self._clients[greenlet]):
                greenlet.throw(_Idle())

    def _idle_until(self, since: float) -> float:
        """Return when a connection is closed that is idle since then; in a worker that drains that is soon."""
        if self.stage is not Stage.RETIRED:
            return since + float(self.cfg.keepalive)
        grace = min(GRACE_S, self._patience)
        if self._is_over:
            return max(self._retired_at + grace, since + min(LAST_S, self._patience))
        return max(self._retired_at, since) + grace

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at once, with what there is of the replies stored."""
        self._patience = 0
        self.handle_exit(sig, frame)

    def _listen(self, listener: Any, connections: Pool) -> StreamServer:
        """Start to take connections."""
        tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        listener.settimeout(None)
        handle = partial(self.handle, _Named(listener.getsockname()))
        server = StreamServer(listener, handle=handle, spawn=connections, **tls)
        if self.cfg.workers > 1:
            server.max_accept = 1  # the others shall have some
        server.start()
        return server

    def _drain(self, services: Services, connections: Pool) -> None:
        """Let others make exports; wait until nothing is open. When patience ends, end what runs."""
        gevent.spawn(services.export_worker.close)
        while connections or self._left or services.turns.live:
            waited = time.monotonic() - self._retired_at
            if waited >= self._patience:
                services.turns.interrupt_all()
            if waited >= self._patience + FLUSH_S:
                self.log.warning("The drain's deadline has passed: %s connections are cut", len(connections))
                return
            self._is_over = len(connections) + len(self._left) == len(self._idle) and not services.turns.live
            self.notify()
            gevent.sleep(DRAIN_LOOK_S)


class _Named:
    """The name of a listener, which gunicorn asks for at each connection: one that is closed has none."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def getsockname(self) -> Any:
        return self._name


class _Idle(BaseException):
    """Ends the wait for a connection's next request; nothing else is to take it for an error."""


def _stop_listening(server: StreamServer) -> None:
    """Take the connections that wait to be accepted, which would be reset, and no more."""
    server.stop_accepting()
    while accepted := server.do_read():
        server.do_handle(*accepted)
    server.close()


def _has_sent(client: socket.socket) -> bool:
    """Return whether something of a client's waits to be read."""
    poll = get_original("select", "poll")()  # gevent's own may switch to the loop, in which this runs
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))
