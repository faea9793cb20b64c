"""The servers that run the application: gunicorn, Waitress, and Flask's own for development."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import NoReturn

import click
from flask import Flask

from chatkeep.errors import ChatkeepError, SettingsError
from chatkeep.settings import Settings

APPLICATION = "chatkeep.servers:wsgi()"


def wsgi() -> Flask:
    """Return the application of the environment's settings, or end the program with the reason."""
    from chatkeep.factory import create_app  # noqa: PLC0415 - gunicorn's master, which runs no requests, does without

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
    reasons = error.problems if isinstance(error, SettingsError) else [str(error.__cause__ or error)]
    click.echo("chatkeep cannot start:", err=True)
    for reason in reasons:
        click.echo(f"  - {reason}", err=True)
    sys.exit(2)


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
    waitress.serve(wsgi(), host=settings.host, port=settings.port, threads=settings.threads)


def serve_development(app: Flask) -> None:
    """Serve with Flask's development server until interrupted."""
    from werkzeug.serving import WSGIRequestHandler  # noqa: PLC0415 - only where it serves

    settings = checked_settings()
    # Keep-alive and chunked streams, as the production servers have them.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app.run(settings.host, settings.port, threaded=True, use_reloader=False)
