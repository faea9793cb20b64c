"""The journal of an import, which stops once its end user is erased."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from chatkeep.domain.conversation import now_us
from chatkeep.errors import NotFound
from chatkeep.i18n import _
from chatkeep.store import epochs, fences
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.transaction import Transaction

T = TypeVar("T")


class FencedJournal:
    """Writes for an owner, unless the owner was erased since the import began."""

    def __init__(self, database: Database, journal: Journal, owner: str) -> None:
        self._journal = journal
        self._owner = owner
        self._epoch = database.read(epochs.current)

    def write(self, work: Callable[[Transaction], T], *, subjects: tuple[str, ...] = ()) -> T:
        """Return ``work(transaction)`` once it is durable. Raises `NotFound` if the owner was erased."""
        return self._journal.write(partial(self._fenced, work), subjects=subjects)

    def _fenced(self, work: Callable[[Transaction], T], transaction: Transaction) -> T:
        if "/" in self._owner:  # only end users are ever erased
            fences.touch(transaction, self._owner, now_us())
            if fences.erased(transaction, [self._owner], self._epoch):
                raise NotFound(_("The end user was erased during the import."))
        return work(transaction)
