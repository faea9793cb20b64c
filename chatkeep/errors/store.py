"""Problems between chatkeep and the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from chatkeep.errors.base import Problem
from chatkeep.i18n import Text, _

# Characters of a statement to log.
MOST_OF_STATEMENT = 80


class StoreProblem(Problem):
    """The base of database errors."""

    status, code, title = 503, "database_unavailable", _("Database unavailable")
    unstored: ClassVar[Text] = _("The database is unavailable. Nothing was stored.")
    """The detail for a request whose writes were rolled back."""

    def to_writer(self) -> StoreProblem:
        """Say in the detail what happened to the transaction's writes; return self."""
        self.detail, self.args = self.unstored, (self.unstored,)
        return self


class StoreUnavailable(StoreProblem):
    """The database is unreachable or unable to work now; a retry may succeed."""


class DatabaseTimeout(StoreUnavailable):
    """The database aborted a statement that exceeded its time limit."""

    code = "database_timeout"
    title = _("Database timeout: request less at once, or retry later")
    unstored = _("The database took too long. Nothing was stored.")


class DatabaseBusy(StoreUnavailable):
    """The maximum number of large reads is running."""

    code = "database_busy"
    title = _("Too many concurrent searches; retry in a moment")


class DatabaseReadOnly(StoreUnavailable):
    """The database is a replica or read-only."""

    code = "database_read_only"
    title = _("Database read-only")
    unstored = _("The database is read-only. Nothing was stored.")


class DatabaseFull(StoreUnavailable):
    """The database's disk is full."""

    code = "database_full"
    title = _("Disk full")
    unstored = _("The disk is full. Nothing was stored. Free some space.")


class OutcomeUnknown(StoreUnavailable):
    """The database did not answer a COMMIT: the transaction may be stored or not, but never in part."""

    code = "outcome_unknown"
    title = _("Unknown whether the request was stored")
    unstored = _(
        "The database failed during the commit. Retry with the same Idempotency-Key. Without "
        "one, check first whether the request was stored."
    )


class DatabaseRefused(StoreProblem):
    """The database refused a statement and would again; ``statement`` is its beginning, without values."""

    status, code, title = 500, "database_refused", _("The database refused a statement")
    unstored = _("The database refused a statement. Nothing was stored. The cause is logged with the request's id.")
    statement = ""

    @classmethod
    def of(cls, statement: str) -> DatabaseRefused:
        """Return the problem of a statement."""
        problem = cls(_("The database refused a statement. The cause is logged with the request's id."))
        problem.statement = statement[:MOST_OF_STATEMENT]
        return problem


@contextmanager
def stored_in_part(told: Text) -> Iterator[None]:
    """Use ``told`` as the detail if one of several transactions fails, because earlier ones are stored."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except StoreProblem as problem:
        if problem.detail in {problem.title, problem.unstored}:
            problem.detail, problem.args = told, (told,)
        raise
