"""Canary secrets in every kind of failure appear in no log, metric, problem or doctor finding.

A server of each kind logs at DEBUG, on each database, beside a Redis that is away; a MariaDB is killed at the end.
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

from tests.conftest import EACH, throwaway
from tests.faults import rows
from tests.faults.figures import PROPERTY, figure
from tests.http.api import Api, eventually
from tests.http.test_provider_faults import AMID, BEFORE
from tests.ports import free_port
from tests.servers import Server, thrown_away
from tests.upstream import Upstream

pytestmark = [pytest.mark.promise(8), pytest.mark.everywhere]
# Secrets of the operator appear nowhere. Those of a caller may only return to that caller.
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
    """A server and all of its output."""

    def __init__(self, server: Server, database: str, secrets: Mapping[str, str]) -> None:
        self.api = Api(server)
        self.database = database
        self.secrets = dict(secrets)
        self.heard: dict[str, str] = {}
        self.requests = 0

    def ask(self, method: str, path: str, **options: Any) -> Any:
        options["headers"] = HEADERS | options.get("headers", {})
        response = self.api.request(method, path, **options)
        self.requests += 1
        what = f"{method} {path} {response.status}"
        self.heard[what] = self.heard.get(what, "") + f"{response.headers}\n{response.body.decode(errors='replace')}"
        return response

    def chat(self, spec: str, **fields: Any) -> Any:
        body = {"message": f"{CALLERS['message']} #{spec}#", "system": CALLERS["system"], **fields}
        body.setdefault("metadata", {"note": CALLERS["metadata"]})
        key = f"{CALLERS['Idempotency-Key']}-{time.monotonic_ns()}"
        return self.ask("POST", "/api/chat", json=body, headers={"Idempotency-Key": key})


def told(secrets: Mapping[str, str], heard: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return which secrets appear in which output."""
    return [(name, where) for where, text in heard.items() for name, value in secrets.items() if value in text]


@pytest.fixture(scope="module", params=EACH, ids="-".join)
def leaky(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Leaky]:
    """A server of each kind after every kind of failure."""
    command, kind = request.param
    folder = tmp_path_factory.mktemp(command)
    with contextlib.ExitStack() as stack:
        database = None if kind == "sqlite" else stack.enter_context(throwaway(kind))
        url = database.create_database() if database else f"sqlite:///{(folder / 'x.sqlite3').as_posix()}"
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
        password = {"DATABASE_URL": url.partition("@")[0].rpartition(":")[2]} if database else {}
        running = Leaky(
            stack.enter_context(thrown_away(Server(command, folder, env))), rows.product(url), OPERATORS | password
        )
        throw_everything(running)
        if database:
            database.kill()
            throw_outage(running)
        yield running


FAULTS = (*BEFORE, *AMID, "fault=hang_first", "status=400,leak", "status=500,leak")


def throw_everything(leaky: Leaky) -> None:
    """Send every kind of failing request, with secrets in every possible place."""
    for spec in FAULTS:
        for _ in range(3):
            leaky.chat("", cache=False)  # a provider that fails at times leaves the breaker closed
        leaky.chat(f"{spec},echo", stream=len(spec) % 2 == 0)
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
        leaky.requests += 1
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
    """Send requests that servers refuse before the application."""
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
    """Send bytes and wait until the server disconnects."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as sock, contextlib.suppress(OSError):
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def throw_outage(leaky: Leaky) -> None:
    """Send requests during a database outage."""
    assert eventually(lambda: leaky.ask("GET", "/health/ready").status == 503)
    leaky.chat("")
    for path in ("/api/conversations?q=" + CALLERS["q"], "/health", "/metrics", "/api/admin/summary", "/api/exports"):
        leaky.ask("GET", path)
    # Background threads also log.
    assert eventually(lambda: "could not" in leaky.api.server.log(), 30)


def test_secrets_appear_in_no_output(leaky: Leaky, request: pytest.FixtureRequest) -> None:
    """Only a caller may get its own text back, and the provider's message about it."""
    log, all_of_them = leaky.api.server.log(), leaky.secrets | CALLERS
    keys = leaky.secrets | {name: CALLERS[name] for name in ("Authorization", "Cookie", "Idempotency-Key")}
    numbers = {name: text for name, text in leaky.heard.items() if re.search(r"/metrics|/api/admin|/health", name)}
    found = [*told(all_of_them, {"the log": log}), *told(keys, leaky.heard), *told(all_of_them, numbers)]
    found.remove(("X-Other", "GET /health 421"))  # it names the host that this client asked for
    values = {
        "secrets": len(all_of_them),
        "requests": leaky.requests,
        "kinds of answers": len(leaky.heard),
        "lines of log": len(log.splitlines()),
        "secrets found": len(found),
    }
    fault = f"canary secrets through every way to fail, {leaky.api.server.command}"
    request.node.user_properties.append((PROPERTY, figure((8,), fault, leaky.database, values)))
    assert found == [], log[-5000:]


def test_every_injected_failure_happened(leaky: Leaky, upstream: Upstream) -> None:
    """Silence proves nothing unless the failures happened."""
    asked = " ".join(one.message for one in upstream.requests if CALLERS["message"] in one.message)
    assert [spec for spec in FAULTS if f"#{spec},echo#" not in asked] == []
    log = leaky.api.server.log()
    assert "provider_refused" in log
    assert "Redis does not answer" in log
    statuses = {int(name.rpartition(" ")[2]) for name in leaky.heard}
    assert statuses >= {200, 400, 403, 404, 413, 421, 422, 502, 503, 504}
    assert leaky.requests > 200
    if leaky.database != "SQLite":
        assert "database_unavailable" in log
