"""Logs have classes, numbers and stacks of exceptions, never their texts."""

from __future__ import annotations

import io
import json
import logging
import queue
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pymysql
import pytest

from chatkeep.errors import ProviderRefused, StoreUnavailable
from chatkeep.i18n import verbatim
from chatkeep.runtime.concurrency import background
from chatkeep.runtime.logs import JsonFormatter, RedactingFormatter, named, request_id, traced
from tests.servers import ROOT

CANARY = "canary-0123456789"


def write() -> None:
    raise OSError(28, CANARY)


def store() -> None:
    try:
        write()
    except OSError as error:
        raise pymysql.err.DataError(1366, f"Incorrect string value: '{CANARY}'") from error


def take() -> None:
    try:
        store()
    except pymysql.err.DataError:
        raise KeyError(CANARY)  # noqa: B904 - its context must also be logged


def raised() -> KeyError:
    """Return an exception that two others led to, which all quote a value."""
    with pytest.raises(KeyError) as caught:
        take()
    return caught.value


def written(say: Callable[[logging.Logger], None]) -> str:
    """Return what a logger writes."""
    stream = io.StringIO()
    logger, target = logging.Logger("other"), logging.StreamHandler(stream)  # noqa: LOG001 - used here only
    target.setFormatter(RedactingFormatter("%(levelname)s %(message)s"))
    logger.addHandler(target)
    say(logger)
    return stream.getvalue()


def test_exception_is_named_by_classes_and_numbers() -> None:
    assert named(raised()) == "KeyError < DataError 1366 < OSError 28"
    refused = ProviderRefused(verbatim(CANARY))
    refused.upstream_status = 401
    assert named(refused) == "ProviderRefused 401"
    assert named(ValueError(4111_1111_1111_1111)) == "ValueError"  # a number that is no code
    assert named(StoreUnavailable()) == "StoreUnavailable"


def test_trace_has_the_stack_and_no_texts() -> None:
    told = traced(raised())
    assert told.count("in write") == 1
    assert told.endswith("KeyError")
    assert told.index("OSError 28") < told.index("DataError 1366")
    assert CANARY not in told


@pytest.fixture
def no_request() -> Iterator[None]:
    """Forget the request of an application that another test called in this process."""
    before = request_id.set("")
    yield
    request_id.reset(before)


@pytest.mark.usefixtures("no_request")
def test_json_record_is_one_line_with_trace_and_request_id() -> None:
    stream = io.StringIO()
    logger, target = logging.Logger("other"), logging.StreamHandler(stream)  # noqa: LOG001 - used here only
    target.setFormatter(JsonFormatter())
    logger.addHandler(target)
    begun = request_id.set("abc")
    logger.error("it failed: %s\nhere", "你", exc_info=raised())
    request_id.reset(begun)
    logger.info("it goes on", extra={"fields": {"seconds": 0.5}})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("ERROR", "other", "it failed: 你")
    assert (first["request_id"], first["trace"].startswith("here\n"), CANARY in first["trace"]) == ("abc", True, False)
    assert first["trace"].endswith("KeyError")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert second.keys() == {"time", "level", "logger", "process", "message", "seconds"}


@pytest.mark.usefixtures("no_request")
def test_background_work_logs_the_request_id() -> None:
    found: queue.Queue[str] = queue.Queue()
    begun = request_id.set("abc")
    background(lambda: found.put(request_id.get()), name="a test")
    request_id.reset(begun)
    background(lambda: found.put(request_id.get()), name="a test")
    assert {found.get(timeout=60), found.get(timeout=60)} == {"abc", ""}


SAYINGS: dict[str, Callable[[logging.Logger], None]] = {
    "ERROR it failed: DataError 1366": lambda log: log.error("it failed: %s", pymysql.err.DataError(1366, CANARY)),
    "ERROR ValueError": lambda log: log.error(ValueError(CANARY)),
    "ERROR GET /api/x of 7": lambda log: log.error("%s %s of %d", "GET", f"/api/x?q={CANARY}", 7),
    "ERROR http://h/x": lambda log: log.error("%s", f"http://h/x?q={CANARY}"),
    "ERROR Is it 5? Yes.": lambda log: log.error("Is it %d? %s.", 5, "Yes"),
    "ERROR Invalid request from ip=::1: (not shown)": lambda log: log.error(f"Invalid request from ip=::1: {CANARY}"),  # noqa: G004
    "ERROR Error on request: (not shown)": lambda log: log.error(f"Error on request:\n x\n{CANARY}"),  # noqa: G004
    "ERROR a of %(b)s": lambda log: log.error("%(a)s of %%(b)s", {"a": "a"}),
}


@pytest.mark.parametrize("line", SAYINGS)
def test_record_is_logged_without_quoted_content(line: str) -> None:
    assert written(SAYINGS[line]) == f"{line}\n"


def test_record_with_an_exception_has_its_trace() -> None:
    told = written(lambda log: log.error("it failed", exc_info=raised()))
    assert told.startswith("ERROR it failed\n")
    assert told.endswith("KeyError\n")
    assert "test_logs.py" in told
    assert CANARY not in told


@pytest.mark.parametrize(("concurrency", "times"), [("threads", 1), ("gevent", 2)])
def test_uncaught_exception_is_logged_without_its_text(concurrency: str, times: int) -> None:
    """Starts a process, in which threads and greenlets fail: half a second."""
    pytest.importorskip("gevent") if concurrency == "gevent" else None
    command = [sys.executable, "-m", "tests.runtime.uncaught_program", concurrency, CANARY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\nValueError\n") == times, done.stderr
    assert done.stderr.count("\nLookupError\n") == 1
    assert CANARY not in done.stderr
    assert "SystemExit" not in done.stderr
