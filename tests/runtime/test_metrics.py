"""Metrics of a process: exact with threads, cheap, and rendered for Prometheus."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest

from chatkeep.errors import EmptyReply, ProviderError
from chatkeep.reporting.overview import step_of
from chatkeep.runtime.metrics import (
    CATALOGUE,
    CONVERSATIONS,
    FIRST_TOKEN_SECONDS,
    HTTP_REQUESTS,
    PROVIDER_ERRORS,
    TURNS,
    WITH_HISTORY,
    Registry,
    exposition,
    quantile,
    sample,
)
from chatkeep.web.schemas import admin

DAY_US = 86_400_000_000


def test_concurrent_counts_are_not_lost() -> None:
    registry = Registry()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: registry.count(TURNS, "completed"), range(20_000)))
    assert registry.drain() == {'chatkeep_turns_total{status="completed"}': 20_000}


def test_drained_counts_return_only_if_restored() -> None:
    registry = Registry()
    registry.count(TURNS, "failed")
    taken = registry.drain()
    assert registry.drain() == {}
    registry.count(TURNS, "failed", by=2)
    registry.restore(taken)
    assert list(registry.drain().values()) == [3]


def test_buckets_are_stored_apart_and_shown_cumulatively() -> None:
    registry = Registry()
    for seconds in (0.05, 0.3, 0.4, 99):
        registry.observe(FIRST_TOKEN_SECONDS, seconds)
    taken = registry.drain()
    assert taken['chatkeep_first_token_seconds_bucket{le="0.5"}'] == 2
    shown = dict(line.rsplit(" ", 1) for line in exposition(taken).splitlines() if "first_token" in line)
    assert shown['chatkeep_first_token_seconds_bucket{le="0.05"}'] == "1"
    assert shown['chatkeep_first_token_seconds_bucket{le="0.5"}'] == "3"
    assert shown['chatkeep_first_token_seconds_bucket{le="60"}'] == "3"
    assert shown['chatkeep_first_token_seconds_bucket{le="+Inf"}'] == "4"
    assert (shown["chatkeep_first_token_seconds_count"], shown["chatkeep_first_token_seconds_sum"]) == ("4", "99.75")


def test_counters_default_to_0_and_gauges_to_nothing() -> None:
    shown = exposition({})
    assert 'chatkeep_turns_total{status="interrupted"} 0\n' in shown
    assert "chatkeep_conversations" not in shown
    assert "chatkeep_conversations 7\n" in exposition({CONVERSATIONS.name: 7.0})


def test_no_metric_name_is_a_prefix_of_another_with_labels() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"chatkeep_[a-z_]+", name) for name in names)
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in CATALOGUE)


def test_sample_names_fit_their_column() -> None:
    longest = "/api/conversations/{conversation_id}/messages/{message_id}/regenerate"
    assert len(sample(HTTP_REQUESTS, (longest, "200"))) < 191


def test_every_provider_error_code_has_a_label() -> None:
    """An empty reply is found when the call is over: it counts as a failed turn."""
    codes = {kind.code for kind in ProviderError.__subclasses__()} - {EmptyReply.code}
    assert codes == set(PROVIDER_ERRORS.values)


def test_docs_list_every_metric() -> None:
    literal, _ = get_args(admin.SeriesName)
    assert set(get_args(literal)) == {metric.name for metric in WITH_HISTORY}


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, [0, 0, 0], None),
        (0.5, [4, 0, 0], 0.5),
        (0.5, [0, 4, 0], 1.5),
        (0.95, [10, 10, 0], 1.9),
        (0.95, [0, 1, 99], 2.0),
        (0.5, [1, 1, 0], 1.0),
    ],
)
def test_quantile_lies_in_the_bucket_of_its_observation(
    share: float, counts: list[int], expected: float | None
) -> None:
    found = quantile(share, (1.0, 2.0), counts)
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("days", "minutes"), [(1 / 24, 1), (1, 10), (7, 60), (30, 1440)])
def test_longer_spans_have_longer_steps(days: float, minutes: int) -> None:
    assert step_of(int(days * DAY_US)) == minutes
