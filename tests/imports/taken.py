"""Short values to compare the results of imports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chatkeep.domain.conversation import Conversation, Message, Role
from chatkeep.imports import Report
from tests.imports.stores import Store, records

WHO = {Role.USER: "user", Role.ASSISTANT: "reply"}


@dataclass(frozen=True)
class Taken:
    """A conversation with the messages of its current branch."""

    conversation: Conversation
    messages: list[Message]

    @property
    def said(self) -> list[tuple[str, str]]:
        """Return roles and texts."""
        return [(WHO[one.role], one.content) for one in self.messages]


def take(store: Store, *conversations: Any) -> Report:
    """Import a list of conversations."""
    return store.take(json.dumps(list(conversations)).encode())


def taken(store: Store) -> list[Taken]:
    """Return the stored conversations by creation."""
    found = [UUID(one["id"]) for one in records(store.give()) if one["object"] == "conversation"]
    return [Taken(store.conversation(id), store.messages(id)) for id in found]  # noqa: A001


def only(store: Store) -> Taken:
    """Return the only stored conversation."""
    (found,) = taken(store)
    return found
