"""Exports over HTTP are complete, ordered, limited to the owner, and never truncated silently."""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.client
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import OPEN_OWNER, Conversation, Message, Role, new_id, now_us
from chatkeep.exports import PAGE_MESSAGES
from chatkeep.store import conversations, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Sql
from chatkeep.store.transaction import Transaction
from chatkeep.web.schemas import exports
from tests.client import SLOW, Response
from tests.conftest import ON_EACH_DATABASE
from tests.http.api import Api, unique
from tests.servers import COMMANDS, Server, thrown_away

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAY = 86_400_000_000
FIRST = 1_735_689_600_000_000  # 2025-01-01, which no other test uses
FORMATS = ["json", "csv", "ndjson", "md", "openai"]


def exported(api: Api, conversation_id: str, *, accept: str = "", **query: Any) -> Response:
    headers = {"Accept-Encoding": accept} if accept else {}
    return api.request("GET", f"/api/conversations/{conversation_id}/export?{urlencode(query)}", headers=headers)


def exported_all(api: Api, **query: Any) -> Response:
    response = api.request("GET", f"/api/conversations/export-all?{urlencode(query)}", timeout=100)
    assert response.status == 200, response.body[:1000]
    return response


def document(response: Response) -> exports.Export:
    """Return a JSON export. Fail unless it is complete and matches the OpenAPI document."""
    assert response.status == 200, response.body[:1000]
    found = msgspec.json.decode(response.body, type=exports.Export)
    before, _ = whole_lines(response.body)
    assert found.end.sha256 == hashlib.sha256(before).hexdigest()
    return found


def whole_lines(body: bytes) -> tuple[bytes, bytes]:
    """Return the last line, and the text before it."""
    at = body.rindex(b"\n", 0, -1) + 1
    return body[:at], body[at:]


def store(api: Api, *stored: tuple[Conversation, list[Message]]) -> None:
    """Put rows into the server's database, past the API."""
    fill(api.server.env["DATABASE_URL"], *stored)


def fill(url: str, *stored: tuple[Conversation, list[Message]]) -> None:
    def write(connection: Transaction) -> None:
        for conversation, said in stored:
            conversations.insert(connection, conversation)
            for message in said:
                messages.insert(connection, message)

    database = Database(url)
    journal = Journal(database)
    journal.write(write)
    journal.close()
    database.close()


def a_conversation(times: list[int], content: str = "said", **fields: Any) -> tuple[Conversation, list[Message]]:
    """Return a conversation with messages at these times."""
    id, tip = new_id(times[0]), None  # noqa: A001 - as everywhere
    said: list[Message] = []
    for position, at in enumerate(times, 1):
        role = Role.USER if position % 2 else Role.ASSISTANT
        tip = Message(new_id(at), id, tip.id if tip else None, position, role, f"{content} {position}", at)
        said.append(tip)
    made = Conversation(
        id, OPEN_OWNER, unique("Stored"), times[0], times[-1], message_count=len(times), current_id=said[-1].id
    )
    return replace(made, **fields), said


def test_conversation_is_exported_with_all_fields(api: Api) -> None:
    reply = api.chat("What is a haiku?", system="Be brief.", metadata={"team": "诗"}, cache=False)
    (one,) = document(exported(api, reply["conversation_id"])).conversations
    question, answer = one.messages
    shown = api.read(reply["conversation_id"])
    assert (one.title, one.system, one.metadata, one.ttl) == ("What is a haiku?", "Be brief.", {"team": "诗"}, 86400)
    assert [question.content, answer.content] == [item["content"] for item in shown["messages"]["data"]]
    assert (question.ai_generated, answer.ai_generated, answer.parent_id) == (False, True, question.id)
    assert msgspec.to_builtins(answer.usage) == shown["messages"]["data"][1]["usage"]
    assert [one.created_at[:23], one.last_active[:23]] == [shown["created_at"][:23], shown["last_active"][:23]]


def test_other_branches_are_exported(api: Api) -> None:
    first = api.chat("Roll a die", cache=False)
    path = f"/api/conversations/{first['conversation_id']}/messages/{first['message_id']}/regenerate"
    second = api.request("POST", path, json={}).json
    (one,) = document(exported(api, first["conversation_id"])).conversations
    assert [(str(m.id), m.on_branch) for m in one.messages[1:]] == [
        (first["message_id"], False), (second["message_id"], True),
    ]  # fmt: skip
    (line,) = exported(api, first["conversation_id"], format="openai").text.splitlines()
    assert [m["role"] for m in json.loads(line)["messages"]] == ["user", "assistant"]


