"""The scripted provider itself: faults whose absence other tests would not notice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from urllib.request import urlopen

import pytest

from chatkeep.provider.openai_http import OpenAIHttp
from tests.provider.asking import Asking, ask
from tests.upstream import Upstream, generate, parse, reply_to


def test_specification_is_parsed_from_message() -> None:
    assert parse("Tell me #n=5,split,fault=error_after:2:429# more") == {
        "n": "5",
        "split": "",
        "fault": "error_after:2:429",
    }
    assert parse("# A heading #\n#") == {}


def test_generated_reply_depends_only_on_seed() -> None:
    assert generate(50, 1) == generate(50, 1) != generate(50, 2)
    assert any(ord(char) > 0xFFFF for char in "".join(generate(50)))


def test_upstream_runs_as_program(open_http: Callable[..., OpenAIHttp]) -> None:
    command = [sys.executable, "-m", "tests.upstream", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        assert ask(open_http(url), "hi").text == reply_to("hi")
        with urlopen(url.removesuffix("/v1") + "/stats", timeout=5) as response:  # noqa: S310 - http, to ourselves
            assert b'"requests": 1' in response.read()
        program.kill()


def test_fault_applies_to_first_requests_only(over_http: OpenAIHttp) -> None:
    kinds = [ask(over_http, "#status=500,first=2#").error is None for _ in range(4)]
    assert kinds == [False, False, True, True]


def test_fault_applies_to_some_requests(over_http: OpenAIHttp) -> None:
    kinds = [ask(over_http, "#status=500,p=0.5#").error is None for _ in range(100)]
    assert 30 < sum(kinds) < 70


@pytest.mark.parametrize("fault", ["hang_headers", "hang_first", "drip"])
def test_silent_fault_sends_nothing(fault: str, over_http: OpenAIHttp, upstream: Upstream) -> None:
    asking = Asking(over_http, f"#fault={fault}#")
    assert upstream.wait_for(lambda it: it.active == 1)
    time.sleep(0.2)
    asking.abort()
    assert asking.outcome.items == []
    assert upstream.wait_for(lambda it: len(it.aborted) == 1, 1)


def test_endless_reply_continues(over_http: OpenAIHttp, upstream: Upstream) -> None:
    asking = Asking(over_http, "#fault=endless,r=1000#")
    assert upstream.wait_for(lambda _: len(asking.outcome.items) > 50)
    asking.abort()
