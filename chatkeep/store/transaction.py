"""A transaction of the journal: the unit of work that every write is part of."""

from __future__ import annotations

from chatkeep.domain.audit import AuditEvent
from chatkeep.domain.quota import WindowUsage
from chatkeep.store.ledger import Ledger
from chatkeep.store.sql import DriverConnection


class Transaction:
    """Runs statements on a connection and carries what the transaction collects until its commit."""

    __slots__ = ("append", "change", "change_each", "connection", "epoch", "events", "ledger", "rows", "stream")

    def __init__(
        self, connection: DriverConnection, epoch: int | None = None, spent: dict[str, WindowUsage] | None = None
    ) -> None:
        """``epoch`` and ``spent`` are what `windows.hold` has locked and returned."""
        self.connection = connection
        self.rows = connection.rows
        self.stream = connection.stream
        self.change = connection.change
        self.change_each = connection.change_each
        self.append = connection.append
        self.epoch = epoch
        """The epoch that stamps every changed row; None, which no row accepts, before the transaction holds one."""
        self.ledger = Ledger(spent)
        """What the transaction counts against limits."""
        self.events: list[AuditEvent] = []
        """What the transaction adds to the audit log."""
