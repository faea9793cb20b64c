"""gunicorn's gevent worker with a graceful drain; only gunicorn imports this module.

On SIGTERM (a restart, a reload, a deploy) a worker accepts no new connections and runs until its replies are complete.
Idle connections stay open for some seconds; a request on one of them is answered with `Connection: close`. At the
drain's deadline the worker stores what it has of each reply and tells the followers.

It overrides gunicorn's internals, because gunicorn has no setting for such a drain: `tests/server/test_gunicorn.py`
fails if they change.
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
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import get_original
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from chatkeep.errors import InternalError
from chatkeep.server.gunicorn_exchange import CorkedSocket, Exchange, problem_of, refuse
from chatkeep.server.gunicorn_master import ENDED, STOP_SIGNALS, Stage
from chatkeep.web.services import Services, services_of

POLL_S = 0.2
DRAIN_POLL_S = 0.05
# How long a draining worker keeps idle connections. Requests until then are answered with
# `Connection: close`; a request that crosses the close is lost.
GRACE_S = 3.0
# The same once only idle connections are open: a proxy sends its next request right after a stream's end.
LAST_S = 0.3
# Time for the last events to reach their clients after the drain's deadline.
FLUSH_S = 5.0
# How long another thread may hold the GIL while the event loop waits for it.
SWITCH_S = 0.0005


class DrainingWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A gevent worker that drains before it exits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = mmap.mmap(-1, 1 + 16)  # stage and id, shared with the master, which forks after this
        self._idle_since: dict[gevent.Greenlet, float] = {}
        self._clients: dict[gevent.Greenlet, socket.socket] = {}
        self._drain_timeout = math.inf
        self._drain_began = math.inf
        self._only_idle = False  # whether all open connections are idle

    @property
    def stage(self) -> Stage:
        """The worker's stage; readable in the worker and in the master."""
        return Stage(self._shared[0])

    @property
    def id(self) -> bytes:
        """The worker's id in the database, or zeros while it starts; readable in the worker and in the master."""
        return self._shared[1:]

    def run(self) -> None:
        """Serve until a signal, then drain and exit."""
        services = services_of(self.wsgi)
        self._drain_timeout = services.settings.drain_timeout
        # What exists now lives as long as the process: scanning it at each collection would pause all streams.
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()
        gevent.spawn(self._watch_idle)
        connections = Pool(self.worker_connections)
        servers = [self._listen(listener, connections) for listener in self.sockets]
        self._shared[0] = Stage.SERVING
        while self.alive:
            self.notify()
            gevent.sleep(POLL_S)
        self._shared[0] = Stage.RETIRED
        self._drain_began = time.monotonic()
        for server in servers:
            _stop_listening(server)
        self._drain(services, connections)
        services.close()
        self.log.info("Worker exiting (pid: %s)", self.pid)
        logging.shutdown()
        os._exit(0)  # freeing every object would take 0.3 s

    def init_process(self) -> None:
        """Handle signals from the start, and raise the limit of open files to its maximum: a stream needs two."""
        # gunicorn installs its handlers some tenths of a second later, after patching. A signal that is lost until then
        # makes the master wait for the whole drain timeout.
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
        super().init_process()

    def load_wsgi(self) -> None:
        """Import the application; tell the master if that fails."""
        try:
            super().load_wsgi()
        except BaseException:  # including SystemExit
            self._shared[0] = Stage.FAILED
            raise
        services = services_of(self.wsgi)
        self._shared[1:] = services.turns.worker_id.bytes
        services.watchdog.ended = ENDED.read

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; exit immediately if the worker is still starting."""
        if self.stage is Stage.STARTING:
            os._exit(0)
        super().handle_exit(sig, frame)

    def init_signals(self) -> None:
        """On SIGABRT, which the master sends to a hanging worker, print the stack and exit."""
        super().init_signals()
        # gunicorn's handler raises SystemExit in arbitrary code, which may catch it; then the worker would drain.
        faulthandler.enable()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Serve a connection, and track it."""
        current = gevent.getcurrent()
        self._clients[current] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._clients[current]

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for a connection's next request; `_watch_idle` ends the wait at the keep-alive timeout."""
        current = gevent.getcurrent()
        # Polling all connections costs less than a timer for each request.
        self._idle_since[current] = time.monotonic()
        try:
            yield
        except _Idle:
            pass  # without a request gunicorn closes the connection
        finally:
            self._idle_since.pop(current, None)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> None:
        """Serve one request.

        Raises `StopIteration` to close the connection, and `OSError` if it broke.
        """
        self.cfg.pre_request(self, req)
        exchange = Exchange(self, req, CorkedSocket(sock, is_plain=not self.cfg.is_ssl), listener_name, addr)
        self.nr += 1
        alive: bool = self.alive  # type: ignore[has-type]
        if alive and self.nr >= self.max_requests:
            self.log.info("Autorestarting worker after current request.")
            self.alive = alive = False
        try:
            exchange.run(closes=not alive or not self.cfg.keepalive)
        except TimeoutError:
            exchange.reset()
            raise StopIteration from None
        except OSError:
            raise
        except Exception:
            if not exchange.has_begun:
                raise
            self.log.exception("Error handling request")
            raise StopIteration from None
        except (gevent.GreenletExit, SystemExit):
            raise StopIteration from None
        finally:
            exchange.end()
        if exchange.is_last:
            raise StopIteration

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:  # noqa: ARG002 - gunicorn's
        """Send a problem for a request that gunicorn rejects, or that failed before its response."""
        problem = problem_of(exc)
        if isinstance(problem, InternalError):
            self.log.error("Error handling request", exc_info=exc)
        else:
            self.log.warning("Request refused: %s", type(exc).__name__)
        refuse(client, problem)

    def _watch_idle(self) -> None:
        """Close idle connections at their timeout."""
        while True:
            gevent.sleep(POLL_S if self.alive else DRAIN_POLL_S)
            # From the loop itself: a greenlet that throws into another one would not be resumed.
            gevent.get_hub().loop.run_callback(self._close_idle)

    def _close_idle(self) -> None:
        """Close the connections whose keep-alive timeout has passed."""
        now = time.monotonic()
        for greenlet, since in list(self._idle_since.items()):
            if self._close_at(since) <= now and not _is_readable(self._clients[greenlet]):
                greenlet.throw(_Idle())

    def _close_at(self, since: float) -> float:
        """Return when to close a connection that is idle since ``since``; a draining worker closes it soon."""
        if self.stage is not Stage.RETIRED:
            return since + float(self.cfg.keepalive)
        grace = min(GRACE_S, self._drain_timeout)
        if self._only_idle:
            return max(self._drain_began + grace, since + min(LAST_S, self._drain_timeout))
        return max(self._drain_began, since) + grace

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Store what there is of each reply and exit, without waiting."""
        self._drain_timeout = 0
        self.handle_exit(sig, frame)

    def _listen(self, listener: Any, connections: Pool) -> StreamServer:
        """Start to accept connections."""
        tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        listener.settimeout(None)
        handle = partial(self.handle, _NamedListener(listener.getsockname()))
        server = StreamServer(listener, handle=handle, spawn=connections, **tls)
        if self.cfg.workers > 1:
            server.max_accept = 1  # spread connections over the workers
        server.start()
        return server

    def _drain(self, services: Services, connections: Pool) -> None:
        """Hand export jobs over and wait until nothing is open; interrupt replies at the drain's deadline."""
        gevent.spawn(services.export_worker.close)
        while connections or services.turns.live:
            waited = time.monotonic() - self._drain_began
            if waited >= self._drain_timeout:
                services.turns.interrupt_all()
            if waited >= self._drain_timeout + FLUSH_S:
                self.log.warning("The drain's deadline has passed: %s connections are cut", len(connections))
                return
            self._only_idle = len(connections) == len(self._idle_since) and not services.turns.live
            self.notify()
            gevent.sleep(DRAIN_POLL_S)


class _NamedListener:
    """A listener's name, which gunicorn asks for at each connection, also after the listener was closed."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def getsockname(self) -> Any:
        return self._name


class _Idle(BaseException):
    """Ends the wait for a connection's next request. Not an `Exception`, so that no error handler catches it."""


def _stop_listening(server: StreamServer) -> None:
    """Close a listener after accepting the connections in its backlog, which the close would reset."""
    server.stop_accepting()
    while accepted := server.do_read():
        server.do_handle(*accepted)
    server.close()


def _is_readable(client: socket.socket) -> bool:
    """Return whether received data waits to be read."""
    poll = get_original("select", "poll")()  # gevent's poll could switch to the loop, which is where this runs
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))
