"""Metrics are exact across processes, hosts and restarts, and have no user data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from chatkeep.store import metrics, migrations
from chatkeep.store.engine import Database
from tests.conftest import EMBEDDED_AND_SERVER, empty_database
from tests.http.api import Api, asked, eventually, unique
from tests.servers import COMMANDS, Server
from tests.store.connections import Planned
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.services.mariadb import MariaDB

# The text format 0.0.4, stricter than its parsers: no extra spaces, ordered labels, no escapes.
HELP = re.compile(r"# HELP ([a-z_]+) (\S.*\S)")
TYPE = re.compile(r"# TYPE ([a-z_]+) (counter|gauge|histogram)")
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="[^"\\\n]*",?)+)\})? (\d+(?:\.\d+)?(?:e[+-]\d+)?)')
TURNS, PATHS = 100, 300
LONG_AGO = 1000
STATUSES = ("completed", "stopped", "truncated", "failed", "interrupted")
CODES = ("refused", "broke", "busy", "timeout")
COMPLETED = 'chatkeep_turns_total{status="completed"}'


def parsed(text: str) -> dict[str, float]:
    """Return the samples of a text by name with labels. Fail if the format is violated."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    kind: re.Match[str] | None = None
    described = ""
    for line in text[:-1].split("\n"):
        if help_ := HELP.fullmatch(line):
            described = help_[1]
        elif kind_ := TYPE.fullmatch(line):
            kind = kind_
            assert kind[1] == described
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert kind, line
            suffixes = ("_bucket", "_sum", "_count") if kind[2] == "histogram" else ("",)
            assert sample[1].removeprefix(kind[1]) in suffixes, line
            name = line.rpartition(" ")[0]
            assert name not in found, line
            found[name] = float(sample[3])
    return found


def scraped(api: Api) -> dict[str, float]:
    answer = api.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parsed(answer.text)


@dataclass(frozen=True, slots=True)
class Counted:
    """A restarted server, and what clients of it and of another host saw before."""

    api: Api
    replies: list[Any]
    """Answers that the provider generated."""
    repeated: int
    """Answers from the cache."""
    refused: int
    """Calls that the provider answered with an error status."""


@pytest.fixture(scope="module", params=EMBEDDED_AND_SERVER)
def counted(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Counted]:
    """Takes turns on a server with two workers and on another host, then restarts one: ten seconds for all tests."""
    url = empty_database(request, request.param, tmp_path_factory)
    count_long_ago(url)
    env = {
        "DATABASE_URL": url,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "CHATKEEP_SWEEP_INTERVAL": "1s",
        "WEB_CONCURRENCY": "2",
    }
    servers = [Server(kind, tmp_path_factory.mktemp(kind), env) for kind in ("gunicorn", "waitress")]
    with ExitStack() as stack:
        apis = [Api(stack.enter_context(server)) for server in servers]
        replies, repeated = turns(apis)
        refused = faults(apis[0], upstream)
        wrong_paths(apis)
    with servers[0]:
        yield Counted(apis[0], replies, repeated, refused)


def count_long_ago(url: str) -> None:
    """Add counts to past minutes."""
    database = Database(url)
    migrations.migrate(database)
    with database.connection() as connection:
        for minute in range(LONG_AGO, LONG_AGO + 2 * metrics.MINUTES):
            metrics.add(connection, minute, {"chatkeep_workers": 1})
    database.close()


def turns(apis: Sequence[Api]) -> tuple[list[Any], int]:
    """Take turns on all servers, each with another model, then repeat one until it is cached."""
    with ThreadPoolExecutor(8) as pool:
        taken = pool.map(lambda n: apis[n % 2].chat(unique("canary-text"), model=f"canary-model-{n}"), range(TURNS))
        replies = [*taken, apis[1].chat(unique("Soon gone"), ttl=1)]
    message = unique("What is a haiku?")
    answers = [apis[1].chat(message), apis[1].chat(message)]
    replies += [answer for answer in answers if not answer["cached"]]
    assert eventually(lambda: apis[1].count("conversations", "title LIKE 'Soon gone%'") == 0)
    return replies, sum(answer["cached"] for answer in answers)


