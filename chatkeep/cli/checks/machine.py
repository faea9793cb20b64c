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
from chatkeep.runtime import files as private
from chatkeep.server import listening, serving

# Free space below which the check warns or fails.
LOW_BYTES, TOO_LOW_BYTES = 1_000_000_000, 100_000_000
# Streams that a worker should be able to hold; each needs a file for its client and one for the provider.
STREAMS, FILES_OF_A_STREAM, OTHER_FILES = 1_000, 2, 100


def folders(settings: Settings) -> Iterator[Finding]:
    """Check that folders are writable, and report free space."""
    places = {"data folder": settings.data_dir, "exports folder": settings.exports_dir}
    if settings.database.startswith("sqlite:///"):
        places["database folder"] = database_file(settings).parent
    seen: dict[Path, str] = {}
    for about, path in places.items():
        if seen.setdefault(path.absolute(), about) == about:
            yield from _folder(about, path.absolute())


def _folder(about: str, path: Path) -> Iterator[Finding]:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        told = f"{path} cannot be written: {error.strerror}"
        yield broken(about, told, "let the server's user write there, or set CHATKEEP_DATA_DIR")
        return
    told = f"{path}: {free / 1e9:,.1f} GB are free"
    if free < TOO_LOW_BYTES:
        yield broken(about, told, "make room: nothing can be stored on a full disk")
    elif free < LOW_BYTES:
        yield doubtful(about, told, "make room soon: nothing can be stored on a full disk")
    else:
        yield fine(about, told)


def permissions(settings: Settings) -> Iterator[Finding]:
    """Check that other local users cannot read or write the server's files."""
    if sys.platform == "win32":
        there = settings.data_dir.absolute()
        yield fine("permissions", f"Windows has no file modes: the rights of {there} decide, and icacls shows them")
        return
    places = [settings.data_dir, settings.exports_dir, *filter(_holds_secrets, env_files(os.environ, Path.cwd()))]
    if settings.database.startswith("sqlite:///"):
        places += [Path(f"{database_file(settings)}{end}") for end in ("", "-wal", "-shm")]
    if settings.socket_path and not settings.socket_mode & private.OTHERS:
        places.append(Path(settings.socket_path))
    exposed = [place.absolute() for place in places if private.is_exposed(place)]
    for place in exposed:
        told = f"every user of this machine can read or write {place}"
        yield doubtful("permissions", told, f"run: chmod o-rwx {place}")
    if not exposed:
        yield fine("permissions", "other users of this machine can open nothing of the server's")


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
        told = f"whatever listens on {settings.place} does not answer"
        yield broken("place", told, "set another PORT (or HOST), or end that program")
    except OSError as error:
        advice = "set another PORT (or HOST), or end what listens there"
        yield broken("place", f"{settings.place} cannot be used: {error}", advice)
    else:
        yield _answered(settings.place, answer)


def _answered(there: str, answer: bytes) -> Finding:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b'"cache"' not in body or b'"provider"' not in body:
        return broken("place", f"another program answers on {there}", "set another PORT (or HOST), or end that program")
    if head.startswith(health.READY):
        return fine("place", f"chatkeep answers on {there} already")
    return broken("place", f"chatkeep answers on {there}, and says that it is not well", "look at its log")


def _free(settings: Settings) -> Finding:
    if settings.socket_path:
        folder = Path(settings.socket_path).absolute().parent
        if os.access(folder, os.W_OK):
            return fine("place", f"{settings.place} is free")
        if not folder.exists():
            advice = "make the folder for the server's user; the systemd unit does so when it starts"
            return doubtful("place", f"{folder} does not exist", advice)
        return broken("place", f"{folder} cannot be written", "let the server's user write there")
    try:
        listening.listen(settings.host, settings.port).close()
    except OSError as error:
        told = f"{settings.place} cannot be used: {error.strerror or error}"
        return broken("place", told, "set another PORT (or HOST)")
    return fine("place", f"{settings.place} is free")


def files(settings: Settings) -> Iterator[Finding]:
    """Check the limit of open files: every stream needs some."""
    if not hasattr(os, "sysconf"):
        return
    most = os.sysconf("SC_OPEN_MAX")
    streams = STREAMS if serving.best() == "gunicorn" else settings.threads
    if 0 <= most < streams * FILES_OF_A_STREAM + OTHER_FILES:
        fit = max(most - OTHER_FILES, 0) // FILES_OF_A_STREAM
        told = f"a process may have {most:,}, which is enough for {fit:,} streams at once"
        yield doubtful("open files", told, "raise it: ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit")
    else:
        yield fine("open files", f"enough for {streams:,} streams at once in each process")


def pages(_settings: Settings) -> Iterator[Finding]:
    """Check that the third-party assets of the pages were built."""
    from chatkeep.web.files import missing  # noqa: PLC0415 - not needed if settings are wrong

    if lacking := ", ".join(missing()):
        told = f"not built: {lacking}; replies are shown as plain text"
        yield doubtful("pages", told, "in a checkout run: ./dev assets; else install a wheel, which has them")
    else:
        yield fine("pages", "everything is built")


def database_file(settings: Settings) -> Path:
    """Return the SQLite database file."""
    return Path(settings.database.removeprefix("sqlite:///"))
