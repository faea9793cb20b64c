"""A server without keys accepts local clients, and no remote client of a local proxy."""

from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.client import request
from tests.servers import Server, thrown_away

LIST = "/api/conversations"
FOREIGN = [
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"},
    {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"},
    {"Forwarded": "for=203.0.113.9"},
    {"X-Real-IP": "203.0.113.9"},
    {"CF-Connecting-IP": "203.0.113.9"},
    {"X-Forwarded-For": "unknown"},
    {"X-Forwarded-Host": "localhost"},
    {"Via": "1.1 proxy"},
]
LOCAL: list[dict[str, str]] = [
    {},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "::1", "X-Forwarded-Proto": "http", "Via": "1.1 proxy"},
    {"Forwarded": 'for="[::1]:4711"'},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_forwarded_remote_client_needs_a_key(server: Server, headers: dict[str, str]) -> None:
    refused = request("GET", server.url + LIST, headers=headers)
    assert (refused.status, refused.json["code"]) == (401, "unauthorized")
    assert request("POST", f"{server.url}/api/chat", json={"message": "hello"}, headers=headers).status == 401
    assert request("GET", f"{server.url}/", headers=headers).status == 200


@pytest.mark.parametrize("headers", LOCAL, ids=str)
def test_forwarded_local_client_needs_no_key(server: Server, headers: dict[str, str]) -> None:
    assert request("GET", server.url + LIST, headers=headers).status == 200


class OnSocket(Server):
    """Waitress on a Unix socket, whose connections have no address."""

    @property
    def place(self) -> str:
        return str(self.folder / "chatkeep.sock")

    def defaults(self) -> dict[str, str]:
        return super().defaults() | {"HOST": f"unix:{self.place}"}

    def _arguments(self) -> list[str]:
        return ["-m", "tests.http.waitress_program"]

    def _is_up(self) -> bool:
        return Path(self.place).exists() and self.status({}) == 200

    def status(self, headers: dict[str, str]) -> int:
        with closing(HTTPConnection("localhost")) as connection, socket.socket(socket.AF_UNIX) as peer:
            try:
                peer.connect(self.place)
            except OSError:
                return 0
            connection.sock = peer
            connection.request("GET", LIST, headers=headers)
            return connection.getresponse().status


@pytest.mark.posix("Windows has no such sockets in Python")
def test_remote_client_through_a_unix_socket_needs_a_key(tmp_path: Path) -> None:
    """Starts a server: a second."""
    server = OnSocket("waitress", tmp_path)
    with thrown_away(server):
        assert [server.status(headers) for headers in FOREIGN] == [401] * len(FOREIGN)
        assert [server.status(headers) for headers in LOCAL] == [200] * len(LOCAL)
