"""A disk that is full while clients take turns, and then has space again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import client
from tests.faults import rows
from tests.faults.checker import compare
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.log import Seen
from tests.faults.scale import Scale
from tests.faults.test_database import until_taken
from tests.faults.test_kills import talking
from tests.http.api import eventually
from tests.servers import Server
from tests.upstream import reply_to

if sys.platform != "win32":
    import resource

pytestmark = [pytest.mark.promise(1, 2), ON_SQLITE]
WORKERS = 2
MOUNT, UMOUNT = "/bin/mount", "/bin/umount"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 8 MB, or None if this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = [MOUNT, "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    yield folder
    subprocess.run([UMOUNT, "-l", str(folder)], check=True)


@contextmanager
def no_room(folder: Path) -> Iterator[None]:
    """Fill a file system to its last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield
    filler.unlink()


@contextmanager
def no_long_files(server: Server) -> Iterator[None]:
    """Let the workers write no file beyond 64 KiB, which the database's log has passed by then."""
    assert eventually(lambda: len(server.worker_pids()) == WORKERS, 15), "one would have no limit"
    workers = server.worker_pids()
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))
    yield
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("how", ["no room", "file size limit"])
def test_full_disk_is_reported_and_loses_nothing(
    serve: Serve, small_disk: Path | None, database_url: str, scale: Scale, figures: Record, how: str
) -> None:
    """Fills the disk for some seconds, once or several times."""
    if small_disk and how == "no room":
        database_url = f"sqlite:///{(small_disk / 'chatkeep.sqlite3').as_posix()}"
        how = "a tmpfs without room"
    server = serve(DATABASE_URL=database_url, WEB_CONCURRENCY=str(WORKERS))
    log, heals, times = list[Seen](), 0.0, scale.of(1, 6)
    statuses, reads, is_reported, is_alive = Counter[int](), 0, False, False
    with talking(server, scale, 6, log), Crowd(server.port) as crowd:
        for number in range(6):
            crowd.ask(f"open {number} #n={scale.of(80, 300)},r=10,seed={number}#")
        assert crowd.wait_for_start()
        for _ in range(times):
            with no_room(small_disk) if small_disk and "tmpfs" in how else no_long_files(server):
                statuses += probe_until_refused(server, 45)
                reads = status(server, "/api/conversations")
                # The watch writes once a second.
                is_reported = eventually(lambda: status(server, "/health/ready") == 503, 15)
                is_alive = status(server, "/health/live") == 200
            heals = max(heals, until_taken(server))
        assert crowd.wait_for_end(120)
        parsed = [listener.parsed()[0] for listener in crowd.listeners]
    verdict = compare(rows.read(database_url), log + parsed)
    counts = {"times": times, "statuses of new turns": dict(statuses), "s until it heals": heals}
    figures(f"disk full: {how}", **counts, **verdict.figures())
    verdict.check()
    assert statuses.keys() <= {200, 503}
    assert reads == 200
    assert is_reported, "a server with a full disk says that it is ready"
    assert is_alive
    assert [seen for seen in parsed if (seen.text, seen.status) != (reply_to(seen.message), "completed")] == []
    assert heals <= scale.of(15, 5)  # in the short form other tests may hold one up


def status(server: Server, path: str) -> int:
    """Return the status of an answer."""
    return client.request("GET", f"{server.url}{path}").status


def probe_until_refused(server: Server, seconds: float) -> Counter[int]:
    """Send turns until three in a row are refused, as they must be; return the statuses."""
    found: list[int] = []
    deadline = time.monotonic() + seconds
    while found[-3:] != [503] * 3:
        assert time.monotonic() < deadline, f"the disk is full and turns get {Counter(found)}"
        question = {"message": "Is there room? " + "x" * 5000}
        try:
            answer = client.request("POST", f"{server.url}/api/chat", json=question, timeout=3)
        except TimeoutError:
            continue  # taken with the last room that there was: its reply waits until there is more
        found.append(answer.status)
        if answer.status == 503:
            # A limit of a file's size is no full disk.
            assert answer.json["code"] in {"database_full", "database_unavailable"}
            assert answer.headers["Retry-After"]
    return Counter(found)
