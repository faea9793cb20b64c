"""Export jobs over HTTP: made in the background, complete, fetched in ranges, deleted in time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from chatkeep.domain.conversation import OPEN_OWNER, new_id, now_us
from chatkeep.store import jobs
from chatkeep.store.engine import Database
from chatkeep.store.jobs import Job, JobStatus
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection, Sql
from tests.client import Response
from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.http.api import Api, eventually, unique
from tests.servers import Server, thrown_away

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOTHING = {"format": "csv", "start_date": "2020-01-01", "end_date": "2020-01-01"}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"none": bytes, "gzip": gzip.decompress, "zstd": zstd.decompress}


@pytest.fixture(scope="module", params=EMBEDDED_AND_SERVER)
def idle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API of a server without an export worker."""
    url = empty_database(request, request.param, tmp_path_factory)
    env = {"DATABASE_URL": url, "CHATKEEP_EXPORT_JOBS": "false"}
    with thrown_away(Server("flask", tmp_path_factory.mktemp("idle"), env)) as server:
        yield Api(server)


@pytest.fixture(scope="module")
def done(own: Api) -> Any:
    """A completed export for tests that only read it."""
    told = own.chat("俳句/haiku? #n=300,r=0#", cache=False)["conversation_id"]
    return finished(own, queued(own, format="ndjson", compression="zstd", conversation_id=told))


def queued(api: Api, **fields: Any) -> Any:
    """Request an export and return its first state."""
    response = api.request("POST", "/api/exports", json=fields)
    assert response.status == 202, response.body
    assert response.headers["Location"] == f"/api/exports/{response.json['id']}"
    return response.json


def finished(api: Api, made: Any) -> Any:
    """Wait for an export to finish and return it."""
    done = eventually(lambda: found if (found := read(api, made["id"]).json)["finished_at"] else None)
    assert done, f"not finished: {read(api, made['id']).body!r}"
    return done


def read(api: Api, id: str) -> Response:
    return api.request("GET", f"/api/exports/{id}")


