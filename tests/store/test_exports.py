"""Exports read by index, only what they need, and in small pieces."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import OPEN_OWNER, Conversation, Message, new_id, now_us
from chatkeep.exports import Export
from chatkeep.exports.formats import make
from chatkeep.store import conversations, leases, messages, migrations, schema
from chatkeep.store import exports as tables
from chatkeep.store.engine import Database
from chatkeep.store.exports import PIECE_BYTES, Pages, Selection
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Connection, Sql
from chatkeep.store.transaction import Transaction
from tests.client import SLOW
from tests.conftest import DATABASES, empty_database
from tests.copies import Copy
from tests.servers import ROOT
from tests.store.connections import Planned
from tests.store.examples import a_conversation, a_message
from tests.store.rows import NOW, conversation_row, message_row

OWNERS, EACH, SAID = 100, 30, 4
LONG = 1_000_000
OWNER = "owner 1"
INDEX = re.compile(r"ix_\w+|PRIMARY|sqlite_autoindex_\w+")


@pytest.fixture(scope="module", params=DATABASES)
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of many owners with some unexpired conversations each."""
    database = Database(empty_database(request, request.param, tmp_path_factory))
    migrations.migrate(database)
    ids = [new_id(NOW + number) for number in range(OWNERS * EACH)]
    rows = [
        conversation_row(number, made)
        | {"owner": f"owner {number % OWNERS}", "epoch": number // OWNERS, "message_count": SAID}
        for number, made in enumerate(ids)
    ]
    said = [message_row(number, ids[number % len(ids)]) for number in range(SAID * len(ids))]
    with database.engine.begin() as connection:
        connection.execute(schema.conversations.insert(), rows)
        connection.execute(schema.messages.insert(), said)
    with database.connection() as connection:
        connection.rows(Sql("ANALYZE" if database.embedded else "ANALYZE TABLE conversations, messages"))
    yield database
    database.close()


SELECTIONS = {
    "all": (Selection(OWNER), "ix_conversations_of_owner"),
    "records": (Selection(OWNER, records=True), "ix_conversations_of_owner"),
    "a branch": (Selection(OWNER, branch_only=True), "ix_conversations_of_owner"),
    "what changed": (Selection(OWNER, since=20, records=True), "ix_conversations_epoch"),
    "what changed just now": (Selection(OWNER, since=28, records=True), "ix_conversations_epoch"),
}


@pytest.mark.parametrize(("selection", "index"), SELECTIONS.values(), ids=SELECTIONS)
def test_export_statements_use_their_indexes(crowded: Database, selection: Selection, index: str) -> None:
    plans = plans_of(crowded, selection)
    assert indexes(plans, "conversations") == {index}
    assert indexes(plans, "messages") == {"ix_messages_conversation"}


def test_single_conversation_is_read_by_id(crowded: Database) -> None:
    selection = Selection(OWNER, conversation_id=new_id(), records=True)
    assert indexes(plans_of(crowded, selection), "conversations") <= {"PRIMARY", "sqlite_autoindex_conversations_1"}


def plans_of(database: Database, selection: Selection) -> list[str]:
    """Return the plans of the statements that read pages. None may scan or sort."""
    with database.connection() as connection:
        planned = Planned(connection, embedded=database.embedded)
        for _ in Pages(selection).page(planned, NOW):
            pass
        tables.count(planned, selection.owner, NOW)
    assert planned.scans() == []
    return [plan for sql, plan in planned.plans if "ORDER BY" in sql]


def indexes(plans: list[str], table: str) -> set[str]:
    """Return the indexes that a plan uses for a table."""
    return {INDEX.findall(plan)[-1] for plan in plans if f"SEARCH {table} " in plan or f"'{table}'" in plan}


@pytest.mark.parametrize("crowded", DATABASES[1:], indirect=True)
def test_export_reads_only_its_owners_rows(crowded: Database) -> None:
    with crowded.connection() as connection:
        before = rows_walked(connection)
        found = [item for piece in Pages(Selection(OWNER, records=True)).page(connection, NOW) for item in piece[1]]
        walked = rows_walked(connection) - before
    assert len(found) == EACH * SAID
    assert walked <= 2 * len(found)


def rows_walked(connection: Connection) -> int:
    """Return how many rows the server has read so far."""
    names = "('Handler_read_next', 'Handler_read_rnd_next', 'Handler_read_key', 'Handler_read_prev')"
    return sum(int(row[1]) for row in connection.rows(Sql(f"SHOW SESSION STATUS WHERE Variable_name IN {names}")))


def test_pieces_join_to_the_whole_export(database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message comes once and in order, whether pieces end by length, by count, or with a page."""
    monkeypatch.setattr(tables, "PIECE_BYTES", 1000)
    dice = random.Random(7)  # noqa: S311 - it must repeat itself
    stored = [a_talk(dice.choice([0, 1, 2, 5, 60]), dice) for _ in range(40)] + [a_talk(500, dice)]
    store(journal, *stored)
    expected = [[said.content for said in talk] for _, talk in stored]
    assert [contents for _, contents in read(database, Selection("me"), page=1)] == expected
    assert [contents for _, contents in read(database, Selection("me", records=True), page=9)] == expected
    changed = read(database, Selection("me", records=True, since=0), page=2)
    assert {id: contents for id, contents in changed} == {  # noqa: A001, C416 - as everywhere
        one.id.bytes: contents for (one, _), contents in zip(stored, expected, strict=True)
    }


def a_talk(length: int, dice: random.Random) -> tuple[Conversation, list[Message]]:
    made = a_conversation(message_count=length)
    return made, [
        a_message(made, position=at, timestamp=made.created_at + at, content=f"{at} " * dice.choice([1, 10, 300]))
        for at in range(length)
    ]


def store(journal: Journal, *stored: tuple[Conversation, list[Message]]) -> None:
    def write(connection: Transaction) -> None:
        for conversation, said in stored:
            conversations.insert(connection, conversation)
            for message in said:
                messages.insert(connection, message)

    journal.write(write)


def read(database: Database, selection: Selection, page: int) -> list[tuple[bytes, list[str]]]:
    """Return each conversation's id with its texts, read in pages of some pieces."""
    pages, found = Pages(selection), dict[bytes, list[str]]()
    while not pages.ended:
        with database.connection() as connection:
            for begun, said in islice(pages.page(connection, now_us()), page):
                found |= {one.id: [] for one in begun}
                for id, rows in groupby(said, key=lambda row: row[0]):  # noqa: A001 - as everywhere
                    found[id] += [text_of(row, records=selection.records) for row in rows]
    return list(found.items())


def text_of(row: Any, *, records: bool) -> str:
    found: bytes = row[4].partition(b'"content":"')[2].partition(b'"')[0] if records else row[5]
    return found.decode()


def test_piece_ends_with_the_message_that_fills_it(database: Database, journal: Journal) -> None:
    """Stores 20 MB."""
    made = a_conversation(message_count=20)
    store(journal, (made, [a_message(made, timestamp=at, content="x" * LONG) for at in range(20)]))
    with database.connection() as connection:
        pieces = [said for _, said in Pages(Selection("me", records=True)).page(connection, now_us())]
    assert [len(said) for said in pieces] == [1] * 20 + [0]
    assert PIECE_BYTES < LONG


def test_long_system_prompts_are_read_in_pieces(database: Database, journal: Journal) -> None:
    """Stores 20 MB."""
    store(journal, *((a_conversation(system="长" * 100_000), []) for _ in range(60)))
    with database.connection() as connection:
        begun = [len(begun) for begun, _ in Pages(Selection("me", records=True)).page(connection, now_us())]
    assert max(begun) <= 3
    assert len(read(database, Selection("me"), page=1)) == 60


@pytest.mark.skipif(sys.platform != "linux", reason="memory: Linux tells a process's peak")
@pytest.mark.parametrize("name", ["ndjson", "csv"])
def test_memory_does_not_depend_on_message_length(
    database: Database, journal: Journal, tmp_path: Path, name: str
) -> None:
    """Stores 60 MB and starts two processes: some seconds."""
    rest = peak_of_an_export(database, tmp_path / "nothing", name)
    for _ in range(2):
        made = a_conversation(owner=OPEN_OWNER, message_count=30)
        store(journal, (made, [a_message(made, timestamp=at, content="x" * LONG) for at in range(30)]))
    assert peak_of_an_export(database, tmp_path / "all", name) - rest < 16 * 1024
    assert (tmp_path / "all").stat().st_size >= 60 * LONG


def peak_of_an_export(database: Database, file: Path, name: str) -> int:
    """Return the peak memory of an exporting process in KiB."""
    env = os.environ | {"DATABASE_URL": database.url.render_as_string(hide_password=False)}
    command = [sys.executable, "-m", "tests.peak", "export", f"--format={name}", f"--output={file}"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60 * SLOW, check=True)
    return int(done.stdout)


def test_conversation_with_running_reply_is_exported(database: Database, journal: Journal) -> None:
    """The conversation survives when its reply ends. A copy without it would lack the earlier messages."""
    expired = a_conversation(owner="me", ttl=1, expires_at=1, message_count=1)
    kept, gone = expired, replace(expired, id=new_id())
    store(journal, (kept, [a_message(kept)]), (gone, [a_message(gone)]))
    journal.write(lambda connection: leases.acquire(connection, Lease(kept.id, new_id(), new_id(), stop=False)))
    copied = Copy()
    copied.take(b"".join(Export(database, Selection("me"), make("ndjson"))))
    assert [*copied.conversations] == [str(kept.id)]
    journal.write(lambda connection: conversations.touch(connection, kept.id, now_us()))
    copied.take(b"".join(Export(database, Selection("me", since=int(copied.cursor)), make("ndjson"))))
    assert len(copied.messages) == 1


def test_conversation_expiring_during_export_is_included(database: Database, journal: Journal) -> None:
    """A turn that began earlier may postpone the expiry. The next increment would have only its messages."""
    store(journal, *long_talks(3))
    soon = a_conversation(ttl=1, expires_at=now_us() + 100_000, message_count=1)
    store(journal, (soon, [a_message(soon)]))
    export = Export(database, Selection("me"), make("ndjson"))
    time.sleep(0.1)
    copied = Copy()
    copied.take(b"".join(export))
    assert str(soon.id) in copied.conversations


def test_new_conversations_are_left_to_next_increment(database: Database, journal: Journal) -> None:
    """Otherwise an export could follow the writers forever."""
    store(journal, *long_talks(3))
    export, copied = Export(database, Selection("me"), make("ndjson")), Copy()
    new = a_conversation(message_count=1)
    store(journal, (new, [a_message(new)]))
    assert copied.take(b"".join(export))["conversation"] == 3
    copied.take(b"".join(Export(database, Selection("me", since=int(copied.cursor)), make("ndjson"))))
    assert str(new.id) in copied.conversations


def long_talks(count: int) -> list[tuple[Conversation, list[Message]]]:
    """Return conversations larger than a page."""
    made = [a_conversation(message_count=900) for _ in range(count)]
    return [(one, [a_message(one, timestamp=at) for at in range(900)]) for one in made]
