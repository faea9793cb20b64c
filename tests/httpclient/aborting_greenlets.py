"""Abort calls from another greenlet. Arguments: ``blocking`` or ``epoll``, the provider's URL, and scripts."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402 - gevent patches what is imported after it
import time  # noqa: E402

import gevent  # noqa: E402

from chatkeep.provider.openai_http import OpenAIHttp  # noqa: E402
from tests.httpclient.greenlets import reader_named  # noqa: E402
from tests.provider.asking import Outcome, ask, prompt  # noqa: E402

LIMIT_S = 0.5


def main(reader: str, url: str, *scripts: str) -> None:
    provider = OpenAIHttp(url, None, "m", reader=reader_named(reader))
    assert ask(provider, "hi").finish
    for script in scripts:
        call, outcome = provider.stream_reply(prompt(f"#{script}#")), Outcome()
        greenlet = gevent.spawn(outcome.collect, call)
        gevent.sleep(0.1)
        start = time.monotonic()
        call.abort()
        greenlet.join(5)
        assert outcome.ended - start < LIMIT_S, (script, outcome)


if __name__ == "__main__":
    main(*sys.argv[1:])
