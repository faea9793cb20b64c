"""Exports restore everything, as a whole export or as consecutive increments."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chatkeep.conversations import branches
from chatkeep.conversations.service import Changes, change_conversation, delete_conversation
from chatkeep.domain.conversation import Conversation, Message, Role, Status, Usage, new_id
from chatkeep.store import conversations, imports, messages
from chatkeep.store.transaction import Transaction
from tests.imports.stores import HOUR, OWNER, Store, a_conversation

AWKWARD = st.sampled_from(
    ["=1+1", "\t", "\r\n", '"', "\\", "\\u0041", "\0", "\x1b", "\x7f", "\u2028", "\ufeff", "你好", "🙂", "]}", "null"]
)
NOW, FAR = 1_795_339_800_000_001, 4_000_000_000_000_000
TEXT = st.lists(AWKWARD | st.text(max_size=3), max_size=4).map("".join)
WORD = st.none() | st.text(max_size=8)
FINAL = st.sampled_from([status for status in Status if status is not Status.GENERATING])
JSON = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT, max_size=2
)
# All examples share one store, which is emptied between them.
MANY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def trees(draw: st.DrawFn) -> tuple[Conversation, list[Message]]:
    """Draw a conversation as turns, regenerations and edits leave it: times ascend, parents come first."""
    at = draw(st.integers(1, NOW))
    id, times = new_id(at), sorted(draw(st.sets(st.integers(at, at + HOUR), max_size=6)))  # noqa: A001
    said: list[Message] = []
    for position, time in enumerate(times, 1):
        parent = draw(st.sampled_from([None, *said]))
        said.append(draw(replies(id, parent.id if parent else None, position, time)))
    tip = draw(st.sampled_from(said)) if said else None
    conversation = Conversation(
        id, OWNER, draw(st.text(max_size=20)), at, max([at, *times]), len(said), tip.id if tip else None,
        system=draw(st.none() | TEXT), ttl=draw(st.none() | st.integers(1, 10**9)), pinned=draw(st.booleans()),
        expires_at=draw(st.none() | st.integers(FAR, 2 * FAR)), metadata=draw(JSON),
    )  # fmt: skip
    parents = [message.parent_id for message in said]
    return replace(conversation, forks=len(parents) - len(set(parents))), said


def replies(id: UUID, parent_id: UUID | None, position: int, time: int) -> st.SearchStrategy[Message]:
    return st.builds(
        Message, st.just(new_id(time)), st.just(id), st.just(parent_id), st.just(position), st.sampled_from(Role), TEXT,
        st.just(time), status=FINAL, reasoning=TEXT, model=WORD, finish_reason=WORD, error=WORD, cached=st.booleans(),
        usage=st.none() | st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6)),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["json", "ndjson"])
@given(st.lists(trees(), max_size=3))
@MANY
def test_export_and_import_restore_everything(
    store: Store, name: str, stored: list[tuple[Conversation, list[Message]]]
) -> None:
    """Thirty stores are filled, emptied and filled again: some seconds."""
    store.empty()
    store.put(*stored)
    file, forks = store.give(name), forks_of(store)
    store.empty()
    report = store.take(file)
    assert (report.problem_count, report.messages) == (0, sum(len(said) for _, said in stored))
    assert unsealed(store.give(name)) == unsealed(file)
    assert forks_of(store) == forks


def unsealed(file: bytes) -> bytes:
    """Return an export without its last line, whose cursor differs each time."""
    return file[: file.rindex(b"\n", 0, -1)]


def forks_of(store: Store) -> list[Any]:
    return store.rows("SELECT id, forks FROM conversations ORDER BY id")


class Source:
    """A store with random changes, by the functions that turns and routes call."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = Random(seed)  # noqa: S311 - the same each time
        self.cursor: int | None = None

    def happen(self) -> None:
        """Change a conversation at random."""
        ids = [UUID(bytes=row[0]) for row in self.store.rows("SELECT id FROM conversations ORDER BY id")]
        deed = self.random.choice(
            [self.begin, self.say, self.say, self.regenerate, self.go_back, self.rename, self.end]
        )
        deed(self.random.choice(ids)) if ids else self.begin(None)

    def begin(self, _: UUID | None) -> None:
        self.store.put(a_conversation(self.random.randint(1, 3), ttl=HOUR, expires_at=FAR))

    def say(self, id: UUID) -> None:
        self._turn(id, 2, self.store.conversation(id).current_id)

    def regenerate(self, id: UUID) -> None:
        *_, asked, _ = self.store.messages(id)
        self._turn(id, 1, asked.id)

    def go_back(self, id: UUID) -> None:
        tree = self.store.database.read(lambda connection: messages.newer(connection, id, 0, 10_000))
        chosen = self.random.choice(sorted(step.id for step in tree))
        change_conversation(self.store.database, self.store.journal, OWNER, id, Changes(current_id=chosen))

    def rename(self, id: UUID) -> None:
        changes = Changes(title=f"renamed {self.random.random()}", pinned=True)
        change_conversation(self.store.database, self.store.journal, OWNER, id, changes)

    def end(self, id: UUID) -> None:
        delete_conversation(self.store.journal, OWNER, id)

    def export(self, name: str) -> bytes:
        """Return an increment since the last export, or a whole export."""
        file = self.store.give(name, since=self.cursor)
        self.cursor = int(file[file.rindex(b'"cursor":"') + 10 :].partition(b'"')[0])
        return file

    def _turn(self, id: UUID, amount: int, parent_id: UUID | None) -> None:
        def write(connection: Transaction) -> None:
            found = conversations.lock(connection, OWNER, id, NOW)
            assert found is not None
            branches.switch_locked(connection, found, parent_id)
            tip = parent_id
            for count in range(1, amount + 1):
                made = Message(
                    new_id(), id, tip, found.message_count + count, Role.USER, "more", found.last_active + count
                )
                imports.add(connection, [made], {made.id})
                tip = made.id
            ended = replace(
                found, current_id=tip, message_count=found.message_count + amount, forks=found.forks + (amount == 1),
                last_active=found.last_active + amount,
            )  # fmt: skip
            conversations.update(connection, ended)

        self.store.journal.write(write)


@pytest.mark.parametrize("name", ["json", "ndjson"])
def test_an_export_and_its_increments_make_the_same_store(store: Store, other: Store, name: str) -> None:
    """Makes two hundred changes, each a commit: a second or two."""
    source = Source(store, seed=7)
    for _ in range(8):
        for _ in range(25):
            source.happen()
        file = source.export(name)
        for _ in range(2):  # a second import adds nothing
            assert other.take(file).problem_count == 0
        assert unsealed(other.give()) == unsealed(store.give())
        assert forks_of(other) == forks_of(store)


def test_overlapping_increments_can_be_restored(store: Store, other: Store) -> None:
    """A hundred commits: a second."""
    source = Source(store, seed=8)
    files = []
    for _ in range(4):
        for _ in range(25):
            source.happen()
        files.append(source.export("ndjson"))
    for file in (*files[:3], *files[1:]):
        assert other.take(file).problem_count == 0
    assert unsealed(other.give()) == unsealed(store.give())
