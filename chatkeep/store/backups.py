"""Back up the embedded database while servers write, and restore it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw

from chatkeep.errors import StoreProblem, TransferError
from chatkeep.i18n import _
from chatkeep.runtime import files
from chatkeep.store import identity
from chatkeep.store.migrations import HEAD
from chatkeep.store.sql import StoreError
from chatkeep.store.sqlite import BUSY_MS, SqliteConnection

# After this many SQLite steps, some milliseconds, Python handles signals.
STEPS = 50_000


def back_up(database: Path, backup: Path) -> None:
    """Write a snapshot of the database to a new file. Raises `TransferError`.

    Does not block readers or writers.
    """
    if not database.is_file():
        raise TransferError(
            _("There is no database at {path}. Check DATABASE_URL and CHATKEEP_DATA_DIR.", path=database)
        )
    if os.path.lexists(backup):
        raise TransferError(_("There is a file {path} already. Choose another name.", path=backup))
    _copy(database, backup, lambda _connection: None)


def restore(backup: Path, database: Path) -> None:
    """Copy a backup to the database's path, which must not exist. Raises `TransferError`."""
    if not backup.is_file():
        raise TransferError(_("There is no file {path}.", path=backup))
    for end in ("", "-wal", "-shm", "-journal"):
        there = Path(f"{database}{end}")
        if os.path.lexists(there):
            raise TransferError(
                _("There is a file {path} already. Stop every server that uses it, then move it away.", path=there)
            )
    try:
        files.make_folder(database.parent)
    except OSError as error:
        raise TransferError(
            _("{path} cannot be made: {reason}", path=database.parent, reason=error.strerror)
        ) from error
    _copy(backup, database, identity.renew)


def _copy(source: Path, target: Path, change: Callable[[SqliteConnection], None]) -> None:
    """Copy a database and ``change`` the copy. The target gets its name only when it is checked and on the disk.

    Raises `TransferError`. Leaves no file behind then, or when a signal ends it.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent)  # mode 0600
    except OSError as error:
        raise TransferError(
            _("{path} cannot be written: {reason}", path=target.parent, reason=error.strerror)
        ) from error
    os.close(handle)
    part = Path(name)
    try:
        _fill(part, source)
        with closing(_opened(part)) as raw:
            _require_sound(raw)
            change(SqliteConnection(raw))
        _sync(part)
        _publish(part, target)
    except (apsw.Error, StoreError, StoreProblem) as error:
        raise TransferError(
            _(
                "{source} cannot be copied to {target}: {reason}",
                source=source,
                target=target,
                reason=error.__cause__ or error,
            )
        ) from error
    except OSError as error:
        raise TransferError(_("{path} cannot be written: {reason}", path=target, reason=error.strerror)) from error
    finally:
        for end in ("", "-journal"):
            Path(f"{part}{end}").unlink(missing_ok=True)


def _fill(part: Path, source: Path) -> None:
    with closing(_opened(source)) as raw:
        pages = raw.pragma("page_count") - raw.pragma("freelist_count")
        needed, free = pages * raw.pragma("page_size"), shutil.disk_usage(part.parent).free
        if needed > free:
            raise TransferError(
                _(
                    "{path} has room for {free} MB; {needed} MB are needed. Make room there.",
                    path=part.parent,
                    free=f"{free / 1e6:,.0f}",
                    needed=f"{needed / 1e6:,.0f}",
                )
            )
        _require_ours(raw, source)
        raw.execute("VACUUM INTO ?", (str(part),))


def _opened(path: Path) -> apsw.Connection:
    """Open a database file. Signals can interrupt its statements."""
    raw = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    raw.set_busy_timeout(BUSY_MS)
    raw.set_progress_handler(lambda: False, STEPS)
    return raw


def _require_ours(raw: apsw.Connection, path: Path) -> None:
    """Raise `TransferError` unless this version can use the database."""
    if not raw.table_exists(None, "alembic_version"):
        raise TransferError(_("{path} is no database of chatkeep.", path=path))
    revision = raw.execute("SELECT version_num FROM alembic_version").get
    if revision is None or str(revision) > HEAD:
        raise TransferError(
            _(
                "{path} has schema {revision}; this version knows {newest}. Upgrade chatkeep.",
                path=path,
                revision=revision,
                newest=HEAD,
            )
        )


def _require_sound(raw: apsw.Connection) -> None:
    found = raw.execute("PRAGMA integrity_check(1)").get
    if found != "ok":
        raise TransferError(_("The database is corrupt: {reason}. Restore an older backup.", reason=found))


def _publish(part: Path, target: Path) -> None:
    """Rename a file, unless the name has been taken."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise TransferError(_("There is a file {path} already. Choose another name.", path=target)) from None
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise TransferError(_("There is a file {path} already. Choose another name.", path=target)) from None
        part.rename(target)
    if os.name != "nt":  # Windows can't open folders
        _sync(target.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
