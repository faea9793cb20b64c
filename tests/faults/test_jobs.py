"""Export jobs whose workers are killed, stopped, paused or out of space finish exactly once, or fail."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from chatkeep.domain.conversation import OPEN_OWNER, new_id
from chatkeep.store import migrations, schema
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from tests import client
from tests.conftest import DATABASES, empty_database
from tests.faults.conftest import ON_SQLITE, Record
from tests.faults.scale import Scale
from tests.http.api import Api, eventually
from tests.servers import Server, thrown_away
from tests.upstream import Upstream

if sys.platform != "win32":
    import resource

pytestmark = pytest.mark.promise(1)
FIRST = 1_735_689_600_000_000
CONVERSATIONS, MESSAGES = 200, 100
Start = Callable[..., Server]


class Worker(Server):
    """A process that only runs export jobs."""

    def _arguments(self) -> list[str]:
        return ["-m", "chatkeep", "work"]

    def _is_up(self) -> bool:
        return "runs export jobs" in self.log()


@pytest.fixture(scope="module", params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database with 40 MB, shared by all tests because filling it takes seconds."""
    url = empty_database(request, request.param, tmp_path_factory)
    fill(url, CONVERSATIONS)
    return url


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start processes on the test's database that share a data folder: ``start("work")``, ``start("gunicorn", …)``."""
    forget_other_tests(database_url)
    shared = {
        "DATABASE_URL": database_url,
        "CHATKEEP_DATA_DIR": str(tmp_path / "data"),
        "CHATKEEP_SWEEP_INTERVAL": "1s",
    }
    with ExitStack() as running:

        def one(command: str, **env: str) -> Server:
            kind, number = Worker if command == "work" else Server, len(list(tmp_path.iterdir()))
            return running.enter_context(thrown_away(kind(command, tmp_path / f"{command}-{number}", shared | env)))

        yield one


def forget_other_tests(url: str) -> None:
    """Delete everything from a database that `fill` did not store."""
    foreign = "(SELECT id FROM conversations WHERE title <> 'Stored')"
    rows = [f"messages WHERE conversation_id IN {foreign}", "conversations WHERE title <> 'Stored'"]
    database = Database(url)
    with database.engine.begin() as connection:
        for table in ("export_jobs", "leases", "duties", "workers", *rows):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - the tests' own words
    database.close()


def serving(start: Start, **env: str) -> Server:
    """Return a server without an export worker."""
    return start("flask", CHATKEEP_EXPORT_JOBS="false", **env)


def fill(url: str, conversations: int) -> None:
    """Store conversations of `MESSAGES` messages of 2 kB directly in the database."""
    database = Database(url)
    migrations.migrate(database)
    ids = [new_id(FIRST + number) for number in range(conversations)]
    with database.engine.begin() as connection:
        connection.execute(schema.conversations.insert(), [_conversation(id) for id in ids])  # noqa: A001
        for id in ids:  # noqa: A001
            rows = [_message(id, position, "x" * 2_000) for position in range(1, MESSAGES + 1)]
            connection.execute(schema.messages.insert(), rows)
    database.close()


def _conversation(id: UUID) -> dict[str, Any]:
    return {
        "id": id.bytes, "owner": OPEN_OWNER, "title": "Stored", "metadata": "{}", "created_at": FIRST,
        "last_active": FIRST + MESSAGES, "pinned": 0, "message_count": MESSAGES, "forks": 0,
    }  # fmt: skip


def _message(conversation_id: UUID, position: int, content: str) -> dict[str, Any]:
    return {
        "message_id": new_id().bytes, "conversation_id": conversation_id.bytes, "position": position, "on_branch": 1,
        "role": "user", "content": content, "reasoning": "", "written": len(content), "timestamp": FIRST + position,
        "status": "completed", "cached": 0,
    }  # fmt: skip


def ask(server: Server, **fields: str) -> str:
    """Request an export and return its id."""
    response = client.request("POST", f"{server.url}/api/exports", json={"format": "ndjson"} | fields)
    assert response.status == 202, response.body
    return str(response.json["id"])


def read(server: Server, job: str) -> Any:
    return client.request("GET", f"{server.url}/api/exports/{job}").json


def finished(server: Server, job: str, seconds: float = 30) -> Any:
    """Wait for a job to finish and return it."""
    done = eventually(lambda: found if (found := read(server, job))["finished_at"] else None, seconds)
    assert done, f"not finished after {seconds} s: {read(server, job)}"
    return done


def files(server: Server, job: str = "") -> list[str]:
    return sorted(path.name for path in (Path(server.env["CHATKEEP_DATA_DIR"]) / "exports").glob(f"{job}*"))


def amid(server: Server, job: str) -> None:
    """Return when a job's file is partly written."""
    assert eventually(lambda: any(name.endswith(".part") for name in files(server, job))), read(server, job)


def age(server: Server) -> None:
    """Make all files old enough for the sweep."""
    for name in files(server):
        os.utime(Path(server.env["CHATKEEP_DATA_DIR"]) / "exports" / name, (0, 0))


def check_whole(server: Server, job: Any) -> None:
    """Check that a job's file matches the job and is complete."""
    body = client.request("GET", f"{server.url}/api/exports/{job['id']}/content").body
    before, _, last = body.removesuffix(b"\n").rpartition(b"\n")
    end = json.loads(last)
    assert (job["status"], job["size"], job["sha256"]) == ("completed", len(body), hashlib.sha256(body).hexdigest())
    assert end["sha256"] == hashlib.sha256(before + b"\n").hexdigest()
    assert (end["conversations"], end["messages"]) == (CONVERSATIONS, CONVERSATIONS * MESSAGES)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