def content(api: Api, id: str, **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.request("GET", f"/api/exports/{id}/content", headers=sent)


def folder(api: Api) -> Path:
    return Path(api.server.env["CHATKEEP_DATA_DIR"]) / "exports"


def files_of(api: Api, id: str) -> list[Path]:
    return list(folder(api).glob(f"{id}*"))


def change(api: Api, work: Callable[[Connection], Any]) -> None:
    """Change rows in the server's database, without the API."""
    database = Database(api.server.env["DATABASE_URL"])
    journal = Journal(database)
    journal.write(work)
    journal.close()
    database.close()


def store(api: Api, job: Job) -> None:
    change(api, lambda connection: jobs.insert(connection, job))


def id_bytes(id: str) -> bytes:
    return bytes.fromhex(id.replace("-", ""))


def test_job_makes_the_same_bytes_as_a_streamed_export(own: Api) -> None:
    """Waits for the next poll of the queue, about a second, like most tests here."""
    told = own.chat(unique("俳句 🙂"), cache=False)["conversation_id"]
    wanted = {"ndjson": "none", "json": "gzip", "csv": "zstd", "md": "none", "openai": "gzip"}
    made = [queued(own, format=name, compression=how, conversation_id=told) for name, how in wanted.items()]
    for done in [finished(own, one) for one in made]:
        got = content(own, done["id"])
        streamed = own.request("GET", f"/api/conversations/{told}/export?format={done['format']}")
        assert (done["status"], done["error"], done["attempts"]) == ("completed", None, 1)
        assert UNPACK[done["compression"]](got.body) == streamed.body
        assert (done["size"], done["sha256"]) == (len(got.body), hashlib.sha256(got.body).hexdigest())
        assert done["progress"] == {"conversations": 1, "messages": 2, "total_conversations": 1}


def test_job_exports_a_range_of_days(own: Api) -> None:
    own.chat(unique("Today"), cache=False)
    days = {"start_date": "2020-01-01", "end_date": "2020-12-31"}
    done = finished(own, queued(own, format="ndjson", **days))
    streamed = own.request("GET", f"/api/conversations/export-all?{urlencode(days)}&format=ndjson")
    assert content(own, done["id"]).body == streamed.body
    assert [done[name] for name in ("start_date", "end_date")] == list(days.values())


def test_job_exports_an_increment(own: Api) -> None:
    before, after = unique("Before"), unique("After")
    own.chat(before, cache=False)
    first = finished(own, queued(own, format="ndjson"))
    own.chat(after, cache=False)
    second = finished(own, queued(own, format="ndjson", cursor=first["cursor"]))
    assert [before in content(own, done["id"]).text for done in (first, second)] == [True, False]
    assert after in content(own, second["id"]).text
    assert (first["since"], second["since"]) == (None, first["cursor"])
    assert json.loads(content(own, second["id"]).text.splitlines()[-1])["cursor"] == second["cursor"]


def test_file_of_a_job_has_type_name_and_digest(own: Api, done: Any) -> None:
    headers = content(own, done["id"]).headers
    digest = base64.b64encode(bytes.fromhex(done["sha256"])).decode()
    name = "haiku #n=300,r=0#.ndjson.zst"
    assert headers["Content-Disposition"].startswith(f"attachment; filename=\"{name}\"; filename*=UTF-8''%E4%BF%B3")
    assert (headers["Content-Type"], headers["Content-Encoding"]) == ("application/zstd", None)
    assert (headers["ETag"], headers["Repr-Digest"]) == (f'"{done["sha256"]}"', f"sha-256=:{digest}:")
    assert (headers["Accept-Ranges"], headers["Cache-Control"]) == ("bytes", "no-store")
    assert int(headers["Content-Length"]) == done["size"]


def test_ranges_of_a_file_joined_are_the_file(own: Api, done: Any) -> None:
    size, etag = done["size"], f'"{done["sha256"]}"'
    parts = [content(own, done["id"], Range=f"bytes={a}-{b}") for a, b in ((0, 99), (100, size - 11))]
    parts += [content(own, done["id"], Range="bytes=-10", If_Range=etag)]
    assert b"".join(part.body for part in parts) == content(own, done["id"]).body
    assert [part.status for part in parts] == [206, 206, 206]
    assert [part.headers["Content-Range"] for part in parts] == [
        f"bytes 0-99/{size}", f"bytes 100-{size - 11}/{size}", f"bytes {size - 10}-{size - 1}/{size}",
    ]  # fmt: skip
    assert {part.headers["ETag"] for part in parts} == {etag}


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=1-2", "If_Range": '"another"'},
        {"Range": "bytes=1-2,4-5"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=two"},
    ],
)
def test_invalid_range_gets_the_whole_file(own: Api, done: Any, headers: dict[str, str]) -> None:
    got = content(own, done["id"], **headers)
    assert (got.status, hashlib.sha256(got.body).hexdigest()) == (200, done["sha256"])


def test_range_past_the_end_is_416(own: Api, done: Any) -> None:
    got = content(own, done["id"], Range=f"bytes={done['size']}-")
    assert (got.status, got.json["code"]) == (416, "range_not_satisfiable")
    assert got.headers["Content-Range"] == f"bytes */{done['size']}"


@pytest.mark.parametrize("none_match", ['"{}"', 'W/"{}"', '"another", "{}"', "*"])
def test_unchanged_file_is_304(own: Api, done: Any, none_match: str) -> None:
    got = content(own, done["id"], If_None_Match=none_match.format(done["sha256"]))
    assert (got.status, got.body, got.headers["ETag"]) == (304, b"", f'"{done["sha256"]}"')


@pytest.mark.parametrize(
    ("match", "status"),
    [('"{}"', 200), ('"another", "{}"', 200), ("*", 200), ('"another"', 412), ('W/"{}"', 412)],
)
def test_if_match_sends_only_the_matching_file(own: Api, done: Any, match: str, status: int) -> None:
    got = content(own, done["id"], If_Match=match.format(done["sha256"]))
    assert got.status == status
    assert status == 200 or got.json["code"] == "precondition_failed"
    assert content(own, done["id"], If_Match='"another"', If_None_Match="*", Range="bytes=0-9").status == 412


