"""Rows for tests, and sinks that record their calls."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, Delta, Message, Role, Status, new_id, now_us
from chatkeep.errors import Problem
from chatkeep.store import conversations, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.messages import Progress
from chatkeep.store.transaction import Transaction


def a_conversation(**fields: Any) -> Conversation:
    now = now_us()
    made = Conversation(id=new_id(), owner="me", title="Title", created_at=now, last_active=now)
    return replace(made, **fields)


def a_message(conversation: Conversation, **fields: Any) -> Message:
    made = Message(
        id=new_id(), conversation_id=conversation.id, parent_id=None, position=1, role=Role.USER, content="",
        timestamp=now_us(),
    )  # fmt: skip
    return replace(made, **fields)


def a_reply(conversation: Conversation, **fields: Any) -> Message:
    """Return a running reply."""
    return a_message(conversation, **{"role": Role.ASSISTANT, "status": Status.GENERATING, **fields})


def stored_reply(journal: Journal) -> Message:
    """Store a running reply, and return it."""
    conversation = a_conversation()
    reply = a_reply(conversation)

    def write(connection: Transaction) -> Message:
        conversations.insert(connection, conversation)
        messages.insert(connection, reply)
        return reply

    return journal.write(write)


class Recorder:
    """A sink that records its calls."""

    def __init__(self, database: Database, reply: Message) -> None:
        self.id: UUID = reply.id
        self.written = 0
        self.shown: list[str] = []
        self.losses: list[Progress | None] = []
        self.refusals: list[Problem] = []
        self._database = database
        self._conversation_id = reply.conversation_id

    def committed(self, delta: Delta) -> None:
        self.written += len(delta.text) + len(delta.reasoning)
        self.shown.append(delta.text)

    def lost(self, progress: Progress | None) -> None:
        self.losses.append(progress)

    def refused(self, problem: Problem) -> None:
        self.refusals.append(problem)

    @property
    def text(self) -> str:
        return "".join(self.shown)

    def row(self) -> Message:
        """Return the reply's row as other connections see it."""
        found = self._database.read(lambda connection: messages.get(connection, self._conversation_id, self.id))
        assert found
        return found


class Doubter(Recorder):
    """A sink that checks after each commit that the row has the text that it received."""

    def __init__(self, database: Database, reply: Message) -> None:
        super().__init__(database, reply)
        self.lies: list[str] = []

    def committed(self, delta: Delta) -> None:
        super().committed(delta)
        if not self.row().content.startswith(self.text):
            self.lies.append(delta.text)
