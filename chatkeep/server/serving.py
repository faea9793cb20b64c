"""The servers that run the application: gunicorn, Waitress, and Flask's own for development."""

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
from chatkeep.runtime import files, garbage, logs
from chatkeep.runtime.concurrency import on_event_loop
from chatkeep.runtime.i18n import translated
from chatkeep.runtime.terminal import accept_every_character, language_of_terminal
from chatkeep.server import listening

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Flask

log = logging.getLogger(__name__)
APPLICATION = "chatkeep.server.serving:wsgi()"
CANNOT_START = 2
"""The exit status of a program that cannot start."""
# That of a worker which gunicorn's own master, without ours, does not start again and again.
GIVE_UP = 4
LOOK_S = 0.1
# How long the last events have to reach their clients after the drain's deadline.
FLUSH_S = 5.0


def wsgi() -> Flask:
    """Return the application of the environment's settings, or end the program with the reason."""
    garbage.look_rarely()
    from chatkeep.server.app import create_app  # noqa: PLC0415 - gunicorn's master, which runs no requests, does without

    accept_every_character()
    logs.catch_uncaught()
    try:
        settings = Settings.from_env()
        if "waitress" in sys.modules:
            from chatkeep.server import waitress  # noqa: PLC0415 - only where it serves

            waitress.configure(settings, stop)
        return create_app(settings)
    except ChatkeepError as error:
        stop(error, GIVE_UP if "gunicorn" in sys.modules else CANNOT_START)


def checked_settings() -> Settings:
    """Return the settings, or end the program with every wrong value named."""
    try:
        return Settings.from_env()
    except SettingsError as error:
        stop(error)


def stop(error: ChatkeepError, status: int = CANNOT_START) -> NoReturn:
    """End the program with a readable reason."""
    language = language_of_terminal()
    reasons = [translated(reason, language) for reason in _reasons(error)]
    begun = translated("chatkeep cannot start:", language)
    if wants_json_logs():
        logs.start("INFO", logs.JSON, None)
        log.critical("%s %s", begun, " ".join(reasons))
    else:
        click.echo("\n".join([begun, *(f"  - {reason}" for reason in reasons)]), err=True)
    sys.exit(status)


def _reasons(error: ChatkeepError) -> list[str]:
    if isinstance(error, SettingsError):
        return error.problems
    from chatkeep.store import diagnosis  # noqa: PLC0415 - wrong settings are told without the database

    if diagnosis.is_of_database(error):
        return [diagnosis.reason(error, Settings.from_env().database)]
    return [str(error.__cause__ or error)]


def announce(place: str) -> None:
    """Say where the server listens, once it does."""
    text = translated(f"chatkeep {__version__} serves on {place} (Ctrl+C ends it)", language_of_terminal())
    if logs.is_json():
        log.info("%s", text)
    else:
        click.echo(text, err=True)


def _place(settings: Settings) -> str:
    return settings.place if settings.socket_path else f"http://{settings.place}"


def drain_on_signals(app: Flask) -> None:
    """Let signals drain a server of threads: SIGTERM and Ctrl+Break with patience, Ctrl+C without.

    gunicorn's workers see to it themselves.
    """
    if on_event_loop() or threading.current_thread() is not threading.main_thread():
        return
    drain = Drain(app)
    # A shell that starts a program in the background lets it ignore SIGINT, with which the drain ends it.
    signal.signal(signal.SIGINT, drain.hurry)
    signal.signal(signal.SIGTERM, drain.begin)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, drain.begin)