@pytest.mark.posix("Windows has other rights")
def test_other_users_of_the_host_cannot_read_the_files(own: Api, done: Any) -> None:
    (file,) = files_of(own, done["id"])
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder(own), file)] == [0o700, 0o600]


def test_completed_job_cannot_be_cancelled(own: Api, done: Any) -> None:
    got = own.request("POST", f"/api/exports/{done['id']}/cancel")
    assert (got.status, got.json["code"]) == (409, "export_finished")
    assert read(own, done["id"]).json == done


def test_expired_job_is_deleted_with_its_file(own: Api) -> None:
    """Also waits for the next sweep."""
    gone, kept = (finished(own, made) for made in [queued(own, **NOTHING), queued(own, **NOTHING)])
    ends = Sql("UPDATE export_jobs SET expires_at = :now WHERE id = :id")
    change(own, lambda connection: connection.change(ends, now=now_us(), id=id_bytes(gone["id"])))
    assert (read(own, gone["id"]).status, content(own, gone["id"]).status) == (404, 404)
    for job in (gone, kept):
        os.utime(files_of(own, job["id"])[0], (0, 0))
    assert eventually(lambda: own.count("export_jobs", "id = :id", id=id_bytes(gone["id"])) == 0)
    assert eventually(lambda: not files_of(own, gone["id"]))
    assert (len(files_of(own, kept["id"])), content(own, kept["id"]).status) == (1, 200)
    assert kept["expires_at"] > kept["finished_at"]


def test_old_files_of_killed_processes_are_removed(own: Api) -> None:
    """Waits for the sweep of the folder."""
    done = finished(own, queued(own, **NOTHING))
    old, young = (folder(own) / name for name in (f"{done['id']}-0.csv.part", f"{new_id()}-1.csv"))
    others = folder(own) / "another file-1.csv"
    for path in (old, young, others):
        path.touch()
    for path in (old, others):
        os.utime(path, (0, 0))
    assert eventually(lambda: not old.exists())
    assert (young.exists(), others.exists(), content(own, done["id"]).status) == (True, True, 200)


def test_deleted_job_is_404_and_its_file_removed(own: Api) -> None:
    done = finished(own, queued(own, **NOTHING))
    path = f"/api/exports/{done['id']}"
    assert own.request("DELETE", path).json == {"id": done["id"], "deleted": True}
    assert files_of(own, done["id"]) == []
    assert {own.request(method, path).status for method in ("GET", "DELETE")} == {404}


def test_file_of_another_host_is_reported(own: Api) -> None:
    done = finished(own, queued(own, **NOTHING))
    files_of(own, done["id"])[0].unlink()
    got = content(own, done["id"])
    assert (got.status, got.json["code"]) == (503, "export_file_missing")
    assert "CHATKEEP_DATA_DIR" in got.json["detail"]


def test_job_of_a_deleted_conversation_fails_with_that_reason(own: Api) -> None:
    request = f'{{"format":"csv","conversation_id":"{new_id()}"}}'
    job = Job(new_id(), OPEN_OWNER, request, now_us())
    store(own, job)
    done = finished(own, {"id": str(job.id)})
    assert (done["status"], done["error"], done["size"]) == ("failed", "not_found", None)
    got = content(own, done["id"])
    assert (got.status, got.json["code"], got.headers["Retry-After"]) == (409, "export_not_ready", None)
    assert files_of(own, done["id"]) == []


def test_job_waits_for_a_worker(idle: Api) -> None:
    made = queued(idle, format="csv", compression="gzip", bom=True)
    got = content(idle, made["id"])
    assert (got.status, got.json["code"], got.headers["Retry-After"]) == (409, "export_not_ready", "1")
    assert read(idle, made["id"]).json == made
    assert (made["status"], made["expires_at"], made["size"], made["bom"]) == ("queued", None, None, True)
    cancel_all(idle)


