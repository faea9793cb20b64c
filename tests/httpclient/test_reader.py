"""The reader of all streams of an event loop, in separate processes, because gevent patches everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.upstream import Upstream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


def run(scenario: str, upstream: Upstream) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.httpclient.epoll_streams", scenario, upstream.url]
    subprocess.run(command, check=True, timeout=60)


def test_concurrent_streams_get_their_own_bytes(upstream: Upstream) -> None:
    """Takes over a second: a process of its own."""
    run("many", upstream)


def test_decrypted_tls_data_is_not_left_behind(tls_upstream: Upstream) -> None:
    """Takes over a second: a process of its own."""
    run("many", tls_upstream)


def test_errors_reach_the_waiting_greenlet(upstream: Upstream) -> None:
    """Takes over a second: a process of its own."""
    run("broken", upstream)


def test_streams_are_read_without_collect(upstream: Upstream) -> None:
    """Takes over a second: a reply of one second, polled every half second."""
    run("held_up", upstream)
