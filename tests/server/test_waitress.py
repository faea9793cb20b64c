"""Waitress's internals that chatkeep overrides or depends on are unchanged."""

from __future__ import annotations

import pytest
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer, TcpWSGIServer
from waitress.task import ErrorTask, Task, WSGITask

from tests.server.sources import digest

DIGESTS: dict[type, str] = {
    Adjustments: "475cc98278b2",
    BaseWSGIServer: "82ab2f37dc85",
    ErrorTask: "50756541cbe4",
    HTTPChannel: "aa3da44fa174",
    HTTPRequestParser: "f2b09de756c1",
    Task: "407d67e51639",
    TcpWSGIServer: "b2cb32f191a1",
    WSGITask: "9d14cf12c73a",
}


@pytest.mark.parametrize("what", DIGESTS, ids=lambda what: what.__name__)
def test_source_is_unchanged(what: type) -> None:
    """If it fails, review the change against chatkeep.server.waitress, then update the digest."""
    assert digest(what) == DIGESTS[what]
