"""What owners may have stored: messages, and bytes of text. Without quotas nothing is counted and nothing is asked."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config.settings import Settings
from chatkeep.errors import QuotaExceeded
from chatkeep.store import holdings
from chatkeep.store.holdings import Stored
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Connection


@dataclass(frozen=True, slots=True)
class StorageQuota:
    """What each owner may have stored; None is no limit. Every method but `subjects` runs in the journal."""

    messages: int | None = None
    bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> StorageQuota:
        """Return what the settings say."""
        return cls(settings.quota_messages, settings.quota_bytes)

    def __bool__(self) -> bool:
        """Return whether anything is limited."""
        return self.messages is not None or self.bytes is not None

    def subjects(self, owner: str) -> tuple[str, ...]:
        """Return what a transaction has to hold that stores something of an owner's."""
        return (holdings.subject(owner),) if self else ()

    def check(self, connection: Connection, owner: str, more: Stored) -> None:
        """Raise `QuotaExceeded` where there is no room for what is to be stored."""
        if not self:
            return
        found = holdings.get(connection, owner) or Stored()
        if self.messages is not None and found.messages + more.messages > self.messages:
            raise QuotaExceeded(
                f"{found.messages} of {self.messages} messages are stored;"
                " delete conversations, or wait until some expire."
            )
        if self.bytes is not None and found.bytes + more.bytes > self.bytes:
            raise QuotaExceeded(
                f"{found.bytes} of {self.bytes} bytes are stored; delete conversations, or wait until some expire."
            )

    def add(self, connection: Connection, owner: str, more: Stored) -> None:
        """Count what is stored now."""
        if self:
            holdings.add(connection, owner, more)

    def add_reply(self, connection: Connection, lease: Lease) -> None:
        """Count the text of a reply that has ended."""
        if self:
            holdings.add_reply(connection, lease.owner, lease.reply_id)


UNLIMITED = StorageQuota()
