"""Enforce storage quotas: messages, and bytes of text. Without quotas nothing is counted and no statement is run."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config.settings import Settings
from chatkeep.errors import QuotaExceeded
from chatkeep.i18n import _
from chatkeep.store import holdings
from chatkeep.store.holdings import Stored
from chatkeep.store.leases import Lease
from chatkeep.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class StorageQuota:
    """What each owner may store; None is no limit. Every method but `subjects` runs in the journal."""

    messages: int | None = None
    bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> StorageQuota:
        """Return the quota of the settings."""
        return cls(settings.quota_messages, settings.quota_bytes)

    def __bool__(self) -> bool:
        """Return whether anything is limited."""
        return self.messages is not None or self.bytes is not None

    def subjects(self, owner: str) -> tuple[str, ...]:
        """Return what a transaction locks that stores something for an owner."""
        return (holdings.subject(owner),) if self else ()

    def check(self, transaction: Transaction, owner: str, more: Stored) -> None:
        """Raise `QuotaExceeded` if ``more`` exceeds the quota."""
        if not self:
            return
        found = holdings.get(transaction, owner) or Stored()
        if self.messages is not None and found.messages + more.messages > self.messages:
            raise QuotaExceeded(
                _(
                    "Storage quota exceeded: {count} of {quota} messages are stored. Delete conversations, or "
                    "wait until some expire.",
                    count=found.messages,
                    quota=self.messages,
                )
            )
        if self.bytes is not None and found.bytes + more.bytes > self.bytes:
            raise QuotaExceeded(
                _(
                    "Storage quota exceeded: {count} of {quota} bytes are stored. Delete conversations, or wait "
                    "until some expire.",
                    count=found.bytes,
                    quota=self.bytes,
                )
            )

    def add(self, transaction: Transaction, owner: str, more: Stored) -> None:
        """Count what was stored."""
        if self:
            holdings.add(transaction, owner, more)

    def add_reply(self, transaction: Transaction, lease: Lease) -> None:
        """Count the text of a reply that has ended."""
        if self:
            holdings.add_reply(transaction, lease.owner, lease.reply_id)


UNLIMITED = StorageQuota()