def test_ndjson_equals_json(api: Api) -> None:
    id = api.chat(unique("你好 🙂"))["conversation_id"]  # noqa: A001 - as everywhere
    (one,) = json.loads(exported(api, id).body)["conversations"]
    body = exported(api, id, format="ndjson").body
    before, last = whole_lines(body)
    _, conversation, *said = (json.loads(line) for line in before.splitlines())
    assert conversation | {"messages": said} == one | {
        "messages": [m | {"conversation_id": id} for m in one["messages"]]
    }
    end = {"object": "export.end", "conversations": 1, "messages": 2, "sha256": hashlib.sha256(before).hexdigest()}
    assert json.loads(last) == end


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_a_download_named_after_the_conversation(api: Api, name: str) -> None:
    id = api.chat("俳句/haiku?")["conversation_id"]  # noqa: A001 - as everywhere
    response = exported(api, id, format=name)
    suffix = "jsonl" if name == "openai" else name
    named = f"attachment; filename=\"haiku.{suffix}\"; filename*=UTF-8''%E4%BF%B3%E5%8F%A5%20haiku.{suffix}"
    assert response.headers["Content-Disposition"] == named
    assert response.headers["Cache-Control"] == "no-store"
    assert {"Accept-Encoding", "Authorization"} <= set(response.headers["Vary"].split(", "))
    assert "俳句" in response.text


def test_csv_of_any_text_can_be_parsed(api: Api) -> None:
    said = unique('=cmd|"/C calc"!A1\r\n"quoted", 你好 🙂')
    id = api.chat(said)["conversation_id"]  # noqa: A001 - as everywhere
    response = exported(api, id, format="csv", bom="true")
    rows = list(csv.DictReader(io.StringIO(response.body.decode("utf-8-sig"), newline="")))
    assert response.body.startswith(b"\xef\xbb\xbf")
    assert rows[0]["content"] == f"'{said}"
    assert [row["ai_generated"] for row in rows] == ["false", "true"]


@pytest.mark.parametrize("name", ["json", "ndjson"])
def test_any_text_is_exported_as_valid_json(api: Api, name: str) -> None:
    awkward = [*map(chr, range(0x100)), "\u2028\ufeff\U0010ffff", "\\u0041\\", "你好 🙂", "null", '"]}', ""]
    conversation, said = a_conversation(list(range(FIRST + 60 * DAY, FIRST + 60 * DAY + len(awkward))))
    conversation = replace(conversation, id=new_id(conversation.created_at))
    stored = [
        replace(one, id=new_id(one.timestamp), conversation_id=conversation.id, content=text, reasoning=text[::-1])
        for one, text in zip(said, awkward, strict=True)
    ]
    store(api, (replace(conversation, current_id=stored[-1].id), stored))
    body = exported(api, str(conversation.id), format=name).body
    records = json.loads(body)["conversations"][0]["messages"] if name == "json" else lines(body)[2:-1]
    assert [(one["content"], one["reasoning"]) for one in records] == [(text, text[::-1]) for text in awkward]


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.split(b"\n")[:-1]]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, gzip", "gzip"),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
    ],
)
def test_export_is_compressed_as_accept_encoding_says(api: Api, accept: str, coding: str | None) -> None:
    id = api.chat("Compress me")["conversation_id"]  # noqa: A001 - as everywhere
    response = exported(api, id, accept=accept)
    assert response.headers["Content-Encoding"] == coding
    assert unpacked(response.body, coding) == exported(api, id).body


def unpacked(body: bytes, coding: str | None) -> bytes:
    return gzip.decompress(body) if coding == "gzip" else zstd.decompress(body) if coding else body


def test_conversation_larger_than_a_page_is_exported_whole(api: Api) -> None:
    """Stores thousands of messages: a few seconds."""
    times = list(range(FIRST + 40 * DAY, FIRST + 40 * DAY + PAGE_MESSAGES + 700))
    large, small = a_conversation(times), a_conversation([times[-1] + 1, times[-1] + 2])
    store(api, large, small)
    found = document(exported_all(api, start_date="2025-02-10", end_date="2025-02-10"))
    assert [str(one.id) for one in found.conversations] == [str(large[0].id), str(small[0].id)]
    assert [m.id for one in found.conversations for m in one.messages] == [m.id for m in large[1] + small[1]]
    assert (found.end.conversations, found.end.messages) == (2, len(times) + 2)


def test_long_messages_end_a_page_of_an_export_early(api: Api) -> None:
    """Stores megabytes."""
    times = list(range(FIRST + 50 * DAY, FIRST + 50 * DAY + 30))
    stored = [a_conversation(times[at : at + 10], content="长" * 100_000) for at in (0, 10, 20)]
    store(api, *stored)
    found = document(exported_all(api, start_date="2025-02-20", end_date="2025-02-20"))
    assert [m.content for one in found.conversations for m in one.messages] == [
        m.content for _, said in stored for m in said
    ]


def test_export_of_all_has_only_own_unexpired_conversations(api: Api) -> None:
    now = now_us()
    mine, other = a_conversation([now]), a_conversation([now], owner="another owner")
    expired = a_conversation([now], ttl=1, expires_at=now - 1)
    empty = replace(a_conversation([now])[0], message_count=0, current_id=None)
    store(api, mine, other, expired, (empty, []))
    ids = {one.id for one in document(exported_all(api)).conversations}
    assert {mine[0].id, empty.id} <= ids
    assert not {other[0].id, expired[0].id} & ids
    assert {exported(api, str(one[0].id)).status for one in (other, expired)} == {404}


