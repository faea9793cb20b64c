"""Run the application on gunicorn, Waitress or the development server, and exit with readable reasons."""

from __future__ import annotations

import _thread
import importlib.util
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chatkeep import __version__
from chatkeep.config.environment import wants_json_logs
from chatkeep.config.settings import Settings
from chatkeep.errors import ChatkeepError, SettingsError
from chatkeep.i18n import Text, _, text_of, translated
from chatkeep.runtime import files, garbage, logs
from chatkeep.runtime.concurrency import on_event_loop
from chatkeep.runtime.terminal import accept_every_character, language_of_terminal
from chatkeep.server import listening

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Flask

log = logging.getLogger(__name__)
APPLICATION = "chatkeep.server.serving:wsgi()"
CANNOT_START = 2
"""The exit status of a program that can't start."""
# The exit status that stops gunicorn's own master from restarting a worker.
GIVE_UP = 4
POLL_S = 0.1
# Time for the last events to reach their clients after the drain's deadline.
FLUSH_S = 5.0


def wsgi() -> Flask:
    """Return the application for the settings in the environment, or exit with the reason."""
    garbage.collect_rarely()
    from chatkeep.server.app import create_app  # noqa: PLC0415 - gunicorn's master doesn't need it

    accept_every_character()
    logs.catch_uncaught()
    try:
        settings = Settings.from_env()
        if "waitress" in sys.modules:
            from chatkeep.server import waitress  # noqa: PLC0415 - only if it serves

            waitress.configure(settings, stop)
        return create_app(settings)
    except ChatkeepError as error:
        stop(error, GIVE_UP if "gunicorn" in sys.modules else CANNOT_START)


def checked_settings() -> Settings:
    """Return the settings, or exit with a list of all invalid values."""
    try:
        return Settings.from_env()
    except SettingsError as error:
        stop(error)


def stop(error: ChatkeepError, status: int = CANNOT_START) -> NoReturn:
    """Exit with readable reasons."""
    language = language_of_terminal()
    reasons = [translated(reason, language) for reason in _reasons(error)]
    begun = translated(_("chatkeep cannot start:"), language)
    if wants_json_logs():
        logs.start("INFO", logs.JSON, None)
        log.critical("%s %s", begun, " ".join(reasons))
    else:
        click.echo("\n".join([begun, *(f"  - {reason}" for reason in reasons)]), err=True)
    sys.exit(status)


def _reasons(error: ChatkeepError) -> list[Text]:
    if isinstance(error, SettingsError):
        return error.problems
    from chatkeep.store import diagnosis  # noqa: PLC0415 - errors in settings don't need the database

    if diagnosis.is_of_database(error):
        return [diagnosis.reason(error, Settings.from_env().database)]
    return [text_of(error.__cause__ or error)]


def announce(place: str) -> None:
    """Print or log the address on which the server listens."""
    text = translated(
        _("chatkeep {version} serves on {place} (press Ctrl+C to stop)", version=__version__, place=place),
        language_of_terminal(),
    )
    if logs.is_json():
        log.info("%s", text)
    else:
        click.echo(text, err=True)


def _place(settings: Settings) -> str:
    return settings.place if settings.socket_path else f"http://{settings.place}"


def drain_on_signals(app: Flask) -> None:
    """Install signal handlers that drain a threaded server: SIGTERM and Ctrl+Break wait for replies, Ctrl+C doesn't.

    gunicorn's workers have their own handlers.
    """
    if on_event_loop() or threading.current_thread() is not threading.main_thread():
        return
    drain = Drain(app)
    # Shells start background programs with SIGINT ignored, but the drain ends the server by SIGINT.
    signal.signal(signal.SIGINT, drain.hurry)
    signal.signal(signal.SIGTERM, drain.begin)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, drain.begin)