def test_job_of_a_dead_worker_is_completed_by_another(start: Start, figures: Record, how: signal.Signals) -> None:
    """Waits until the worker is considered dead, and another one made the file: about ten seconds."""
    # On SQLite a sweep waits five seconds for a paused reader, and all writers wait for the sweep.
    rarely = {"CHATKEEP_SWEEP_INTERVAL": "1m"}
    server, first = serving(start, **rarely), start("work", **rarely)
    job = ask(server)
    amid(server, job)
    os.kill(first.pid, how)
    gone = time.monotonic()
    assert read(server, job)["status"] == "running"
    start("work", **rarely)
    done = finished(server, job)
    took = {"s until another has finished it": time.monotonic() - gone}
    figures(f"{how.name} of a worker amid an export", attempts=done["attempts"], **took)
    if how is signal.SIGSTOP:
        os.kill(first.pid, signal.SIGCONT)
        assert eventually(lambda: "cancelled or taken over" in first.log())
    assert read(server, job) == done
    assert done["attempts"] == 2
    age(server)
    start("work")
    assert eventually(lambda: files(server) == [f"{job}-2.ndjson"]), files(server)
    check_whole(server, done)


def test_job_that_kills_its_workers_fails(start: Start, database_url: str) -> None:
    """Waits until a worker is considered dead. According to the row, two earlier ones were killed."""
    server = serving(start)
    job = ask(server)
    begun_before(database_url, job, 2)
    worker = start("work")
    amid(server, job)
    worker.kill()
    start("work")
    done = finished(server, job)
    assert (done["status"], done["error"], done["attempts"]) == ("failed", "export_failed", 3)
    age(server)
    assert eventually(lambda: files(server) == []), files(server)


def begun_before(url: str, job: str, attempts: int) -> None:
    database = Database(url)
    begun = Sql("UPDATE export_jobs SET attempts = :attempts WHERE id = :id")
    database.read(lambda connection: connection.change(begun, attempts=attempts, id=UUID(job).bytes))
    database.close()


def test_stopped_worker_releases_its_job(start: Start) -> None:
    """Makes most of the file twice."""
    server, worker = serving(start), start("work")
    job = ask(server)
    amid(server, job)
    assert worker.stop() == 0
    left = read(server, job)
    assert (left["status"], left["attempts"], files(server)) == ("queued", 0, [])
    start("work")
    done = finished(server, job)
    assert done["attempts"] == 1
    check_whole(server, done)


@ON_SQLITE
@pytest.mark.parametrize("command", ["gunicorn", "waitress"])
def test_draining_server_releases_its_job_immediately(start: Start, provider: Upstream, command: str) -> None:
    """Streams a reply for four seconds, which the server waits for."""
    server, draining = serving(start), start(command, WEB_CONCURRENCY="1", OPENAI_BASE_URL=provider.url)
    with Api(draining).running("Go on #n=80,r=20#") as reply:
        job = ask(server)
        amid(server, job)
        os.kill(draining.pid, signal.SIGTERM)
        assert eventually(lambda: read(server, job)["status"] != "running", 2)
        left = read(server, job)
        assert (left["status"], left["attempts"], files(server)) == ("queued", 0, [])
        assert reply.rest().data["status"] == "completed"
    start("work")
    assert finished(server, job)["attempts"] == 1


def test_job_cancelled_while_it_runs_leaves_no_file(start: Start) -> None:
    """Reads tens of megabytes."""
    server, worker = serving(start), start("work")
    job = ask(server)
    amid(server, job)
    cancelled = client.request("POST", f"{server.url}/api/exports/{job}/cancel").json
    assert cancelled["status"] == "cancelled"
    assert eventually(lambda: "cancelled or taken over" in worker.log())
    assert read(server, job) == cancelled
    assert files(server) == []


@pytest.fixture
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of another database of the same kind, which holds 4 MB."""
    url = empty_database(request, request.node.callspec.params["database_url"], tmp_path_factory)
    fill(url, CONVERSATIONS // 10)
    return url


def test_many_workers_make_each_export_once(start: Start, small: str, scale: Scale, figures: Record) -> None:
    """Makes dozens of files of a few megabytes, so that workers poll the queue while one is being made."""
    server = start("gunicorn", WEB_CONCURRENCY="2", DATABASE_URL=small)
    for _ in range(2):
        start("work", DATABASE_URL=small)
    begun, jobs = time.monotonic(), list[str]()
    while len(jobs) < scale.of(20, 200):
        response = client.request("POST", f"{server.url}/api/exports", json={"format": "ndjson"})
        assert response.status in {202, 429}, response.body
        if response.status == 202:
            jobs.append(response.json["id"])
        else:
            time.sleep(0.05)
    done = [finished(server, job) for job in jobs]
    took = time.monotonic() - begun
    attempts = Counter(f"{job['status']} at attempt {job['attempts']}" for job in done)
    figures("export jobs for four processes", jobs=len(jobs), ended=dict(attempts), **{"s for all": took})
    assert attempts == {"completed at attempt 1": len(jobs)}
    assert files(server) == sorted(f"{job}-1.ndjson" for job in jobs)


def test_job_on_a_full_disk_fails_and_leaves_no_file(start: Start) -> None:
    """Reads tens of megabytes."""
    server, worker = serving(start), start("work")
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (4 * 1024 * 1024, resource.RLIM_INFINITY))
    done = finished(server, ask(server))
    assert (done["status"], done["error"], files(server)) == ("failed", "export_disk_full", [])
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check_whole(server, finished(server, ask(server)))
    assert "xxx" not in worker.log()
