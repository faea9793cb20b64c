"""Read streams with an `EpollReader` under gevent. Arguments: a scenario, which is a function below, and a URL."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import ssl  # noqa: E402 - gevent patches what is imported after it
import sys  # noqa: E402

import gevent  # noqa: E402

from chatkeep.errors import ProviderBroke  # noqa: E402
from chatkeep.httpclient.reader import EpollReader  # noqa: E402
from chatkeep.provider.openai_http import OpenAIHttp  # noqa: E402
from tests.httpclient.greenlets import epoll_reader  # noqa: E402
from tests.provider.asking import ask  # noqa: E402
from tests.provider.conftest import PEM  # noqa: E402
from tests.upstream import reply_to  # noqa: E402


def provider_at(url: str, reader: EpollReader) -> OpenAIHttp:
    return OpenAIHttp(url, None, "m", tls=ssl.create_default_context(cafile=PEM), reader=reader)


def many(url: str) -> None:
    """Each of 60 concurrent streams gets its own bytes."""
    provider = provider_at(url, epoll_reader())
    messages = [f"call {number} #n=40,r=400,seed={number}#" for number in range(60)]
    calls = [gevent.spawn(ask, provider, message) for message in messages]
    for message, call in zip(messages, calls, strict=True):
        outcome = call.get()
        assert outcome.text == reply_to(message), (message, outcome)
        assert outcome.finish


def broken(url: str) -> None:
    """Errors reach the greenlet that waits for the reply."""
    provider = provider_at(url, epoll_reader())
    for script in ("fault=cut_after:3", "fault=error_after:3", "fault=end_after:3"):
        outcome = ask(provider, f"#n=20,r=50,{script}#")
        assert isinstance(outcome.error, ProviderBroke), (script, outcome)
        assert len(outcome.items) == 3, (script, outcome)


def held_up(url: str) -> None:
    """A reader that nothing collects for reads nevertheless."""
    outcome = ask(provider_at(url, EpollReader(lambda: None)), "#n=20,r=20#")
    assert outcome.finish, outcome
    assert outcome.text == reply_to("#n=20,r=20#"), outcome


if __name__ == "__main__":
    {scenario.__name__: scenario for scenario in (many, broken, held_up)}[sys.argv[1]](sys.argv[2])
