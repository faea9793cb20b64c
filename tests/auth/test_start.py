"""When a server is open or refuses to start: by its address, its environment, and its keys."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatkeep.config.settings import Settings
from chatkeep.server.app import create_app
from chatkeep.web.services import services_of
from tests.auth.keys import Identity, bearer, make_key, revoke
from tests.client import request
from tests.ports import free_port
from tests.servers import COMMANDS, Server, thrown_away

LIST = "/api/conversations"


class Reachable(Server):
    """A server that others than its own machine could reach."""

    def defaults(self) -> dict[str, str]:
        return {**super().defaults(), "HOST": "0.0.0.0"}  # noqa: S104 - that is the case


@pytest.mark.parametrize("command", COMMANDS)
def test_production_on_a_public_address_needs_a_key(command: str, tmp_path: Path) -> None:
    """Starts a process: a second or two. Under gunicorn the master also gives up."""
    server = Reachable(command, tmp_path, {"CHATKEEP_ENV": "production"})
    with pytest.raises(RuntimeError, match=r"reachable from other machines, but no API key exists; run: chatkeep keys"):
        server.start()
    assert server.process
    assert server.process.returncode > 0  # by itself: a server that is killed has a negative one


def test_production_with_a_public_host_needs_a_key(tmp_path: Path) -> None:
    """Starts a process: a second. A proxy passes that name on, so others are behind it."""
    named = {"CHATKEEP_ENV": "production", "CHATKEEP_HOSTS": "localhost,chat.example.com"}
    with pytest.raises(RuntimeError, match=r"CHATKEEP_HOSTS: chat\.example\.com is reachable from other machines"):
        Server("waitress", tmp_path, named).start()
    with thrown_away(Server("waitress", tmp_path, named | {"CHATKEEP_REQUIRE_KEYS": "true"})) as closed:
        assert request("GET", closed.url + LIST).status == 401


def test_production_on_a_public_address_starts_with_a_key(tmp_path: Path) -> None:
    """Starts a server: a second or two."""
    server = Reachable("gunicorn" if os.name == "posix" else "waitress", tmp_path, {"CHATKEEP_ENV": "production"})
    server.env["DATABASE_URL"] = f"sqlite:///{(tmp_path / 'keyed.sqlite3').as_posix()}"
    made = make_key(server.env["DATABASE_URL"])
    with thrown_away(server):
        assert request("GET", server.url + LIST).status == 401
        assert Identity(server, bearer(made.text)).get(LIST).status == 200


def test_development_on_a_public_address_explains_how_to_create_a_key(tmp_path: Path) -> None:
    """Starts a server: a second or two."""
    with thrown_away(Reachable("waitress", tmp_path)) as server:
        refused = request("GET", server.url + LIST)
        assert (refused.status, refused.json["code"]) == (401, "unauthorized")
        assert refused.json["detail"].endswith("chatkeep keys create NAME")


@pytest.mark.parametrize("command", COMMANDS)
def test_server_on_loopback_is_open_until_the_first_key(command: str, tmp_path: Path) -> None:
    """Starts a server, and waits until each of its processes has seen a key: some seconds."""
    url = f"sqlite:///{(tmp_path / 'chatkeep.sqlite3').as_posix()}"
    with thrown_away(Server(command, tmp_path, {"DATABASE_URL": url})) as server:
        anonymous = Identity(server)
        kept = anonymous.chat("kept from before")["conversation_id"]
        assert anonymous.request("GET", "/api/admin/summary").status == 200
        made = make_key(url)
        until_all_are(401, anonymous)
        mine = Identity(server, bearer(made.text))
        assert mine.get(f"{LIST}/{kept}").status == 200
        revoke(url, made)
        until_all_are(401, mine)
        time.sleep(1)
        assert anonymous.get(LIST).status == 401  # the server stays closed after the last key is revoked


def until_all_are(status: int, who: Identity) -> None:
    deadline = time.monotonic() + 5
    while who.statuses(LIST) != {status}:
        assert time.monotonic() < deadline


def test_key_created_by_the_command_works_at_once(tmp_path: Path) -> None:
    """Starts a server and a process: a second or two."""
    url = f"sqlite:///{(tmp_path / 'chatkeep.sqlite3').as_posix()}"
    make_key(url)
    with thrown_away(Server("flask", tmp_path, {"DATABASE_URL": url})) as server:
        command = [sys.executable, "-m", "chatkeep", "keys", "create", "new"]
        env = {**server.environment(), "PORT": str(free_port())}
        made = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        assert Identity(server, bearer(made.stdout.strip())).get(LIST).status == 200


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("127.0.0.7", 200), ("::1", 200), ("", 200), ("192.0.2.7", 401), ("2001:db8::7", 401)],
)
def test_open_server_accepts_only_loopback_clients(
    address: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, for a test has no other machine: `waitress-serve app:app` listens everywhere."""
    monkeypatch.chdir(tmp_path)
    app = create_app(Settings.from_env({}, tmp_path))
    answer = app.test_client().get(LIST, headers={"Host": "localhost"}, environ_base={"REMOTE_ADDR": address})
    services_of(app).close()
    assert answer.status_code == status
