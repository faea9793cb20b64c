"""`chatkeep stats` while a server runs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.client import SLOW
from tests.http.api import Api, unique


def test_running_reply_is_counted_as_running(own: Api) -> None:
    """Starts two processes: a second or two."""
    before = counted(own)
    with own.running(f"{unique('Go on')} #n=2000,r=20#") as running:
        during = counted(own)
        own.stop(running.id)
    assert during["running_replies"] == before["running_replies"] + 1
    assert during["messages"]["user"] > before["messages"].get("user", 0)


def counted(api: Api) -> Any:
    command = [sys.executable, "-m", "chatkeep", "stats", "--json"]
    done = subprocess.run(
        command, env=api.server.environment(), cwd=api.server.folder, capture_output=True, timeout=30 * SLOW, check=True
    )
    return json.loads(done.stdout)