@pytest.mark.parametrize(
    ("day", "start", "end", "positions"),
    [
        (0, "2025-01-01", "2025-01-01", [1, 2]),
        (4, "2025-01-06", "2025-01-06", [3]),
        (8, "2025-01-09T23:59:59.999999Z", "2025-01-10T00:00:00Z", [2, 3]),
        (12, "2025-01-14T08:00:00+08:00", "2025-01-15T07:59:59.999999+08:00", [3]),
    ],
)
def test_range_selects_messages_and_their_conversations(
    api: Api, day: int, start: str, end: str, positions: list[int]
) -> None:
    at, words = FIRST + day * DAY, unique("on that day")
    store(api, a_conversation([at, at + DAY - 1, at + DAY], content=words))
    (one,) = document(exported_all(api, start_date=start, end_date=end)).conversations
    assert [m.position for m in one.messages] == positions
    for name in ("ndjson", "csv", "md"):
        text = exported_all(api, format=name, start_date=start, end_date=end).text
        assert [position for position in (1, 2, 3) if f"{words} {position}" in text] == positions


@ON_EACH_DATABASE
@pytest.mark.parametrize("name", FORMATS)
def test_export_command_writes_the_same_bytes(api: Api, tmp_path: Path, name: str) -> None:
    """Starts a process: a second."""
    id = api.chat(unique("你好 🙂"))["conversation_id"]  # noqa: A001 - as everywhere
    file = tmp_path / "export"
    done = export_command(api, f"--format={name}", f"--conversation={id}", f"--output={file}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert file.read_bytes() == exported(api, id, format=name).body


@ON_EACH_DATABASE
def test_export_command_writes_a_range_to_standard_output(api: Api) -> None:
    """Starts a process: a second."""
    at = FIRST + 30 * DAY
    store(api, a_conversation([at, at + 1]))
    done = export_command(api, "--start=2025-01-31", "--end=2025-01-31", "--format=ndjson")
    query = {"start_date": "2025-01-31", "end_date": "2025-01-31", "format": "ndjson"}
    assert (done.returncode, done.stdout) == (0, exported_all(api, **query).body)


@ON_EACH_DATABASE
@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--start=yesterday", "write a date such as"),
        ("--conversation=01a2030e-44b1-7464-a2e8-617c1ab2e08b", "not found"),
    ],
)
def test_export_command_reports_errors(api: Api, tmp_path: Path, option: str, reason: str) -> None:
    """Starts a process: a second."""
    done = export_command(api, option, f"--output={tmp_path / 'export'}")
    assert done.returncode
    assert reason in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def export_command(api: Api, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "chatkeep", "export", *options]
    return subprocess.run(
        command,
        env=api.server.environment(),
        cwd=api.server.folder,
        capture_output=True,
        timeout=30 * SLOW,
        check=False,
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"format": "xml"}, "format"),
        ({"start_date": "yesterday"}, "start_date"),
        ({"end_date": "2026-02-30"}, "end_date"),
        ({"start_date": "2026-02-02", "end_date": "2026-02-01"}, "end_date"),
        ({"until": "2026-02-02"}, "until"),
    ],
)
def test_invalid_export_query_is_named(api: Api, query: dict[str, str], field: str) -> None:
    response = api.request("GET", f"/api/conversations/export-all?{urlencode(query)}")
    assert (response.status, response.json["errors"][0]["field"]) == (422, field)


def test_missing_conversation_is_404_in_any_format(api: Api) -> None:
    statuses = {exported(api, str(new_id()), format=name).status for name in FORMATS}
    assert statuses == {404}


@pytest.fixture(params=COMMANDS)
def fragile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server whose database the test may break."""
    env = {"DATABASE_URL": f"sqlite:///{(tmp_path / 'own.sqlite3').as_posix()}"}
    with thrown_away(Server(request.param, tmp_path, env)) as server:
        yield server


def take_messages_away(server: Server) -> None:
    database = Database(server.env["DATABASE_URL"])
    database.read(lambda connection: connection.change(Sql("ALTER TABLE messages RENAME TO lost")))
    database.close()


def test_failure_during_an_export_breaks_the_connection(fragile: Server) -> None:
    """Stores 60 MB, more than servers and sockets buffer."""
    for start in range(FIRST, FIRST + 600, 100):
        fill(fragile.env["DATABASE_URL"], a_conversation(list(range(start, start + 100)), content="x" * 100_000))
    connection = http.client.HTTPConnection("127.0.0.1", fragile.port, timeout=30)
    connection.request("GET", "/api/conversations/export-all?format=ndjson", headers={"Accept-Encoding": "identity"})
    response = connection.getresponse()
    assert response.read(10)
    take_messages_away(fragile)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()


def test_failure_before_an_export_is_a_status(fragile: Server) -> None:
    fill(fragile.env["DATABASE_URL"], a_conversation([FIRST]))
    take_messages_away(fragile)
    response = Api(fragile).request("GET", "/api/conversations/export-all")
    assert (response.status, response.json["code"]) == (500, "database_refused")
