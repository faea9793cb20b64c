"""After a request with an unread body, the server reads the body or closes the connection.

On gunicorn only: Waitress reads bodies before it calls the application, and Flask's server closes every connection.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.servers import ROOT, Server, thrown_away
from tests.upstream import Upstream, reply_to

pytestmark = pytest.mark.posix("gunicorn does not run on Windows")
CERTIFICATE = ROOT / "tests" / "provider" / "localhost.pem"
ON_GUNICORN = pytest.mark.parametrize("server", [("gunicorn", "sqlite")], indirect=True, ids="-".join)


@ON_GUNICORN
@pytest.mark.parametrize(
    "sent",
    [
        "Content-Length: 60000\r\n\r\n",
        "Content-Length: 60000\r\n\r\nnot all of it",
        "Content-Length: 2000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nword\r\n",
        "Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
)
def test_incomplete_unread_body_closes_the_connection(server: Server, sent: str) -> None:
    """Waits a second for the rest of a body."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(f"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n{sent}".encode())
        head = sock.recv(65536).partition(b"\r\n\r\n")[0].lower()
        rest = sock.recv(65536)
    assert head.startswith(b"http/1.1 404 ")
    assert b"connection: close" in head
    assert rest == b""


@ON_GUNICORN
def test_complete_unread_body_keeps_the_connection(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        for _ in range(20):
            connection.request("POST", "/nowhere", b"x" * 1000)
            response = connection.getresponse()
            assert (response.status, response.read()[:1]) == (404, b"{")
            assert response.headers["Connection"] == "keep-alive"


class TlsServer(Server):
    """gunicorn with a certificate."""

    def defaults(self) -> dict[str, str]:
        options = f"--certfile={CERTIFICATE} --keyfile={CERTIFICATE}"
        return {**super().defaults(), "GUNICORN_CMD_ARGS": options, "WEB_CONCURRENCY": "1"}

    def connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=CERTIFICATE)
        return http.client.HTTPSConnection("localhost", self.port, timeout=10, context=context)

    def _is_up(self) -> bool:
        try:
            with closing(self.connect()) as connection:
                connection.request("GET", "/health/live")
                return connection.getresponse().status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("tls")
    server = TlsServer("gunicorn", folder, {"OPENAI_BASE_URL": upstream.url})
    with thrown_away(server):
        yield server


def test_incomplete_unread_body_closes_the_tls_connection(over_tls: TlsServer) -> None:
    """Waits a second for the rest of the body."""
    with closing(over_tls.connect()) as connection:
        connection.putrequest("POST", "/nowhere")
        connection.putheader("Content-Length", "60000")
        connection.endheaders(b"not all of it")
        response = connection.getresponse()
        assert (response.status, response.headers["Connection"]) == (404, "close")


def test_streams_share_a_tls_connection(over_tls: TlsServer) -> None:
    """Waits for two streams of a second."""
    with closing(over_tls.connect()) as connection:
        for number in range(2):
            message = f"{number}: over TLS #n=20,r=20#"
            body = json.dumps({"message": message, "stream": True})
            connection.request("POST", "/api/chat", body, {"Content-Type": "application/json"})
            sock = connection.sock
            text = connection.getresponse().read().decode()
            lines = [line for line in text.split("\n") if line.startswith("data: ")]
            assert "".join(json.loads(line[6:]).get("text", "") for line in lines) == reply_to(message)
            assert connection.sock is sock
