"""Requests leave no reference cycles, because a garbage collection pauses every stream of the worker.

On gunicorn, whose workers have many streams. Objects do not depend on the database.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.http.api import Api, eventually
from tests.servers import Server, thrown_away
from tests.upstream import Upstream

pytestmark = pytest.mark.posix("gunicorn does not run on Windows")
TURNS = 40
CONFIGURATION = Path(__file__).with_name("count_garbage_conf.py")


class Counting(Server):
    """A gunicorn whose worker can log how many objects only the collector could free."""

    def _arguments(self) -> list[str]:
        return ["-m", "gunicorn", "-c", str(CONFIGURATION), "app:app"]


def test_turns_leave_no_cycles_for_the_garbage_collector(tmp_path: Path, upstream: Upstream) -> None:
    """Starts a server: more than a second."""
    env = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
        "WEB_CONCURRENCY": "1",
    }
    with thrown_away(Counting("gunicorn", tmp_path, env)) as server:
        api = Api(server)
        for number in range(TURNS):
            asked = api.chat(f"{number} #n=2,r=0#")
            api.streamed(f"{number} #n=2,r=0#")
            assert api.request("GET", f"/api/conversations/{asked['conversation_id']}").status == 200
        with ThreadPoolExecutor(TURNS) as pool:  # each turn needs a new connection to the provider
            list(pool.map(api.streamed, (f"{number} at once #n=4,r=20#" for number in range(TURNS))))
        assert api.request("GET", "/health/live?count").status == 200
        assert eventually(lambda: "garbage: " in server.log())
    found = int(server.log().rpartition("garbage: ")[2].split()[0])
    # A cycle of a request has about fifty objects, one of a provider's response ten. The rest is from the start.
    assert found < 5 * TURNS, server.log()