def test_cancelled_job_stays_cancelled(idle: Api) -> None:
    path = f"/api/exports/{queued(idle)['id']}"
    first, second = (idle.request("POST", f"{path}/cancel") for _ in range(2))
    assert (first.status, first.json["status"]) == (200, "cancelled")
    assert first.json["expires_at"] > first.json["finished_at"]
    assert second.json == first.json
    assert idle.request("GET", f"{path}/content").json["code"] == "export_not_ready"


def test_owner_has_at_most_ten_unfinished_exports(idle: Api) -> None:
    cancel_all(idle)
    for _ in range(10):
        queued(idle)
    got = idle.request("POST", "/api/exports", json={})
    assert (got.status, got.json["code"], got.headers["Retry-After"]) == (429, "too_many_exports", "10")
    cancel_all(idle)
    assert queued(idle)["status"] == "queued"


def cancel_all(api: Api) -> None:
    for job in api.request("GET", "/api/exports?limit=100").json["data"]:
        api.request("POST", f"/api/exports/{job['id']}/cancel")


def test_exports_are_listed_in_pages(idle: Api) -> None:
    cancel_all(idle)
    ids = [queued(idle)["id"] for _ in range(3)]
    newest = idle.request("GET", "/api/exports?limit=2").json
    rest = idle.request("GET", f"/api/exports?limit=1&after={newest['last_id']}").json
    oldest_first = idle.request("GET", f"/api/exports?order=asc&after={ids[0]}").json
    assert [job["id"] for job in newest["data"] + rest["data"]] == ids[::-1]
    assert (newest["object"], newest["first_id"], newest["has_more"]) == ("list", ids[2], True)
    assert [job["id"] for job in oldest_first["data"]] == ids[1:]
    idle.request("POST", f"/api/exports/{ids[1]}/cancel")
    idle.request("DELETE", f"/api/exports/{ids[1]}")
    behind = {order: f"/api/exports?limit=1&order={order}&after={ids[1]}" for order in ("asc", "desc")}
    assert {order: idle.request("GET", path).json["first_id"] for order, path in behind.items()} == {
        "asc": ids[2],
        "desc": ids[0],
    }
    assert idle.request("GET", "/api/exports?after=x").json["errors"][0]["field"] == "after"


def test_export_of_another_owner_is_404(idle: Api) -> None:
    job = Job(new_id(), "another owner", '{"format":"csv"}', now_us(), JobStatus.COMPLETED)
    store(idle, job)
    calls = [("GET", ""), ("GET", "/content"), ("POST", "/cancel"), ("DELETE", "")]
    for method, rest in calls:
        theirs, missing = (idle.request(method, f"/api/exports/{id}{rest}") for id in (job.id, new_id()))  # noqa: A001
        assert (theirs.status, theirs.json["detail"]) == (404, missing.json["detail"])
    assert str(job.id) not in idle.request("GET", "/api/exports?limit=100").text
    assert idle.count("export_jobs", "id = :id", id=job.id.bytes) == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": "xml"}, "format"),
        ({"compression": "rar"}, "compression"),
        ({"start_date": "yesterday"}, "start_date"),
        ({"end_date": "2026-02-30"}, "end_date"),
        ({"start_date": "2026-02-02", "end_date": "2026-02-01"}, "end_date"),
        ({"cursor": "1", "format": "csv"}, "cursor"),
        ({"cursor": "1", "format": "json", "start_date": "2026-02-01"}, "cursor"),
        ({"cursor": "nonsense", "format": "json"}, "cursor"),
        ({"until": "2026-02-02"}, "until"),
    ],
)
def test_invalid_field_of_a_job_is_named(idle: Api, fields: dict[str, str], named: str) -> None:
    before = idle.count("export_jobs")
    response = idle.request("POST", "/api/exports", json=fields)
    assert (response.status, response.json["errors"][0]["field"]) == (422, named)
    assert idle.count("export_jobs") == before


def test_job_for_an_unknown_conversation_is_404(idle: Api) -> None:
    cancel_all(idle)
    response = idle.request("POST", "/api/exports", json={"conversation_id": str(new_id())})
    assert (response.status, response.json["code"]) == (404, "not_found")
