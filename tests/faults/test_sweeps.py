"""If the sweeping process is killed, another one completes the sweep, and unexpired data stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chatkeep.domain.conversation import OPEN_OWNER, new_id, now_us
from chatkeep.store import migrations, schema
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from tests.http.api import eventually
from tests.servers import Server, thrown_away

pytestmark = pytest.mark.promise(8)
CONVERSATIONS, MESSAGES = 900, 20
EXPIRED = CONVERSATIONS * 9 // 10


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a database with nine of ten conversations expired."""
    database = Database(database_url)
    migrations.migrate(database)
    rows = [conversation(number) for number in range(CONVERSATIONS)]
    with database.engine.begin() as connection:
        connection.execute(schema.conversations.insert(), rows)
        for row in rows:
            connection.execute(schema.messages.insert(), [message(row["id"], at) for at in range(MESSAGES)])
    database.close()
    return database_url


def conversation(number: int) -> dict[str, Any]:
    at = now_us() - 60_000_000
    return {
        "id": new_id().bytes, "owner": OPEN_OWNER, "title": "Stored", "metadata": "{}", "created_at": at,
        "last_active": at, "expires_at": at if number < EXPIRED else None, "pinned": 0, "message_count": MESSAGES,
        "forks": 0,
    }  # fmt: skip


def message(conversation_id: bytes, at: int) -> dict[str, Any]:
    return {
        "message_id": new_id().bytes, "conversation_id": conversation_id, "position": at + 1, "on_branch": 1,
        "role": "user", "content": "said", "reasoning": "", "written": 4, "timestamp": at, "status": "completed",
        "cached": 0,
    }  # fmt: skip


def test_sweep_of_a_killed_process_is_completed_by_another(url: str, tmp_path: Path) -> None:
    """Sweeps 16,200 messages, partly after the first process is considered dead: ten seconds."""
    env = {"DATABASE_URL": url, "CHATKEEP_SWEEP_INTERVAL": "1s", "WEB_CONCURRENCY": "1"}
    database = Database(url)
    with thrown_away(Server("gunicorn", tmp_path / "first", env)) as first:
        assert eventually(lambda: count(database, "tombstones") > 0)
        first.kill()
        left = count(database, "conversations")
        assert CONVERSATIONS - EXPIRED < left < CONVERSATIONS
        with thrown_away(Server("waitress", tmp_path / "second", env)):
            assert eventually(lambda: count(database, "conversations") == CONVERSATIONS - EXPIRED, 60)
    assert count(database, "messages") == (CONVERSATIONS - EXPIRED) * MESSAGES
    assert count(database, "messages", "conversation_id NOT IN (SELECT id FROM conversations)") == 0
    assert count(database, "tombstones", "reason = 'expired'") == EXPIRED
    assert not buried(database) & kept(database)
    database.close()


def count(database: Database, table: str, where: str = "1 = 1") -> int:
    counted = Sql(f"SELECT COUNT(*) FROM {table} WHERE {where}")  # noqa: S608 - the test's own words
    return int(database.read(lambda connection: connection.rows(counted))[0][0])


def buried(database: Database) -> set[UUID]:
    return ids(database, "SELECT conversation_id FROM tombstones")


def kept(database: Database) -> set[UUID]:
    return ids(database, "SELECT id FROM conversations")


def ids(database: Database, query: str) -> set[UUID]:
    return {UUID(bytes=row[0]) for row in database.read(lambda connection: connection.rows(Sql(query)))}
