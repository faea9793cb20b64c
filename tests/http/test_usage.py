"""Usage is reported by day, model and caller, within a second."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import serving
from tests.http.api import Api, eventually, unique
from tests.servers import FOR_PRODUCTION, Server, thrown_away
from tests.upstream import Upstream

PRICES = {"model-a": {"input": 2.5, "output": 10}, "model-a-small": {"input": 1}}


@pytest.fixture(scope="module", params=FOR_PRODUCTION, ids="-".join)
def priced(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The API of a server with prices."""
    env = {"CHATKEEP_PRICES": json.dumps(PRICES), "CHATKEEP_SWEEP_INTERVAL": "1s"}
    with serving(request, upstream, tmp_path_factory, **env) as running:
        yield Api(running)


@pytest.fixture
def used(priced: Api) -> Api:
    """The same without earlier usage. Tests wait until theirs is stored."""
    priced.execute("DELETE FROM `usage`")
    return priced


def usage(api: Api, query: str = "", *, requests: int) -> Any:
    """Wait until the usage has so many turns, and return it."""

    def ask() -> Any:
        response = api.request("GET", f"/api/usage?{query}")
        assert response.status == 200, response.body
        return response.json if response.json["total"]["requests"] >= requests else None

    found = eventually(ask)
    assert found, "the usage has fewer turns"
    return found


def test_usage_adds_turns_and_tokens(used: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: used.chat(unique("#n=7#"), model="model-a"), range(24)))
    found = usage(used, "group_by=day,model,key,account,end_user", requests=24)
    sums = {name: sum(answer["usage"][name] for answer in answers) for name in ("input_tokens", "output_tokens")}
    cost = pytest.approx(sums["input_tokens"] * 2.5e-6 + sums["output_tokens"] * 10e-6)
    model = answers[0]["model"]
    assert found["total"] == {"requests": 24, **sums, "cost": cost}
    assert found["data"] == [
        {"day": today(), "model": model, "key": None, "account": "local", "end_user": None, **found["total"]}
    ]


def today(days: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def test_longest_matching_model_name_sets_the_price(used: Api) -> None:
    answer = used.chat(unique(), model="model-a-small")
    rows = usage(used, "group_by=model", requests=1)["data"]
    assert rows == [{"model": answer["model"], "requests": 1, **answer["usage"], "cost": rows[0]["cost"]}]
    assert rows[0]["cost"] == pytest.approx(answer["usage"]["input_tokens"] * 1e-6)


def test_replies_that_fail_count_as_requests(used: Api) -> None:
    assert used.post(unique("#status=400#")).status == 502
    assert usage(used, requests=1)["total"] == {"requests": 1, "input_tokens": 0, "output_tokens": 0, "cost": 0}


def test_other_days_are_empty(used: Api) -> None:
    used.chat(unique())
    assert usage(used, f"start_date={today()}&end_date={today()}", requests=1)["total"]["requests"] == 1
    found = usage(used, f"start_date={today(-9)}&end_date={today(-2)}", requests=0)
    assert (found["total"]["requests"], found["data"]) == (0, [])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("start_date=2026-02-30", "start_date"),
        ("start_date=2026-11-22&end_date=2026-11-21", "end_date"),
        ("group_by=hour", "group_by"),
        ("end_date=yesterday", "end_date"),
    ],
)
def test_invalid_usage_query_is_refused(own: Api, query: str, field: str) -> None:
    answer = own.request("GET", f"/api/usage?{query}")
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)


@pytest.mark.posix("there is no gunicorn on Windows")
def test_usage_includes_replies_of_a_killed_worker(database_url: str, upstream: Upstream, tmp_path: Path) -> None:
    """Waits until the killed worker is considered dead: a few seconds."""
    env = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with thrown_away(Server("gunicorn", tmp_path, env)) as server:
        api = Api(server)
        reply = api.running(unique("#n=400,r=50#"))
        reply.until(40)
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        reply.stream.close()
        eventually(lambda: server.worker_pids() and is_up(api), 15)
        found = eventually(lambda: total if (total := usage(api, requests=0)["total"])["requests"] else None, 15)
        assert found
        assert found["requests"] == 1
        assert found["output_tokens"] >= 10


def is_up(api: Api) -> bool:
    try:
        return api.request("GET", "/health").status == 200
    except OSError:
        return False


@pytest.mark.posix("Windows can ask only a console process to stop")
def test_stopping_server_flushes_usage(database_url: str, upstream: Upstream, tmp_path: Path) -> None:
    env = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server("gunicorn", tmp_path, env) as server:
        api = Api(server)
        api.chat(unique())
        # The server waits for it, so it ends just before the server.
        reply = api.running(unique("#n=40,r=20#"))
    reply.stream.close()
    assert api.count("`usage`", "requests = 2") == 1


def test_old_usage_is_deleted(used: Api) -> None:
    """Waits for a sweep: two seconds."""
    used.chat(unique())
    assert eventually(lambda: used.count("`usage`"))
    used.execute("UPDATE `usage` SET day = day - 401")
    used.execute("INSERT INTO windows VALUES ('another owner', 0, 0, 0, 0, 0, 0)")
    assert eventually(lambda: used.count("`usage`") + used.count("windows") == 0)


def test_usage_pages_have_the_total_of_all(used: Api) -> None:
    for model in ("a", "b", "c"):
        used.chat(unique(), model=model)
    assert eventually(lambda: len(usage(used, "group_by=model", requests=3)["data"]) == 3)
    pages = [usage(used, f"group_by=model&limit=2&after={after}", requests=3) for after in (0, 2)]
    assert [[row["model"] for row in page["data"]] for page in pages] == [["a-2026", "b-2026"], ["c-2026"]]
    assert [page["has_more"] for page in pages] == [True, False]
    assert {page["total"]["requests"] for page in pages} == {3}