class Drain:
    """The end of a server of threads: new turns are refused with 503, and the process ends with its last response.

    At the drain's deadline what there is of the replies is stored, and their followers are told.
    """

    def __init__(self, app: Flask) -> None:
        from chatkeep.web.services import services_of  # noqa: PLC0415 - commands that serve nothing do without Flask

        self._services = services_of(app)
        self._app = app.wsgi_app
        self._open = 0  # responses
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._is_over = False
        app.wsgi_app = self  # type: ignore[method-assign]  # as Flask has it for middleware

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, and count it until its response was sent."""
        self._count(1)
        try:
            response = self._app(environ, start_response)
        except BaseException:
            self._count(-1)
            raise
        from werkzeug.wsgi import ClosingIterator  # noqa: PLC0415 - as above

        return ClosingIterator(response, partial(self._count, -1))

    def begin(self, _signal: int, _frame: FrameType | None) -> None:
        """Begin to drain."""
        self._begin(self._services.settings.drain_timeout)

    def hurry(self, _signal: int, _frame: FrameType | None) -> None:
        """Store what there is, tell the followers and end; at once when asked again."""
        if self._is_over or self._deadline <= time.monotonic():
            raise KeyboardInterrupt
        self._begin(0)

    def _begin(self, patience: float) -> None:
        is_new = self._deadline == math.inf
        self._deadline = min(self._deadline, time.monotonic() + patience)
        if is_new:
            threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        turns = self._services.turns
        turns.refuse()
        self._services.export_worker.close()
        while (turns.live or self._open) and time.monotonic() < self._deadline:
            time.sleep(LOOK_S)
        while (turns.live or self._open) and time.monotonic() < self._deadline + FLUSH_S:
            turns.interrupt_all()
            time.sleep(LOOK_S)
        time.sleep(LOOK_S)  # Waitress sends from another thread than it answers in
        self._is_over = True
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:  # Windows; it ends no system call, so that the main thread notices after up to a second
            _thread.interrupt_main()

    def _count(self, more: int) -> None:
        with self._lock:
            self._open += more


def require_place(settings: Settings) -> None:
    """End the program with one sentence if the server cannot listen where the settings say."""
    try:
        listening.require_place(settings)
    except SettingsError as error:
        stop(error)


def prepare_database(settings: Settings) -> None:
    """Migrate the database if that is safe, or end the program with the reason why no server could use it."""
    garbage.look_rarely()
    from chatkeep.store import migrations  # noqa: PLC0415 - the process that starts workers does without the database

    try:
        logs.start(settings.log_level, settings.log_format, settings.log_file)
        files.require_folder(settings.exports_dir)
        migrations.opened(settings.database).close()
    except ChatkeepError as error:
        stop(error)


def best() -> str:
    """Return the name of the server that fits this machine."""
    has_gunicorn = sys.platform != "win32" and importlib.util.find_spec("gunicorn") is not None
    return "gunicorn" if has_gunicorn else "waitress"


def serve_gunicorn() -> NoReturn:
    """Become gunicorn's master, so that signals reach it."""
    command = [sys.executable, "-m", "gunicorn", "-c", "python:chatkeep.server.gunicorn_conf", APPLICATION]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def serve_waitress() -> None:
    """Serve with Waitress until interrupted."""
    from waitress.server import create_server  # noqa: PLC0415 - only where it serves

    settings = checked_settings()
    app = wsgi()
    drain_on_signals(app)
    place: dict[str, Any] = {"host": settings.host, "port": settings.port, "trusted_proxy": "127.0.0.1"}
    if settings.socket_path:
        place = {"unix_socket": settings.socket_path, "trusted_proxy": "localhost"}
        place["unix_socket_perms"] = f"{settings.socket_mode:o}"
    # As gunicorn has it: a proxy on this machine says whether its client came over https.
    place |= {"trusted_proxy_headers": "x-forwarded-proto", "clear_untrusted_proxy_headers": True}
    logging.basicConfig()
    try:
        server = create_server(app, threads=settings.threads, **place)
    except OSError:  # another program was faster
        require_place(settings)
        raise
    announce(_place(settings))
    server.run()


def serve_development(app: Flask) -> None:
    """Serve with Flask's development server until interrupted."""
    from chatkeep.server.development import DevelopmentServer, RequestHandler  # noqa: PLC0415 - only where it serves

    settings = checked_settings()
    require_place(settings)
    host = f"unix://{settings.socket_path}" if settings.socket_path else settings.host
    RequestHandler.request_timeout_s = settings.body_timeout
    with _private_umask():
        server = DevelopmentServer(host, settings.port, app, RequestHandler)
    if settings.socket_path:
        os.chmod(settings.socket_path, settings.socket_mode)  # noqa: PTH101 - as the path is written
    announce(_place(settings))
    server.log_startup()
    server.serve_forever()


@contextmanager
def _private_umask() -> Iterator[None]:
    """Let nobody else open what is made meanwhile."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
