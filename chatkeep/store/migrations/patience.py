"""Wait for a database that is locked by other processes, or that does not answer for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import apsw
import pymysql
from pymysql.constants import CR

from chatkeep.errors import StoreUnavailable
from chatkeep.i18n import Text, _

T = TypeVar("T")
Tell = Callable[[Text], None]
SILENT_S = 60.0
"""How long to wait for a server that does not answer."""
_AGAIN_S = 0.1
HELD = _("Another process holds the database's write lock. Waiting for it.")
SILENT = _("The database does not answer. Waiting for it.")


def patiently(work: Callable[[], T], tell: Tell) -> T:
    """Return ``work()``, retried while another process locks the database. ``tell`` once what it waits for.

    Raises `StoreUnavailable` for other reasons, and if a server does not answer for `SILENT_S`.
    """
    silent_until = time.monotonic() + SILENT_S
    told: Text | None = None
    while True:
        try:
            return work()
        except StoreUnavailable as error:
            reason = _reason(error)
            if not reason or (reason == SILENT and time.monotonic() > silent_until):
                raise
        if reason != told:
            tell(reason)
            told = reason
        time.sleep(_AGAIN_S)


def is_held(error: BaseException | None) -> bool:
    """Return whether SQLite gave up on a lock of another process, after the busy timeout."""
    return isinstance(error, apsw.BusyError)


def _reason(error: StoreUnavailable) -> Text | None:
    """Return what to wait for; None if waiting does not help."""
    cause = error.__cause__
    cause = getattr(cause, "orig", cause)  # SQLAlchemy wraps the driver's error
    if is_held(cause):
        return HELD
    return SILENT if isinstance(cause, pymysql.OperationalError) and _is_silence(cause) else None


def _is_silence(error: pymysql.OperationalError) -> bool:
    """Return whether the client timed out."""
    return error.args[0] in {CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR} and "timed out" in str(error)
