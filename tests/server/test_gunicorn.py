"""gunicorn's and gevent's internals that chatkeep overrides or depends on are unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.sources import digest, overridden

if os.name == "nt":
    pytest.skip("there is no gunicorn on Windows", allow_module_level=True)

from gevent.baseserver import BaseServer
from gevent.server import StreamServer
from gunicorn import glogging
from gunicorn.arbiter import Arbiter
from gunicorn.http import body, errors, message, wsgi
from gunicorn.workers.base import Worker
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from chatkeep.server.gunicorn_master import Master
from chatkeep.server.gunicorn_worker import DrainingWorker

DIGESTS: dict[Callable[..., Any], str] = {
    Arbiter.halt: "f080672e7413",
    Arbiter.handle_hup: "50de80005cd6",
    Arbiter.kill_worker: "47e1a8ccdca2",
    Arbiter.manage_workers: "518f2dd040ef",
    Arbiter.murder_workers: "3f8fbfdf473f",
    Arbiter.reap_workers: "ebcf4187e9eb",
    Arbiter.reload: "fec344d2f774",
    Arbiter.start: "92668bdb3e86",
    Arbiter.reexec: "7d8134145fff",
    Arbiter.run: "1ddfab9d644f",
    Arbiter.spawn_worker: "6abc0d90b0b9",
    Arbiter.stop: "7138b6afd9c4",
    Arbiter.wait_for_signals: "4abcab1deb7c",
    AsyncWorker.handle: "6eb3b127e6ba",
    AsyncWorker.handle_request: "913e17a9542a",
    AsyncWorker.__init__: "a3c8f332bcc5",
    GeventWorker.handle: "0ea41a122964",
    GeventWorker.handle_quit: "bb3ae10bcd1a",
    GeventWorker.handle_request: "46750b15c6e4",
    GeventWorker.init_process: "c8f6804aeb44",
    GeventWorker.notify: "10266ff4bf20",
    GeventWorker.patch: "e755a4b317f5",
    GeventWorker.run: "50119854ef8b",
    GeventWorker.timeout_ctx: "8239bec284f0",
    BaseServer: "76e1708870c9",
    StreamServer: "7fa354083dbe",
    Worker.handle_abort: "ca347b2ae368",
    Worker.handle_error: "75426448389b",
    Worker.handle_exit: "e2f7159c426d",
    Worker.init_process: "114caccd7a0e",
    Worker.init_signals: "65442e0602b0",
    Worker.load_wsgi: "18b02fc35e96",
    body.Body: "2a2afc0b6a50",
    body.ChunkedReader: "c1aa79e0ae04",
    body.LengthReader: "3b01bc7c21a2",
    errors.ParseException: "e95735be2b89",
    glogging.Logger.setup: "17c79acdddea",
    message.HeaderPolicy: "84bc24b291e7",
    wsgi.Response: "d67f8e6b29d7",
    wsgi.create: "2c35d4a2dc62",
}


@pytest.mark.parametrize("what", DIGESTS, ids=lambda what: f"{what.__module__}.{what.__qualname__}")
def test_source_is_unchanged(what: Callable[..., Any]) -> None:
    """If it fails, review the change against chatkeep.server.gunicorn_*, then update the digest."""
    assert digest(what) == DIGESTS[what]


def test_every_override_has_a_digest() -> None:
    assert overridden(Master, Arbiter) | overridden(DrainingWorker, GeventWorker) <= set(DIGESTS)
