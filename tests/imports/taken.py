"""What an import made of a file, as short values to compare."""

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
        """Return who said what."""
        return [(WHO[one.role], one.content) for one in self.messages]


def take(store: Store, *conversations: Any) -> Report:
    """Import a list of conversations."""
    return store.take(json.dumps(list(conversations)).encode())


def taken(store: Store) -> list[Taken]:
    """Return what is stored, in the order in which the conversations began."""
    found = [UUID(one["id"]) for one in records(store.give()) if one["object"] == "conversation"]
    return [Taken(store.conversation(id), store.messages(id)) for id in found]  # noqa: A001


def only(store: Store) -> Taken:
    """Return the only conversation that is stored."""
    (found,) = taken(store)
    return found
