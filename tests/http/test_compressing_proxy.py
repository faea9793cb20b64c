"""A proxy that compresses answers forwards the pieces of a stream one by one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

from tests.client import request, stream
from tests.http.api import Api
from tests.servers import COMMANDS, Server, thrown_away
from tests.services import compressing, npm
from tests.upstream import Upstream

pytestmark = pytest.mark.posix("Node.js is not tested on Windows")


@pytest.fixture(scope="module", params=COMMANDS)
def api(request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key", "WEB_CONCURRENCY": "1"}
    with thrown_away(Server(request.param, tmp_path_factory.mktemp("compressed"), env)) as server:
        yield Api(server)


@pytest.fixture(scope="module")
def proxied(api: Api) -> Iterator[str]:
    """The URL of the proxy."""
    try:
        with compressing.before(api.server.port) as url:
            yield url
    except npm.Unavailable as reason:
        pytest.skip(f"a proxy that compresses: {reason}")


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, deflate, br"])
def test_compressing_proxy_forwards_deltas_one_by_one(api: Api, proxied: str, coding: str) -> None:
    """If the proxy compressed the deltas, they would all arrive at the end, after twenty seconds."""
    document = request("GET", f"{proxied}/openapi-3.2.json", headers={"Accept-Encoding": "br"})
    assert document.headers["Content-Encoding"] == "br"
    asked = {"message": "Slowly #n=400,r=20#", "stream": True}
    with stream(f"{proxied}/api/chat", asked, headers={"Accept-Encoding": coding}) as events:
        begin, *deltas = islice(events, 6)
        assert events.headers["Content-Encoding"] is None
        assert [event.event for event in deltas] == ["delta"] * 5
        assert api.read(begin.data["conversation_id"])["messages"]["data"][1]["status"] == "generating"
        api.stop(begin.data["conversation_id"])
