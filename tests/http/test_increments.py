"""Increments over HTTP: changes and deletions since a cursor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import pytest

from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from chatkeep.web.schemas import exports
from tests.client import Response
from tests.copies import Copy
from tests.http.api import Api, eventually, unique
from tests.http.test_exports import export_command
from tests.servers import Server, thrown_away


def asked(api: Api, **query: str) -> Response:
    return api.request("GET", f"/api/conversations/export-all?{urlencode(query)}", timeout=100)


def exported(api: Api, cursor: str = "", name: str = "ndjson") -> bytes:
    """Return an export of all, or with a cursor an increment."""
    response = asked(api, format=name, **({"cursor": cursor} if cursor else {}))
    assert response.status == 200, response.body[:1000]
    return response.body


def a_copy(api: Api) -> Copy:
    copied = Copy()
    copied.take(exported(api))
    return copied


def said(api: Api, conversation_id: str) -> list[str]:
    return [one["content"] for one in api.read(conversation_id)["messages"]["data"]]


def test_increment_has_only_new_data(own: Api) -> None:
    own.chat(unique("Old"), cache=False)
    copied = a_copy(own)
    new = own.chat(unique("New"), cache=False)["conversation_id"]
    found = Copy()
    assert found.take(exported(own, copied.cursor)) == {"conversation": 1, "message": 2, "tombstone": 0}
    assert [*found.conversations] == [new]
    assert [one["content"] for one in found.messages.values()] == said(own, new)
    assert found.take(exported(own, found.cursor)) == {"conversation": 0, "message": 0, "tombstone": 0}


def test_increment_has_only_the_changed_messages_of_a_conversation(own: Api) -> None:
    first = own.chat(unique("Roll a die"), cache=False)
    copied = a_copy(own)
    path = f"/api/conversations/{first['conversation_id']}/messages/{first['message_id']}/regenerate"
    second = own.request("POST", path, json={}).json
    found = Copy()
    found.take(exported(own, copied.cursor))
    assert {(known, one["on_branch"]) for known, one in found.messages.items()} == {
        (first["message_id"], False), (second["message_id"], True),
    }  # fmt: skip


def test_changed_title_is_an_increment_without_messages(own: Api) -> None:
    id = own.chat(unique("Name me"), cache=False)["conversation_id"]  # noqa: A001 - as everywhere
    copied = a_copy(own)
    own.change(id, title="Named")
    assert copied.take(exported(own, copied.cursor)) == {"conversation": 1, "message": 0, "tombstone": 0}
    assert copied.conversations[id]["title"] == "Named"


def test_deleted_conversation_becomes_a_tombstone(own: Api) -> None:
    """Waits for a TTL of a second and the next sweep."""
    deleted, expired = (own.chat(unique("Forget me"), cache=False)["conversation_id"] for _ in range(2))
    copied = a_copy(own)
    own.delete(deleted)
    own.change(expired, ttl=1)
    eventually(lambda: own.count("tombstones", "reason = 'expired'") > 0)
    eventually(lambda: copied.take(exported(own, copied.cursor)) and expired in copied.gone)
    assert (copied.gone[deleted], copied.gone[expired]) == ("deleted", "expired")
    assert not {deleted, expired} & copied.conversations.keys()


def test_copy_kept_by_increments_equals_a_new_export(own: Api) -> None:
    copied = a_copy(own)
    ids = [own.chat(unique("Remember me"), cache=False)["conversation_id"] for _ in range(3)]
    copied.take(exported(own, copied.cursor))
    own.chat(unique("More"), conversation_id=ids[0], cache=False)
    own.change(ids[1], pinned=True, metadata={"team": "诗"})
    own.delete(ids[2])
    copied.take(exported(own, copied.cursor))
    anew = a_copy(own)
    assert (copied.conversations, copied.messages) == (anew.conversations, anew.messages)


def test_json_increment_equals_ndjson(own: Api) -> None:
    gone = own.chat(unique("Gone"), cache=False)["conversation_id"]
    since = a_copy(own).cursor
    own.chat(unique("你好 🙂"), cache=False)
    own.delete(gone)
    lines = [json.loads(line) for line in exported(own, since).splitlines()]
    body = exported(own, since, "json")
    document = json.loads(body)
    assert msgspec.json.decode(body, type=exports.Export).since == document["since"] == lines[0]["since"] == since
    assert document["tombstones"] == [line for line in lines if line["object"] == "tombstone"]
    assert [one["id"] for one in document["conversations"]] == [
        line["id"] for line in lines if line["object"] == "conversation"
    ]
    counts = ("conversations", "messages", "tombstones")
    assert [document["end"][name] for name in counts] == [lines[-1][name] for name in counts]
    assert int(document["end"]["cursor"]) > int(lines[-1]["cursor"]) > int(since)


@pytest.mark.parametrize("query", [{"start_date": "2026-11-22"}, {"end_date": "2026-11-22"}, {"format": "csv"}])
def test_only_exports_of_all_have_a_cursor(own: Api, query: dict[str, str]) -> None:
    id = own.chat(unique("Alone"), cache=False)["conversation_id"]  # noqa: A001 - as everywhere
    assert b'"cursor"' not in asked(own, **query).body
    assert "cursor" not in own.request("GET", f"/api/conversations/{id}/export").json["end"]


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": ""},
        {"cursor": "0"},
        {"cursor": "-1"},
        {"cursor": "tomorrow"},
        {"cursor": "999999999999999999"},
        {"cursor": "9" * 64},
        {"start_date": "2026-11-22"},
        {"end_date": "2026-11-22"},
        {"format": "csv"},
        {"format": "md"},
        {"format": "openai"},
    ],
)
def test_invalid_cursor_is_refused(own: Api, query: dict[str, str]) -> None:
    response = asked(own, **({"cursor": a_copy(own).cursor} | query))
    assert (response.status, response.json["errors"][0]["field"]) == (422, "cursor")


@pytest.fixture
def forgetful(database_url: str, tmp_path: Path) -> Iterator[Api]:
    """A server that deletes tombstones immediately."""
    env = {"DATABASE_URL": database_url, "CHATKEEP_TOMBSTONE_TTL": "0s", "CHATKEEP_SWEEP_INTERVAL": "1s"}
    with thrown_away(Server("waitress", tmp_path, env)) as server:
        yield Api(server)


def test_cursor_older_than_the_tombstones_is_refused(forgetful: Api) -> None:
    """Starts a server and waits for its sweep."""
    gone = forgetful.chat("Forget me")["conversation_id"]
    early = a_copy(forgetful).cursor
    forgetful.delete(gone)
    late = a_copy(forgetful).cursor
    assert eventually(lambda: forgetful.count("tombstones") == 0)
    response = asked(forgetful, format="ndjson", cursor=early)
    assert (response.status, "begin again" in response.json["detail"]) == (422, True)
    assert asked(forgetful, format="ndjson", cursor=late).status == 200


def test_export_command_continues_from_its_cursor(own: Api, tmp_path: Path) -> None:
    """Starts three processes: two seconds."""
    file = tmp_path / "export"
    first = export_command(own, "--format=ndjson", f"--output={file}")
    copied = Copy()
    copied.take(file.read_bytes())
    assert first.stderr.decode().startswith(f"cursor: {copied.cursor}  (chatkeep export --cursor {copied.cursor} ")
    new = own.chat(unique("New"), cache=False)["conversation_id"]
    second = export_command(own, "--format=ndjson", f"--cursor={copied.cursor}")
    assert copied.take(second.stdout)["conversation"] == 1
    assert new in copied.conversations
    assert b"begin again" in export_command(own, "--format=ndjson", "--cursor=never").stderr


def test_increment_has_no_conversation_of_another_owner(own: Api) -> None:
    """Changes rows of another owner between the export and its increment."""
    since = a_copy(own).cursor
    id = own.chat(unique("Theirs"), cache=False)["conversation_id"]  # noqa: A001 - as everywhere
    other = own.chat(unique("Theirs, gone"), cache=False)["conversation_id"]
    own.delete(other)
    give_away(own, id, other)
    found = exported(own, since)
    assert (id.encode() in found, other.encode() in found) == (False, False)


def give_away(api: Api, conversation_id: str, deleted: str) -> None:
    """Give a conversation and a tombstone to another owner, in the database."""
    database = Database(api.server.env["DATABASE_URL"])
    with database.connection() as connection:
        for table, column, known in (
            ("conversations", "id", conversation_id),
            ("tombstones", "conversation_id", deleted),
        ):
            moved = Sql(f"UPDATE {table} SET owner = 'another owner' WHERE {column} = :id")  # noqa: S608 - our own words
            assert connection.change(moved, id=UUID(known).bytes) == 1
    database.close()
