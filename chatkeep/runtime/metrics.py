"""Metrics: the catalogue, the registry of one process, and Prometheus' text format.

A sample's name includes its labels: ``chatkeep_turns_total{status="completed"}``. Labels have closed sets of values, so
the number of samples is bounded, and none identifies a caller.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal

from chatkeep.domain.conversation import Status
from chatkeep.errors import ProviderBroke, ProviderBusy, ProviderRefused, ProviderTimeout
from chatkeep.runtime.concurrency import short_lock

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric; ``buckets`` are a histogram's upper bounds in seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    """All values of the only label, if they are known in advance."""
    buckets: tuple[float, ...] = ()


_LATENCIES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_DURATIONS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_COMMITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

TURNS = Metric(
    "chatkeep_turns_total",
    "counter",
    "Finished turns by status. All metrics cover the whole cluster, up to 10 s late: scrape one address.",
    ("status",),
    tuple(status.value for status in Status if status is not Status.GENERATING),
)
TURN_SECONDS = Metric("chatkeep_turn_seconds", "histogram", "Time to generate a reply, in seconds.", buckets=_DURATIONS)
FIRST_TOKEN_SECONDS = Metric(
    "chatkeep_first_token_seconds",
    "histogram",
    "Time to the provider's first token, including retries, in seconds.",
    buckets=_LATENCIES,
)
COMMIT_SECONDS = Metric(
    "chatkeep_commit_seconds",
    "histogram",
    "Time to commit a new turn to the database, including waiting for earlier commits, in seconds.",
    buckets=_COMMITS,
)
TOKENS = Metric(
    "chatkeep_tokens_total", "counter", "Tokens counted by the provider.", ("direction",), ("input", "output")
)
PROVIDER_ERRORS = Metric(
    "chatkeep_provider_errors_total",
    "counter",
    "Provider errors by code, including retried ones.",
    ("code",),
    tuple(kind.code for kind in (ProviderBroke, ProviderBusy, ProviderRefused, ProviderTimeout)),
)
CACHE_ANSWERS = Metric(
    "chatkeep_cache_answers_total", "counter", "Cache hits and misses.", ("result",), ("hit", "miss")
)
EXPIRED = Metric("chatkeep_expired_conversations_total", "counter", "Expired conversations deleted.")
HTTP_REQUESTS = Metric(
    "chatkeep_http_requests_total", "counter", "HTTP requests by route and status.", ("route", "status")
)
LOOP_STALLS = Metric(
    "chatkeep_loop_stalls_total",
    "counter",
    "Event loop stalls of more than 1 s. The worker's log has the stack.",
)
GENERATING = Metric("chatkeep_replies_generating", "gauge", "Replies being generated.")
CONVERSATIONS = Metric("chatkeep_conversations", "gauge", "Stored conversations.")
STORAGE_BYTES = Metric("chatkeep_storage_bytes", "gauge", "Size of the database in bytes, as it reports it.")
WORKERS = Metric("chatkeep_workers", "gauge", "Live server processes.")

CATALOGUE = (
    TURNS, TURN_SECONDS, FIRST_TOKEN_SECONDS, COMMIT_SECONDS, TOKENS, PROVIDER_ERRORS, CACHE_ANSWERS, EXPIRED,
    LOOP_STALLS, HTTP_REQUESTS, GENERATING, CONVERSATIONS, STORAGE_BYTES, WORKERS,
)  # fmt: skip
# Requests have a sample for each route and status: too many to store for each minute.
WITH_HISTORY = tuple(metric for metric in CATALOGUE if metric is not HTTP_REQUESTS)


@cache
def sample(metric: Metric, values: tuple[str, ...]) -> str:
    """Return the name of a sample with these labels."""
    labels = ",".join(f'{label}="{value}"' for label, value in zip(metric.labels, values, strict=True))
    return f"{metric.name}{{{labels}}}" if labels else metric.name


@cache
def sum_of(metric: Metric) -> str:
    """Return the name of the sample that has a histogram's sum."""
    return f"{metric.name}_sum"


