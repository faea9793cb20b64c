"""Many concurrent searches of large texts stop no stream, and leave no query in the database."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from urllib.parse import quote

from chatkeep.store.engine import SCANS, Database
from chatkeep.store.sql import Sql
from tests.client import Response, request, stream
from tests.faults.conftest import Serve
from tests.http.api import eventually
from tests.servers import Server

SEARCHES, STREAMS = 12, 4
DOUBLINGS = 10  # of two messages of 50 KB: 100 MB
TEXT = "古池や蛙飛びこむ水の音" * 1_500
WORD = "芭蕉"
SLOW = "a" * 199 + "b"  # nearly all of it is compared at each offset of a text of this letter
LONGER = Sql("UPDATE messages SET content = :text")
COPIED = "conversation_id, position, on_branch, role, content, reasoning, written, status, cached"
DOUBLED = (
    f"INSERT INTO messages (message_id, timestamp, {COPIED}) SELECT {{}}, timestamp + :later, {COPIED} FROM messages"  # noqa: S608 - the test's own words
)
DOUBLE = Sql(DOUBLED.format("randomblob(16)"), mysql=DOUBLED.format("UNHEX(REPLACE(UUID(), '-', ''))"))
RUNNING = Sql("", mysql="SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT id, owner%'")


def test_streams_continue_during_many_large_searches(serve: Serve, database_url: str) -> None:
    """Stores 100 MB, which each search reads: ten seconds."""
    server = serve(WEB_CONCURRENCY="1")
    assert request("POST", f"{server.url}/api/chat", json={"message": "What did he write?"}).status == 200
    database = Database(database_url)
    lengthen(database, TEXT, DOUBLINGS)
    with ThreadPoolExecutor(SEARCHES + STREAMS) as pool:
        streams = [pool.submit(moments, server, number) for number in range(STREAMS)]
        time.sleep(1)
        begun = time.monotonic()
        answers = list(pool.map(lambda _: search(server), range(SEARCHES)))
        ended = time.monotonic()
        assert eventually(lambda: not running(database), 1)
        gaps = [
            later - sooner
            for read in streams
            for sooner, later in pairwise(read.result())
            if later >= begun and sooner <= ended
        ]
    refused = [answer for answer in answers if answer.status != 200]
    assert all((it.status, it.json["code"]) == (503, "database_busy") for it in refused), [it.text for it in refused]
    assert all(int(it.headers["Retry-After"]) > 0 for it in refused)
    assert len(answers) - len(refused) >= SCANS.concurrency
    assert max(gaps) < 1.5  # the promise: users see no pause
    assert search(server).status == 200
    database.close()


def test_search_is_killed_when_its_client_disconnects(serve: Serve, database_url: str) -> None:
    """Takes three seconds: killed searches free their slots immediately, long before their deadline."""
    server = serve(WEB_CONCURRENCY="1")
    assert request("POST", f"{server.url}/api/chat", json={"message": "Say a"}).status == 200
    database = Database(database_url)
    lengthen(database, "a" * 30_000, 8)
    for _ in range(2):
        left = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(SCANS.concurrency)]
        for sock in left:
            sock.sendall(f"GET /api/conversations?q={SLOW} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(0.5)
        assert database.embedded or running(database)
        for sock in left:
            sock.close()
        assert eventually(lambda: not running(database), 1)
        assert request("GET", f"{server.url}/api/conversations?q=say").status == 200  # 503 if no place is free
    assert "Error" not in server.log()
    database.close()


def lengthen(database: Database, text: str, doublings: int) -> None:
    """Multiply the messages of a conversation and their text."""
    with database.connection() as connection:
        connection.change(LONGER, text=text)
        for number in range(doublings):
            connection.change(DOUBLE, later=10 << number)


def moments(server: Server, number: int) -> list[float]:
    """Return the arrival times of a stream's pieces, twenty a second."""
    return [event.at for event in stream(f"{server.url}/api/chat", {"message": f"{number} #n=160,r=20#"})]


def search(server: Server) -> Response:
    return request("GET", f"{server.url}/api/conversations?q={quote(WORD)}", timeout=60)


def running(database: Database) -> bool:
    return not database.embedded and bool(database.read(lambda connection: connection.rows(RUNNING)))
