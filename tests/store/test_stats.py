"""`chatkeep stats` counts in pieces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatkeep.domain.conversation import Role, Status, Usage, now_us
from chatkeep.reporting import stats
from chatkeep.store import conversations, messages, tombstones
from chatkeep.store import stats as counted
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.transaction import Transaction
from tests.client import SLOW
from tests.servers import ROOT
from tests.store.examples import a_conversation, a_message

AT = now_us()
HOUR_US = 3_600_000_000
ACTIVITY = {"oldest": stats.time_text(AT - HOUR_US), "newest": stats.time_text(AT)}


@pytest.fixture
def filled(database: Database, journal: Journal) -> Database:
    """A database with two conversations of one owner, one of another, and an expired one."""
    journal.write(_fill)
    return database


@pytest.mark.usefixtures("filled")
def test_everything_is_counted(database_url: str, tmp_path: Path) -> None:
    """Starts a process: a second."""
    found = json.loads(command(database_url, tmp_path, "--json"))
    assert found["conversations"] == {"alive": 3, "pinned": 1, "expired": 1}
    assert (found["owners"], found["activity"]) == (2, ACTIVITY)
    assert found["messages"] == {"user": 4, "assistant": 4}
    assert found["replies"] == {"completed": 2, "failed": 1, "generating": 1}
    assert found["tokens"] == {"input": 20, "output": 4}
    assert (found["cached_replies"], found["running_replies"], found["tombstones"]) == (1, 0, 1)


@pytest.mark.usefixtures("filled")
def test_table_has_a_figure_in_every_row(database_url: str, tmp_path: Path) -> None:
    """Starts a process: a second."""
    rows = command(database_url, tmp_path).splitlines()
    assert [rows[0].split(), rows[6].split()] == [["conversations", "3"], ["messages", "8"]]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert any("storage" in row and row.endswith(" MB") for row in rows)


def test_pieces_are_counted_once(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stats.document(stats.collect(filled))
    for size in (1, 3):
        monkeypatch.setattr(counted, "CONVERSATIONS", size)
        monkeypatch.setattr(counted, "MESSAGES", size)
        pieces = stats.document(stats.collect(filled))
        assert pieces | {"at": None} == whole | {"at": None}


def test_storage_is_the_files_size(filled: Database) -> None:
    taken = stats.collect(filled).storage
    assert taken.tables > 50_000
    if not filled.embedded:
        assert taken.log is None
        return
    file = Path(str(filled.url.database))
    assert taken.log == file.with_name(f"{file.name}-wal").stat().st_size


def command(url: str, folder: Path, *options: str) -> str:
    """Return the output of `chatkeep stats`."""
    env = os.environ | {"DATABASE_URL": url, "CHATKEEP_ENV": "test", "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "chatkeep", "stats", *options]
    return subprocess.run(
        arguments, env=env, cwd=folder, capture_output=True, encoding="utf-8", timeout=30 * SLOW, check=True
    ).stdout


def _fill(connection: Transaction) -> None:
    _add(connection, {"pinned": True}, status=Status.COMPLETED, usage=Usage(10, 2), cached=True)
    _add(connection, {"last_active": AT - HOUR_US}, status=Status.FAILED)
    _add(connection, {"owner": "another"}, status=Status.GENERATING)
    _add(connection, {"expires_at": AT - 1, "last_active": 1, "owner": "gone"}, usage=Usage(10, 2))
    tombstones.bury(connection, "me", a_conversation().id, "deleted", AT)


def _add(connection: Transaction, fields: dict[str, Any], **reply: Any) -> None:
    """Store a conversation of one turn."""
    conversation = a_conversation(**{"last_active": AT, **fields})
    conversations.insert(connection, conversation)
    messages.insert(connection, a_message(conversation))
    messages.insert(connection, a_message(conversation, role=Role.ASSISTANT, timestamp=AT + 10**9, **reply))
