"""The servers that run the application: gunicorn, Waitress, and Flask's own for development."""

from __future__ import annotations

import _thread
import importlib.util
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chatkeep import logs
from chatkeep.concurrency import on_event_loop
from chatkeep.errors import ChatkeepError, OpenToAll, SettingsError
from chatkeep.languages import language_of_terminal, translated
from chatkeep.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

APPLICATION = "chatkeep.servers:wsgi()"
# With which a worker of gunicorn's ends its master, too.
GIVE_UP = 4
# How long the last events of a drain have to reach their clients.
FLUSH_S = 1.0


def wsgi() -> Flask:
    """Return the application of the environment's settings, or end the program with the reason."""
    from chatkeep.factory import create_app  # noqa: PLC0415 - gunicorn's master, which runs no requests, does without

    logs.catch_uncaught()
    try:
        return create_app(checked_settings())
    except ChatkeepError as error:
        stop(error)


def checked_settings() -> Settings:
    """Return the settings, or end the program with every wrong value named."""
    try:
        return Settings.from_env()
    except SettingsError as error:
        stop(error)


def stop(error: ChatkeepError) -> NoReturn:
    """End the program with a readable reason."""
    language = language_of_terminal()
    reasons = error.problems if isinstance(error, SettingsError) else [str(error.__cause__ or error)]
    click.echo(translated("chatkeep cannot start:", language), err=True)
    for reason in reasons:
        click.echo(f"  - {translated(reason, language)}", err=True)
    # Whoever has to make a key should not find gunicorn starting workers in vain for ever.
    sys.exit(GIVE_UP if isinstance(error, OpenToAll) and on_event_loop() else 2)


def drain_on_sigterm(app: Flask) -> None:
    """Let SIGTERM finish the running replies before it ends this process, under a server that does not do so itself.

    Until the drain's deadline new turns are refused with 503; then what there is of the replies is stored.
    """
    from chatkeep.web.parts import parts_of  # noqa: PLC0415 - commands that serve nothing do without Flask

    if on_event_loop() or threading.current_thread() is not threading.main_thread():
        return
    parts = parts_of(app)

    def drain() -> None:
        parts.maker.close()
        parts.turns.drain(parts.settings.drain_timeout)
        time.sleep(FLUSH_S)
        _thread.interrupt_main()

    def begin(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=drain, name="drain", daemon=True).start()

    # A shell that starts a program in the background lets it ignore SIGINT, with which the drain ends it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, begin)


def best() -> str:
    """Return the name of the server that fits this machine."""
    has_gunicorn = sys.platform != "win32" and importlib.util.find_spec("gunicorn") is not None
    return "gunicorn" if has_gunicorn else "waitress"


def serve_gunicorn() -> NoReturn:
    """Become gunicorn's master, so that signals reach it."""
    command = [sys.executable, "-m", "gunicorn", "-c", "python:chatkeep.gunicorn_conf", APPLICATION]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def serve_waitress() -> None:
    """Serve with Waitress until interrupted."""
    import waitress  # noqa: PLC0415 - only where it serves

    settings = checked_settings()
    app = wsgi()
    drain_on_sigterm(app)
    place: dict[str, Any] = {"host": settings.host, "port": settings.port, "trusted_proxy": "127.0.0.1"}
    if settings.socket_path:
        place = {"unix_socket": settings.socket_path, "trusted_proxy": "localhost"}
    # As gunicorn has it: a proxy on this machine says whether its client came over https.
    place |= {"trusted_proxy_headers": "x-forwarded-proto", "clear_untrusted_proxy_headers": True}
    waitress.serve(app, threads=settings.threads, **place)


def serve_development(app: Flask) -> None:
    """Serve with Flask's development server until interrupted."""
    from chatkeep.web.development import Answering  # noqa: PLC0415 - only where it serves

    settings = checked_settings()
    host = f"unix://{settings.socket_path}" if settings.socket_path else settings.host
    app.run(host, settings.port, threaded=True, use_reloader=False, request_handler=Answering)