def faults(api: Api, upstream: Upstream) -> int:
    """Make the provider refuse, fail and disconnect. Return how often it answered with an error status."""
    messages = [unique("#status=401,should_retry=false#"), unique("#status=500#")]
    assert [api.post(message).status for message in messages] == [502, 502]
    assert api.post("Hello #fault=cut_after:3#", stream=True).status == 200
    return sum(len(asked(upstream, message)) for message in messages)


def wrong_paths(apis: Sequence[Api]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: apis[n % 2].request("GET", f"/api/canary-path-{n}").status, range(PATHS))
        assert set(answers) == {404}


def test_turns_of_all_processes_add_up_across_a_restart(counted: Counted) -> None:
    values = scraped(counted.api)
    found = {status: values[f'chatkeep_turns_total{{status="{status}"}}'] for status in STATUSES}
    assert found == {
        "completed": len(counted.replies) + counted.repeated, "failed": 2, "truncated": 1, "stopped": 0,
        "interrupted": 0,
    }  # fmt: skip
    assert values["chatkeep_turn_seconds_count"] == len(counted.replies) + 3
    assert values["chatkeep_first_token_seconds_count"] == len(counted.replies) + 1
    assert values["chatkeep_commit_seconds_count"] == len(counted.replies) + counted.repeated + 3


def test_tokens_are_those_of_generated_replies(counted: Counted) -> None:
    values = scraped(counted.api)
    for direction in ("input", "output"):
        spent = sum(reply["usage"][f"{direction}_tokens"] for reply in counted.replies)
        assert values[f'chatkeep_tokens_total{{direction="{direction}"}}'] == spent


def test_cache_hits_and_sweeps_are_counted(counted: Counted) -> None:
    values = scraped(counted.api)
    assert values['chatkeep_cache_answers_total{result="hit"}'] == counted.repeated == 1
    assert values['chatkeep_cache_answers_total{result="miss"}'] == len(counted.replies) + 3
    assert values["chatkeep_expired_conversations_total"] == 1


def test_provider_errors_are_counted_with_retries(counted: Counted) -> None:
    values = scraped(counted.api)
    codes = {code: values[f'chatkeep_provider_errors_total{{code="provider_{code}"}}'] for code in CODES}
    assert codes == {"refused": 1, "broke": counted.refused - 1 + 1, "busy": 0, "timeout": 0}


def test_requests_are_counted_by_route(counted: Counted) -> None:
    values = scraped(counted.api)
    requests = {name: value for name, value in values.items() if name.startswith("chatkeep_http_requests_total")}
    taken = len(counted.replies) + counted.repeated
    assert requests['chatkeep_http_requests_total{route="/api/chat",status="200"}'] == taken + 1
    assert requests['chatkeep_http_requests_total{route="none",status="404"}'] == PATHS
    assert len(values) < 150


def test_metrics_have_no_user_data(counted: Counted) -> None:
    text = counted.api.request("GET", "/metrics").text
    assert [secret for secret in ("canary", "test-key", "local") if secret in text] == []
    assert re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}", text) == []


def test_metrics_measure_stored_data(counted: Counted) -> None:
    """Waits for the first measurement: two seconds."""
    stored = counted.api.count("conversations")
    assert eventually(lambda: scraped(counted.api)["chatkeep_conversations"] == stored)
    assert eventually(lambda: scraped(counted.api)["chatkeep_workers"] == 2)  # the second starts after the first
    values = scraped(counted.api)
    assert values["chatkeep_replies_generating"] == 0
    assert values["chatkeep_storage_bytes"] > 10_000


def test_running_replies_are_counted_immediately(counted: Counted) -> None:
    with counted.api.running("Hello #n=50,r=20#"):
        assert scraped(counted.api)["chatkeep_replies_generating"] == 1


def test_overview_equals_the_metrics(counted: Counted) -> None:
    summary, values = counted.api.request("GET", "/api/admin/summary").json, scraped(counted.api)
    assert summary["turns"] == {s: values[f'chatkeep_turns_total{{status="{s}"}}'] for s in STATUSES}
    assert summary["tokens"]["output"] == values['chatkeep_tokens_total{direction="output"}']
    assert summary["conversations"] == values["chatkeep_conversations"]
    assert (summary["object"], summary["expired_conversations"]) == ("summary", 1)


