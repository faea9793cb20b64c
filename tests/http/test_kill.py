"""A worker killed during streams loses no acknowledged text, and leaves no reply generating."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.http.api import Api, Running, unique
from tests.servers import Server, thrown_away
from tests.upstream import Upstream, reply_to

STREAMS = 12

pytestmark = pytest.mark.posix("there is no gunicorn on Windows")


@pytest.fixture
def killable(database_url: str, upstream: Upstream, tmp_path: Path) -> Iterator[Api]:
    """The API of gunicorn with two workers."""
    env = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with thrown_away(Server("gunicorn", tmp_path, env)) as running:
        yield Api(running)


@pytest.mark.parametrize("victims", [1, 2], ids=["one worker", "all workers"])
def test_killed_worker_loses_no_acknowledged_text(killable: Api, victims: int) -> None:
    """Waits until another worker considers the killed one dead: a few seconds."""
    messages = [unique(f"#n=40,r=20,seed={number}#") for number in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS) as pool:
        replies = list(pool.map(killable.running, messages))
        reading = pool.map(is_broken, replies)
        for pid in busiest_first(killable.server.worker_pids())[:victims]:
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        broken = list(reading)
    assert any(broken)
    assert all(broken) or victims == 1
    for message, reply, was_broken in zip(messages, replies, broken, strict=True):
        assert_kept(killable, message, reply, "interrupted" if was_broken else "completed", killed + 15)


def busiest_first(pids: list[int]) -> list[int]:
    """Return the processes ordered by open sockets, because one may have all streams."""
    return sorted(pids, key=lambda pid: len([*Path(f"/proc/{pid}/fd").iterdir()]), reverse=True)


def is_broken(reply: Running) -> bool:
    """Read a reply to its end and return whether the connection broke first."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return reply.rest().event != "done"
    return True


def assert_kept(api: Api, message: str, reply: Running, status: str, deadline: float) -> None:
    """Fail unless all shown text is stored, the status comes in time, and the conversation can continue."""
    stored = api.ended(reply.id, deadline - time.monotonic())
    assert (stored["status"], stored["id"]) == (status, reply.start["message_id"])
    assert api.read(reply.id)["messages"]["data"][0]["content"] == message
    assert reply_to(message).startswith(stored["content"])
    assert stored["content"].startswith(reply.text)
    assert status == "interrupted" or reply.text == stored["content"] == reply_to(message)
    assert api.chat("Go on", conversation_id=reply.id)["status"] == "completed"


def test_acknowledged_message_survives_a_kill_of_all_processes(killable: Api) -> None:
    """Starts a server twice: some seconds."""
    messages = [unique() for _ in range(20)]
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(killable.running, [f"{message} #fault=hang_after:1#" for message in messages]))
    killable.server.kill()
    killable.server.start()
    for message, reply in zip(messages, replies, strict=True):
        stored = killable.read(reply.id)["messages"]["data"]
        assert [item["content"] for item in stored] == [f"{message} #fault=hang_after:1#", reply.text]
        reply.stream.close()
    assert {killable.ended(reply.id)["status"] for reply in replies} == {"interrupted"}
