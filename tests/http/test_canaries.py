"""Canary secrets through every way to fail: none of them may come out in a log, a metric, a problem or a finding.

A server of each kind logs at DEBUG, on a MariaDB that has a password, beside a Redis that is away.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.conftest import throwaway_mariadb
from tests.http.api import Api, eventually
from tests.http.test_provider_faults import AMID, BEFORE
from tests.ports import free_port
from tests.servers import COMMANDS, Server, thrown_away
from tests.services.mariadb import MariaDB
from tests.upstream import Upstream

# The operator's, which nobody is told, and the callers', which may come back to whom they came from.
OPERATORS = {
    "OPENAI_API_KEY": "sk-canary-provider-key-0001",
    "a header for the provider": "canary-provider-header-0002",
    "REDIS_URL": "canary-redis-password-0003",
}
CALLERS = {
    "Authorization": "canary-bearer-key-0004",
    "Cookie": "canary-cookie-0005",
    "Idempotency-Key": "canary-idempotency-key-0006",
    "message": "canary-message-0007",
    "system": "canary-system-prompt-0008",
    "title": "canary-title-0009",
    "q": "canary-search-0010",
    "metadata": "canary-metadata-0011",
    "X-Other": "canary-header-0012",
}
HEADERS = {
    "Authorization": f"Bearer {CALLERS['Authorization']}",
    "Cookie": f"chatkeep_key={CALLERS['Cookie']}",
    "X-Other": CALLERS["X-Other"],
}


class Leaky:
    """A server and all that a test heard of it."""

    def __init__(self, server: Server, secrets: Mapping[str, str]) -> None:
        self.api = Api(server)
        self.secrets = dict(secrets)
        self.heard: dict[str, str] = {}

    def ask(self, method: str, path: str, **options: Any) -> Any:
        options["headers"] = HEADERS | options.get("headers", {})
        response = self.api.request(method, path, **options)
        told = f"{method} {path} {response.status}"
        self.heard[told] = self.heard.get(told, "") + f"{response.headers}\n{response.body.decode(errors='replace')}"
        return response

    def chat(self, spec: str, **fields: Any) -> Any:
        body = {"message": f"{CALLERS['message']} #{spec}#", "system": CALLERS["system"], **fields}
        body.setdefault("metadata", {"note": CALLERS["metadata"]})
        key = f"{CALLERS['Idempotency-Key']}-{time.monotonic_ns()}"
        return self.ask("POST", "/api/chat", json=body, headers={"Idempotency-Key": key})

    def assert_silent(self, secrets: Mapping[str, str], heard: Mapping[str, str]) -> None:
        """Fail where a secret was heard, with what it was and where."""
        found = [(name, where) for where, text in heard.items() for name, value in secrets.items() if value in text]
        assert found == [], self.api.server.log()[-5000:]


@pytest.fixture(scope="module", params=COMMANDS)
def leaky(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Leaky]:
    """A server of each kind on a MariaDB of its own, which is killed at the end."""
    with contextlib.ExitStack() as stack:
        database: MariaDB = stack.enter_context(throwaway_mariadb())
        url = database.create_database()
        password = url.partition("@")[0].rpartition(":")[2]
        env = {
            "DATABASE_URL": url,
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": OPERATORS["OPENAI_API_KEY"],
            "CHATKEEP_PROVIDER_HEADERS": json.dumps({"X-Secret": OPERATORS["a header for the provider"]}),
            "REDIS_URL": f"redis://:{OPERATORS['REDIS_URL']}@127.0.0.1:{free_port()}/0",
            "CHATKEEP_CACHE_SIZE": "1MiB",
            "CHATKEEP_LOG_LEVEL": "DEBUG",
            "CHATKEEP_FIRST_TOKEN_TIMEOUT": "1s",
            "CHATKEEP_GAP_TIMEOUT": "1s",
            "CHATKEEP_BODY_TIMEOUT": "1s",
            "CHATKEEP_MAX_BODY": "4KiB",
            "WEB_CONCURRENCY": "1",
        }
        server = Server(request.param, tmp_path_factory.mktemp(request.param), env)
        running = Leaky(stack.enter_context(thrown_away(server)), OPERATORS | {"DATABASE_URL": password})
        throw_everything(running)
        database.kill()
        throw_outage(running)
        yield running


def throw_everything(leaky: Leaky) -> None:
    """Send what fails, in every way that there is, with secrets wherever one can be put."""
    for spec in (*BEFORE, *AMID, "fault=hang_first", "status=400,leak", "status=500,leak"):
        leaky.chat(f"{spec},echo")
    answer = leaky.chat("")
    conversation = f"/api/conversations/{answer.json['conversation_id']}"
    for body in wrong_bodies():
        for method, path in (("POST", "/api/chat"), ("PATCH", conversation), ("POST", "/api/conversations/import")):
            leaky.ask(method, path, body=body, headers={"Content-Type": "application/json"})
    leaky.ask("PATCH", conversation, json={"title": CALLERS["title"], "system": CALLERS["system"]})
    for path in (
        "nope",
        "api/nope",
        "api/conversations/nope",
        "static/nope",
    ):  # paths have names and ids; they are logged
        leaky.ask("GET", f"/{path}?q={CALLERS['q']}")
    leaky.ask("GET", f"/api/conversations?q={CALLERS['q']}")
    leaky.ask("GET", f"/api/conversations?{CALLERS['q']}={CALLERS['q']}")
    leaky.ask("GET", f"/api/conversations/export-all?start_date={CALLERS['q']}")
    leaky.ask("GET", "/health", headers={"Host": f"{CALLERS['X-Other']}.example.com"})
    leaky.ask("POST", "/api/chat", json={}, headers={"Origin": f"https://{CALLERS['X-Other']}.example.com"})
    leaky.ask("POST", "/api/chat", json={"message": "x"}, headers={"Idempotency-Key": CALLERS["Idempotency-Key"] * 20})
    for raw in wrong_requests(leaky.api.server.port):
        speak(leaky.api.server.port, raw)


def wrong_bodies() -> list[bytes]:
    told = CALLERS["message"]
    return [
        f'{{"message": "{told}'.encode(),
        f'{{"message": ["{told}"]}}'.encode(),
        f'{{"{told}": 1}}'.encode(),
        f'{{"message": "a", "system": {{"a": "{told}"}}, "role": "{told}"}}'.encode(),
        f'{{"message": "a", "conversation_id": "{told}"}}'.encode(),
        f'{{"message": "{told}\ud83d"}}'.encode(errors="surrogatepass"),
        f'{{"message": "{told * 400}"}}'.encode(),
        told.encode() + b"\xff",
    ]


def wrong_requests(port: int) -> list[bytes]:
    """What servers refuse by themselves, before the application sees it."""
    secret = HEADERS["Authorization"].encode()
    host = b"Host: 127.0.0.1:%d\r\n" % port
    line = b"GET /api/conversations?q=" + CALLERS["q"].encode()
    return [
        line + b" HTTP/1.1\r\nAuthorization " + secret + b"\r\n\r\n",
        line + b" HTTP/1.1\r\n" + host + b"Author(ization: " + secret + b"\r\n\r\n",
        line + b" HTTP/1.1\r\n" + host + b"Authorization: " + secret + b"\x01\x00\r\n\r\n",
        line + b" HTTP/9.9\r\nAuthorization: " + secret + b"\r\n\r\n",
        CALLERS["q"].encode() + b" / " + secret + b"\r\n\r\n",
        line + b" " + secret + b" HTTP/1.1\r\n\r\n",
        line + b"%zz\xff HTTP/1.1\r\n" + host + b"\r\n",
        b"GET http://x/?q=" + CALLERS["q"].encode() + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"POST /api/chat HTTP/1.1\r\n" + host + b"Content-Length: " + secret + b"\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n" + secret + b"\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\n"
        + host
        + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n"
        + secret,
        b"GET /" + b"a" * 9000 + secret + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"X-Long: " + b"a" * 70000 + secret + b"\r\n\r\n",
    ]


def speak(port: int, raw: bytes) -> None:
    """Send bytes and wait until the server has had enough of them."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as sock, contextlib.suppress(OSError):
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def throw_outage(leaky: Leaky) -> None:
    """Ask while the database is gone."""
    assert eventually(lambda: leaky.ask("GET", "/health/ready").status == 503)
    leaky.chat("")
    for path in ("/api/conversations?q=" + CALLERS["q"], "/health", "/metrics", "/api/admin/summary", "/api/exports"):
        leaky.ask("GET", path)
    # The threads beside the requests have their say, too.
    assert eventually(lambda: "could not" in leaky.api.server.log(), 30)


def test_no_secret_is_logged(leaky: Leaky) -> None:
    log = leaky.api.server.log()
    assert "provider_refused" in log
    assert "database_unavailable" in log
    assert "Redis does not answer" in log
    leaky.assert_silent(leaky.secrets | CALLERS, {"the log": log})


def test_no_secret_of_the_operator_is_told_to_anybody(leaky: Leaky) -> None:
    assert len(leaky.heard) > 20
    leaky.assert_silent(leaky.secrets, leaky.heard)


def test_what_callers_keep_secret_is_in_no_answer(leaky: Leaky) -> None:
    secret = {name: CALLERS[name] for name in ("Authorization", "Cookie", "Idempotency-Key")}
    leaky.assert_silent(secret, leaky.heard)


def test_what_callers_say_is_in_no_number(leaky: Leaky) -> None:
    told = {name: text for name, text in leaky.heard.items() if re.search(r"/metrics|/api/admin|/health", name)}
    assert len(told) >= 3
    leaky.assert_silent(leaky.secrets | CALLERS, told)