class Drain:
    """Graceful shutdown of a threaded server: new turns get 503, and the process exits after its last response.

    At the drain's deadline the server stores what it has of each reply and tells the followers.
    """

    def __init__(self, app: Flask) -> None:
        from chatkeep.web.services import services_of  # noqa: PLC0415 - commands that don't serve start without Flask

        self._services = services_of(app)
        self._app = app.wsgi_app
        self._open_responses = 0
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._is_done = False
        app.wsgi_app = self  # type: ignore[method-assign]  # how Flask documents middleware

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request; count it as open until its response is closed."""
        self._count(1)
        try:
            response = self._app(environ, start_response)
        except BaseException:
            self._count(-1)
            raise
        from werkzeug.wsgi import ClosingIterator  # noqa: PLC0415 - as above

        return ClosingIterator(response, partial(self._count, -1))

    def begin(self, _signal: int, _frame: FrameType | None) -> None:
        """Start to drain."""
        self._begin(self._services.settings.drain_timeout)

    def hurry(self, _signal: int, _frame: FrameType | None) -> None:
        """Drain without waiting for replies; at the second signal exit immediately."""
        if self._is_done or self._deadline <= time.monotonic():
            raise KeyboardInterrupt
        self._begin(0)

    def _begin(self, timeout: float) -> None:
        is_first = self._deadline == math.inf
        self._deadline = min(self._deadline, time.monotonic() + timeout)
        if is_first:
            threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        turns = self._services.turns
        turns.refuse()
        self._services.export_worker.close()
        while (turns.live or self._open_responses) and time.monotonic() < self._deadline:
            time.sleep(POLL_S)
        while (turns.live or self._open_responses) and time.monotonic() < self._deadline + FLUSH_S:
            turns.interrupt_all()
            time.sleep(POLL_S)
        time.sleep(POLL_S)  # Waitress sends data in another thread
        self._is_done = True
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:  # Windows: it interrupts no system call, so the main thread notices within a second
            _thread.interrupt_main()

    def _count(self, change: int) -> None:
        with self._lock:
            self._open_responses += change


def require_place(settings: Settings) -> None:
    """Exit with the reason if the server can't listen on the address of the settings."""
    try:
        listening.require_place(settings)
    except SettingsError as error:
        stop(error)


def prepare_database(settings: Settings) -> None:
    """Migrate the database if that is safe, or exit with the reason."""
    garbage.collect_rarely()
    from chatkeep.store import migrations  # noqa: PLC0415 - the master doesn't need the database

    try:
        logs.start(settings.log_level, settings.log_format, settings.log_file)
        files.require_folder(settings.exports_dir)
        migrations.opened(settings.database).close()
    except ChatkeepError as error:
        stop(error)


def best() -> str:
    """Return the name of the best server for this platform."""
    has_gunicorn = sys.platform != "win32" and importlib.util.find_spec("gunicorn") is not None
    return "gunicorn" if has_gunicorn else "waitress"


def serve_gunicorn() -> NoReturn:
    """Replace this process by gunicorn's master, so that it receives the signals."""
    command = [sys.executable, "-m", "gunicorn", "-c", "python:chatkeep.server.gunicorn_conf", APPLICATION]
    os.execv(sys.executable, command)  # noqa: S606 - without a shell


def serve_waitress() -> None:
    """Serve with Waitress until interrupted."""
    from waitress.server import create_server  # noqa: PLC0415 - only if it serves

    settings = checked_settings()
    app = wsgi()
    drain_on_signals(app)
    place: dict[str, Any] = {"host": settings.host, "port": settings.port, "trusted_proxy": "127.0.0.1"}
    if settings.socket_path:
        place = {"unix_socket": settings.socket_path, "trusted_proxy": "localhost"}
        place["unix_socket_perms"] = f"{settings.socket_mode:o}"
    # Like gunicorn: trust X-Forwarded-Proto of a proxy on this machine.
    place |= {"trusted_proxy_headers": "x-forwarded-proto", "clear_untrusted_proxy_headers": True}
    logging.basicConfig()
    try:
        server = create_server(app, threads=settings.threads, **place)
    except OSError:  # another program took the address meanwhile
        require_place(settings)
        raise
    announce(_place(settings))
    server.run()


def serve_development(app: Flask) -> None:
    """Serve with Flask's development server until interrupted."""
    from chatkeep.server.development import DevelopmentServer, RequestHandler  # noqa: PLC0415 - only if it serves

    settings = checked_settings()
    require_place(settings)
    host = f"unix://{settings.socket_path}" if settings.socket_path else settings.host
    RequestHandler.request_timeout_s = settings.body_timeout
    with _private_umask():
        server = DevelopmentServer(host, settings.port, app, RequestHandler)
    if settings.socket_path:
        os.chmod(settings.socket_path, settings.socket_mode)  # noqa: PTH101 - the path is text
    announce(_place(settings))
    server.log_startup()
    server.serve_forever()


@contextmanager
def _private_umask() -> Iterator[None]:
    """Create files for this user only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
