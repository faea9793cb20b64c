"""Check this machine: folders, permissions, address, open files and the pages' assets."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chatkeep.cli import health
from chatkeep.cli.checks.finding import Finding, broken, doubtful, fine
from chatkeep.config.environment import env_files, read_env_file
from chatkeep.config.settings import Settings, described
from chatkeep.i18n import Text, _, text_of
from chatkeep.runtime import files as private
from chatkeep.server import listening, serving

# Free space below which the check warns or fails.
LOW_BYTES, TOO_LOW_BYTES = 1_000_000_000, 100_000_000
# Streams that a worker should be able to hold; each needs a file for its client and one for the provider.
STREAMS, FILES_OF_A_STREAM, OTHER_FILES = 1_000, 2, 100


def folders(settings: Settings) -> Iterator[Finding]:
    """Check that folders are writable, and report free space."""
    places = {_("data folder"): settings.data_dir, _("exports folder"): settings.exports_dir}
    if settings.database.startswith("sqlite:///"):
        places[_("database folder")] = database_file(settings).parent
    seen: dict[Path, str] = {}
    for about, path in places.items():
        if seen.setdefault(path.absolute(), about) == about:
            yield from _folder(about, path.absolute())


def _folder(about: Text, path: Path) -> Iterator[Finding]:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        told = _("{path} cannot be written: {reason}", path=path, reason=error.strerror)
        yield broken(about, told, _("allow the server's user to write to it, or set CHATKEEP_DATA_DIR"))
        return
    told = _("{path}: {free} GB are free", path=path, free=f"{free / 1e9:,.1f}")
    if free < TOO_LOW_BYTES:
        yield broken(about, told, _("free some space: nothing can be stored on a full disk"))
    elif free < LOW_BYTES:
        yield doubtful(about, told, _("free some space soon: nothing can be stored on a full disk"))
    else:
        yield fine(about, told)


def permissions(settings: Settings) -> Iterator[Finding]:
    """Check that other local users cannot read or write the server's files."""
    if sys.platform == "win32":
        there = settings.data_dir.absolute()
        yield fine(
            _("permissions"),
            _("Windows has no file modes; check the permissions of {path} with icacls", path=there),
        )
        return
    places = [settings.data_dir, settings.exports_dir, *filter(_holds_secrets, env_files(os.environ, Path.cwd()))]
    if settings.database.startswith("sqlite:///"):
        places += [Path(f"{database_file(settings)}{end}") for end in ("", "-wal", "-shm")]
    if settings.socket_path and not settings.socket_mode & private.OTHERS:
        places.append(Path(settings.socket_path))
    exposed = [place.absolute() for place in places if private.is_exposed(place)]
    for place in exposed:
        told = _("every user of this machine can read or write {path}", path=place)
        yield doubtful(_("permissions"), told, _("run: chmod o-rwx {path}", path=place))
    if not exposed:
        yield fine(_("permissions"), _("other users of this machine cannot open the server's files"))


def _holds_secrets(file: Path) -> bool:
    """Return whether a .env file sets a secret setting."""
    named = read_env_file(file)
    return any(named.get(item.metadata["env"]) for item in described() if item.metadata["secret"])


def place(settings: Settings) -> Iterator[Finding]:
    """Check that the server can listen, or that it already does."""
    try:
        answer = health.answer(settings, "/health")
    except (ConnectionRefusedError, FileNotFoundError):
        yield _free(settings)
    except TimeoutError:
        told = _("the program that listens on {place} does not answer", place=settings.place)
        yield broken(_("address"), told, _("set another PORT or HOST, or stop that program"))
    except OSError as error:
        advice = _("set another PORT or HOST, or stop that program")
        yield broken(
            _("address"), _("{place} cannot be used: {reason}", place=settings.place, reason=text_of(error)), advice
        )
    else:
        yield _answered(settings.place, answer)


def _answered(there: str, answer: bytes) -> Finding:
    head, _blank, body = answer.partition(b"\r\n\r\n")
    if b'"cache"' not in body or b'"provider"' not in body:
        return broken(
            _("address"),
            _("another program answers on {url}", url=there),
            _("set another PORT or HOST, or stop that program"),
        )
    if head.startswith(health.READY):
        return fine(_("address"), _("chatkeep already answers on {url}", url=there))
    return broken(
        _("address"), _("chatkeep answers on {url}, but reports that it is unhealthy", url=there), _("check its log")
    )


def _free(settings: Settings) -> Finding:
    if settings.socket_path:
        folder = Path(settings.socket_path).absolute().parent
        if os.access(folder, os.W_OK):
            return fine(_("address"), _("{place} is free", place=settings.place))
        if not folder.exists():
            advice = _("create the folder for the server's user; the systemd unit does this when it starts")
            return doubtful(_("address"), _("{path} does not exist", path=folder), advice)
        return broken(
            _("address"), _("{path} cannot be written", path=folder), _("allow the server's user to write to it")
        )
    try:
        listening.listen(settings.host, settings.port).close()
    except OSError as error:
        told = _("{place} cannot be used: {reason}", place=settings.place, reason=error.strerror or error)
        return broken(_("address"), told, _("set another PORT or HOST"))
    return fine(_("address"), _("{place} is free", place=settings.place))


def files(settings: Settings) -> Iterator[Finding]:
    """Check the limit of open files: every stream needs some."""
    if not hasattr(os, "sysconf"):
        return
    most = os.sysconf("SC_OPEN_MAX")
    streams = STREAMS if serving.best() == "gunicorn" else settings.threads
    if 0 <= most < streams * FILES_OF_A_STREAM + OTHER_FILES:
        fit = max(most - OTHER_FILES, 0) // FILES_OF_A_STREAM
        told = _(
            "a process can open {files}, which is enough for {streams} concurrent streams",
            files=f"{most:,}",
            streams=f"{fit:,}",
        )
        yield doubtful(_("open files"), told, _("raise it: ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit"))
    else:
        yield fine(_("open files"), _("enough for {streams} concurrent streams per process", streams=f"{streams:,}"))


def pages(_settings: Settings) -> Iterator[Finding]:
    """Check that the third-party assets of the pages were built."""
    from chatkeep.web.files import missing  # noqa: PLC0415 - not needed if settings are wrong

    if lacking := ", ".join(missing()):
        told = _("not built: {names}; replies are shown as plain text", names=lacking)
        yield doubtful(
            _("pages"), told, _("in a checkout, run: ./dev assets; otherwise install a wheel, which includes them")
        )
    else:
        yield fine(_("pages"), _("everything is built"))


def database_file(settings: Settings) -> Path:
    """Return the SQLite database file."""
    return Path(settings.database.removeprefix("sqlite:///"))
