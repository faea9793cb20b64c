"""The checks of `chatkeep doctor`; a check yields findings and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from chatkeep.cli.checks.database import database
from chatkeep.cli.checks.finding import Finding, broken, doubtful, fine
from chatkeep.cli.checks.machine import files, folders, pages, permissions, place
from chatkeep.cli.checks.services import oidc, provider, redis
from chatkeep.config.environment import env_files
from chatkeep.config.settings import Settings, unknown_names
from chatkeep.errors import SettingsError
from chatkeep.i18n import _
from chatkeep.redaction.policies import Redaction


def findings() -> Iterator[Finding]:
    """Run all checks; wrong settings end the run, because the other checks need them."""
    try:
        yield from names()
        settings = Settings.from_env()
        Redaction.from_settings(settings)
    except SettingsError as error:
        yield from (
            broken(_("settings"), problem, _("fix it, then run chatkeep doctor again for the other checks"))
            for problem in error.problems
        )
        return
    yield fine(_("settings"), _("every value is valid"))
    for check in CHECKS:
        yield from check(settings)


def names() -> Iterator[Finding]:
    """Report the .env files that are read, and unknown names of settings."""
    files = env_files(os.environ, Path.cwd())
    unknown = unknown_names(os.environ, files)  # raises `SettingsError` for a file that cannot be read
    read = ", ".join(str(path) for path in files if path.is_file())
    chosen = files[0].name.removeprefix(".env.")
    yield fine(
        _("environment"),
        _("{environment}; files read: {files}", environment=chosen, files=read)
        if read
        else _("{environment}; no .env file found", environment=chosen),
    )
    for name in unknown:
        yield doubtful(
            _("environment"),
            _("{name} is not a setting", name=name),
            _("check the spelling; docs/settings.md lists all names"),
        )


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    folders,
    permissions,
    database,
    provider,
    redis,
    oidc,
    place,
    files,
    pages,
)