@pytest.mark.parametrize(("hours", "step"), [(1, 60), (24, 600), (7 * 24, 3600), (30 * 24, 86400)])
def test_series_has_all_counts_of_its_period(counted: Counted, hours: int, step: int) -> None:
    began = (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="seconds")
    series = series_of(counted.api, "chatkeep_turns_total", **{"from": began})
    lines = {line["label"]: line["values"] for line in series["lines"]}
    assert (series["step"], set(lines)) == (step, set(STATUSES))
    assert sum(lines["completed"]) >= len(counted.replies) + counted.repeated
    assert {len(values) for values in lines.values()} <= {hours * 3600 // step, hours * 3600 // step + 1}


def test_series_of_a_histogram_are_quantiles(counted: Counted) -> None:
    lines = series_of(counted.api, "chatkeep_first_token_seconds")["lines"]
    half, most = ([value for value in line["values"] if value is not None] for line in lines)
    assert [line["label"] for line in lines] == ["0.5", "0.95"]
    assert half
    assert all(0 < low <= high for low, high in zip(half, most, strict=True))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"name": "chatkeep_nothing"}, "name"),
        ({"name": "chatkeep_workers", "from": "2026-01-01", "to": "2026-06-01"}, "from"),
        ({"name": "chatkeep_workers", "from": "2026-01-02", "to": "2026-01-01"}, "from"),
        ({"name": "chatkeep_workers", "to": "2026-02-30"}, "to"),
        ({"name": "chatkeep_workers", "step": "1"}, "step"),
    ],
)
def test_invalid_series_is_refused(counted: Counted, query: dict[str, str], field: str) -> None:
    answer = counted.api.request("GET", f"/api/admin/series?{urlencode(query)}")
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)


def test_minutes_are_deleted_after_a_month_and_totals_are_kept(counted: Counted) -> None:
    assert eventually(lambda: counted.api.count("metrics", "minute BETWEEN 1 AND 100000") == 0)
    assert counted.api.count("metrics", "minute = 0") > 20


def test_long_series_is_read_by_index(counted: Counted) -> None:
    database = Database(counted.api.server.env["DATABASE_URL"])
    with database.connection() as connection:
        plan = Planned(connection, embedded=database.embedded)
        metrics.summed(plan, ["chatkeep_workers", "chatkeep_conversations"], 1, 50_000_000, 60)
        metrics.totals(plan)
        metrics.forget(plan, LONG_AGO)
    database.close()
    assert plan.plans
    assert plan.scans() == []


def series_of(api: Api, name: str, **query: str) -> Any:
    answer = api.request("GET", f"/api/admin/series?{urlencode({'name': name} | query)}")
    assert answer.status == 200, answer.body
    return answer.json


def test_killed_server_loses_at_most_ten_seconds_of_counts(tmp_path: Path, upstream: Upstream) -> None:
    """Waits for a flush of the counts: twelve seconds."""
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key", "WEB_CONCURRENCY": "2"}
    server = Server(COMMANDS[0], tmp_path, env)
    server.start()
    api = Api(server)
    for _ in range(6):
        api.chat("Hello")
    assert eventually(lambda: scraped(api)[COMPLETED] == 6, 12)
    api.chat("This one is not stored yet.")
    server.kill()
    with server:
        assert scraped(api)[COMPLETED] in {6, 7}


def test_database_outage_is_a_problem_and_loses_no_counts(
    own_mariadb: MariaDB, tmp_path: Path, upstream: Upstream
) -> None:
    """Starts a database, and waits until writes fail and until they work again: half a minute."""
    env = {
        "DATABASE_URL": own_mariadb.create_database(),
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "WEB_CONCURRENCY": "1",
    }
    with Server("gunicorn", tmp_path, env) as server:
        api = Api(server)
        api.chat("Hello")
        own_mariadb.kill()
        answer = api.request("GET", "/metrics")
        assert (answer.status, answer.json["code"]) == (503, "database_unavailable")
        assert eventually(lambda: "could not store metrics or usage" in server.log(), 20)
        own_mariadb.start()
        assert eventually(lambda: scraped_once(api) == 1, 30)


def scraped_once(api: Api) -> float:
    """Return the number of completed turns, or None during the outage."""
    answer = api.request("GET", "/metrics")
    return parsed(answer.text)[COMPLETED] if answer.status == 200 else 0
