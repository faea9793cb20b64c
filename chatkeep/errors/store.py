"""Problems between chatkeep and the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from chatkeep.errors.base import Problem

# Characters of a statement to log.
MOST_OF_STATEMENT = 80


class StoreProblem(Problem):
    """The base of database errors."""

    status, code, title = 503, "database_unavailable", "The database is not available now"
    unstored: ClassVar[str] = "The database is not available now; nothing was stored."
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
    title = "The database took too long; ask for less at once, or try again later"
    unstored = "The database took too long; nothing was stored."


class DatabaseBusy(StoreUnavailable):
    """The maximum number of large reads is running."""

    code = "database_busy"
    title = "Too many searches are running; try again in a moment"


class DatabaseReadOnly(StoreUnavailable):
    """The database is a replica or read-only."""

    code = "database_read_only"
    title = "The database is read-only now"
    unstored = "The database is read-only now; nothing was stored."


class DatabaseFull(StoreUnavailable):
    """The database's disk is full."""

    code = "database_full"
    title = "The disk is full: nothing can be stored until there is room"
    unstored = "The disk is full: nothing was stored, and nothing can be until there is room."


class OutcomeUnknown(StoreUnavailable):
    """The database did not answer a COMMIT: the transaction may be stored or not, but never in part."""

    code = "outcome_unknown"
    title = "It is not known whether this was stored"
    unstored = (
        "The database broke off while it stored this. Send the request again with the same Idempotency-Key;"
        " if it had none, look first whether it was stored."
    )


class DatabaseRefused(StoreProblem):
    """The database refused a statement and would again; ``statement`` is its beginning, without values."""

    status, code, title = 500, "database_refused", "The database refused a statement"
    unstored = "The database refused a statement; nothing was stored. The cause is logged under the request's id."
    statement = ""

    @classmethod
    def of(cls, statement: str) -> DatabaseRefused:
        """Return the problem of a statement."""
        problem = cls("The database refused a statement. The cause is logged under the request's id.")
        problem.statement = statement[:MOST_OF_STATEMENT]
        return problem


@contextmanager
def stored_in_part(told: str) -> Iterator[None]:
    """Use ``told`` as the detail if one of several transactions fails, because earlier ones are stored."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except StoreProblem as problem:
        if problem.detail in {problem.title, problem.unstored}:
            problem.detail, problem.args = told, (told,)
        raise
