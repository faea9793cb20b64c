"""Reading all streams of an event loop in a row: in processes of their own, for gevent patches everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.provider.conftest import PEM
from tests.upstream import Upstream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")

BEGINNING = f"""
from gevent import monkey
monkey.patch_all()
import gevent, ssl, sys, time
from chatkeep.httpclient.reader import EpollReader
from chatkeep.errors import ProviderBroke
from chatkeep.provider.openai_http import OpenAIHttp
from tests.provider.asking import Outcome, ask, prompt
from tests.upstream import reply_to

def collect():
    while reader.collect():
        gevent.sleep(0.001)

def provider():
    trusted = ssl.create_default_context(cafile={str(PEM)!r})
    return OpenAIHttp(sys.argv[1], None, "m", tls=trusted, reader=reader)

"""
MANY = """
reader = EpollReader(lambda: gevent.spawn(collect))
asked = [f"call {number} #n=40,r=400,seed={number}#" for number in range(60)]
asking = [gevent.spawn(ask, it, message) for it in [provider()] for message in asked]
for message, greenlet in zip(asked, asking):
    assert greenlet.get().text == reply_to(message), (message, greenlet.get())
    assert greenlet.get().finish
"""
BROKEN = """
reader = EpollReader(lambda: gevent.spawn(collect))
for script in ("fault=cut_after:3", "fault=error_after:3", "fault=end_after:3"):
    outcome = ask(provider(), f"#n=20,r=50,{script}#")
    assert isinstance(outcome.error, ProviderBroke), (script, outcome)
    assert len(outcome.items) == 3, (script, outcome)
"""
HELD_UP = """
reader = EpollReader(lambda: None)
begun = time.monotonic()
outcome = ask(provider(), "#n=20,r=20#")
assert outcome.finish and outcome.text == reply_to("#n=20,r=20#"), outcome
"""


def run(script: str, upstream: Upstream) -> None:
    command = [sys.executable, "-W", "error", "-c", BEGINNING + script, upstream.url]
    subprocess.run(command, check=True, timeout=60)


def test_each_of_many_streams_gets_its_own_bytes(upstream: Upstream) -> None:
    """Takes over a second: a process of its own."""
    run(MANY, upstream)


def test_over_tls_nothing_stays_behind_that_is_decrypted_already(tls_upstream: Upstream) -> None:
    """Takes over a second: a process of its own."""
    run(MANY, tls_upstream)


def test_what_goes_wrong_reaches_who_waits_for_the_reply(upstream: Upstream) -> None:
    """Takes over a second: a process of its own."""
    run(BROKEN, upstream)


def test_where_nobody_collects_it_is_read_all_the_same(upstream: Upstream) -> None:
    """Takes over a second: a reply of one second, looked at every half second."""
    run(HELD_UP, upstream)