@cache
def samples(metric: Metric) -> tuple[str, ...]:
    """Return the names of the samples that are known before anything is counted; a histogram's buckets."""
    if metric.buckets:
        bounds = (*(f"{bound:g}" for bound in metric.buckets), "+Inf")
        return tuple(f'{metric.name}_bucket{{le="{bound}"}}' for bound in bounds)
    if metric.labels:
        return tuple(sample(metric, (value,)) for value in metric.values)
    return (metric.name,)


def has_history(name: str) -> bool:
    """Return whether a sample is stored for each minute."""
    return not name.startswith(HTTP_REQUESTS.name)


class Registry:
    """Thread-safe counts of one process that are not stored yet."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, float] = defaultdict(float)
        self._lock = short_lock()

    def count(self, metric: Metric, *values: str, by: float = 1) -> None:
        """Increment a counter by ``by``; ``values`` are those of the metric's labels."""
        name = sample(metric, values)
        with self._lock:
            self._counts[name] += by

    def observe(self, metric: Metric, seconds: float) -> None:
        """Add an observation to a histogram."""
        bucket, total = _bucket(metric, seconds), sum_of(metric)
        with self._lock:
            self._counts[bucket] += 1
            self._counts[total] += seconds

    def drain(self) -> dict[str, float]:
        """Return and reset the counts; buckets are not cumulative."""
        with self._lock:
            taken, self._counts = self._counts, defaultdict(float)
        return dict(taken)

    def restore(self, taken: Mapping[str, float]) -> None:
        """Add counts back that could not be stored."""
        with self._lock:
            for name, count in taken.items():
                self._counts[name] += count


def _bucket(metric: Metric, seconds: float) -> str:
    return samples(metric)[bisect_left(metric.buckets, seconds)]


def exposition(values: Mapping[str, float]) -> str:
    """Render samples in Prometheus' text format 0.0.4."""
    return "".join(f"{line}\n" for metric in CATALOGUE for line in _lines(metric, values))


def _lines(metric: Metric, values: Mapping[str, float]) -> Iterator[str]:
    found = _cumulated(metric, values) if metric.buckets else _found(metric, values)
    if found:
        yield f"# HELP {metric.name} {metric.help}"
        yield f"# TYPE {metric.name} {metric.kind}"
        yield from (f"{name} {_number(value)}" for name, value in found.items())


def _found(metric: Metric, values: Mapping[str, float]) -> dict[str, float]:
    """Return a metric's samples; counters default to 0, gauges that were not measured are absent."""
    known = dict.fromkeys(samples(metric), 0.0) if metric.kind == "counter" else {}
    labelled = f"{metric.name}{{"
    return known | {
        name: value for name, value in sorted(values.items()) if name == metric.name or name.startswith(labelled)
    }


def _cumulated(metric: Metric, values: Mapping[str, float]) -> dict[str, float]:
    """Return a histogram's samples with cumulative buckets."""
    names = samples(metric)
    counts = accumulate(values.get(name, 0.0) for name in names)
    found = dict(zip(names, counts, strict=True))
    total = found[names[-1]]
    return found | {sum_of(metric): values.get(sum_of(metric), 0.0), f"{metric.name}_count": total}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def quantile(share: float, buckets: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return a quantile in seconds, or None without observations.

    ``counts`` are not cumulative; the last one is of observations above all bounds. Within a bucket the quantile is
    interpolated linearly; above the last bound it is that bound.
    """
    wanted, seen, lower = share * sum(counts), 0.0, 0.0
    if not wanted:
        return None
    for bound, count in zip(buckets, counts, strict=False):
        if seen + count >= wanted:
            return lower + (bound - lower) * (wanted - seen) / count
        seen, lower = seen + count, bound
    return lower
