"""No byte of a refused request's body is parsed as a request, directly or behind a proxy."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.auth.keys import Identity, bearer, make_key
from tests.conftest import empty_database
from tests.faults.conftest import ON_SQLITE, Record
from tests.faults.scale import Scale
from tests.http.api import eventually
from tests.servers import Server, thrown_away
from tests.services.proxies import PROXIES
from tests.upstream import Upstream

pytestmark = [pytest.mark.promise(5), ON_SQLITE, pytest.mark.posix("proxies and gunicorn are not started on Windows")]
JSON, WRONG = "Content-Type: application/json\r\n", "Authorization: Bearer ck_wrong_wrong\r\n"
REFUSED = {
    "without a key": (f"POST /api/chat HTTP/1.1\r\n{JSON}", 401),
    "with a wrong key": (f"POST /api/chat HTTP/1.1\r\n{JSON}{WRONG}", 401),
    "of a foreign page": (f"POST /api/chat HTTP/1.1\r\n{JSON}Origin: http://other.invalid\r\n", 403),
    "to nowhere": ("POST /nowhere HTTP/1.1\r\n", 404),
    "by a wrong method": ("PUT /api/chat HTTP/1.1\r\n", 405),
    "that reads": ("GET /api/conversations HTTP/1.1\r\n", 401),
    "that reads a page": ("GET /health/live HTTP/1.1\r\n", 200),
    "that deletes": (f"DELETE /api/conversations/00000000-0000-7000-8000-000000000000 HTTP/1.1\r\n{WRONG}", 401),
    "that asks what it may": ("OPTIONS /api/chat HTTP/1.1\r\n", 200),
    "too large": ("POST /api/chat HTTP/1.1\r\n" + JSON + "{key}", 413),
    "of another type": ("POST /api/chat HTTP/1.1\r\nContent-Type: text/plain\r\n{key}", 415),
}
Delivery = Callable[[Callable[[bytes], None], Callable[[], None], bytes, bytes], None]
LIMIT = 1024
HIDDEN = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True, slots=True)
class Framing:
    """The framing of a body, and the bytes of one that contains requests."""

    head: str
    body: bytes

    @classmethod
    def declared(cls) -> Framing:
        body = HIDDEN.encode() * (2 * LIMIT // len(HIDDEN))
        return cls(f"Content-Length: {len(body)}\r\n", body)

    @classmethod
    def chunked(cls) -> Framing:
        chunk = b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN.encode())
        return cls("Transfer-Encoding: chunked\r\n", chunk * (2 * LIMIT // len(HIDDEN)) + b"0\r\n\r\n")


FRAMINGS = (Framing.declared(), Framing.chunked())


@dataclass(frozen=True, slots=True)
class Closed:
    """A server that requires a key, and headers with one."""

    server: Server
    headers: dict[str, str]

    @property
    def port(self) -> int:
        return self.server.port


@pytest.fixture(scope="module")
def closed(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Closed]:
    """A server of the test's command, with a small body limit."""
    url = empty_database(request, "sqlite", tmp_path_factory)
    env = {"DATABASE_URL": url, "OPENAI_BASE_URL": upstream.url, "CHATKEEP_MAX_BODY": str(LIMIT)}
    folder = tmp_path_factory.mktemp(request.param)
    with thrown_away(Server(request.param, folder, {**env, "WEB_CONCURRENCY": "1"})) as server:
        made = make_key(url)
        assert eventually(lambda: Identity(server).statuses("/api/conversations") == {401})
        yield Closed(server, bearer(made.text))


ON_EACH = pytest.mark.parametrize("closed", ["gunicorn", "waitress", "flask"], indirect=True)


@ON_EACH
def test_refused_body_is_never_parsed_as_a_request(closed: Closed, scale: Scale, figures: Record) -> None:
    """Cases with a body after the answer take a second, for which the server waits."""
    server, command = closed.server, closed.server.command
    dice, key = scale.random("refused", command), f"Authorization: {closed.headers['Authorization']}\r\n"
    each = scale.of(4, 1200 if command == "gunicorn" else 100)
    deliveries = DELAYS if command == "gunicorn" else DELAYS[:3]  # the others read the whole body first
    cases = [case for case in itertools.product(REFUSED, FRAMINGS, deliveries) if case != NEVER_REFUSED] * each
    dice.shuffle(cases)

    def wrong(case: tuple[str, Framing, Delivery]) -> str:
        kind, framing, deliver = case
        said = attack(server.port, *REFUSED[kind], framing, deliver, key)
        return said and f"{kind}, {deliver.__name__}: {said}"

    with ThreadPoolExecutor(scale.of(32, 128)) as pool:
        found = Counter(filter(None, pool.map(wrong, cases)))
    figures(f"refused bodies at {command}", requests=len(cases), **{"taken for requests": sum(found.values())})
    assert not found


def _at_once(send: Callable[[bytes], None], _answered: Callable[[], None], head: bytes, body: bytes) -> None:
    send(head + body)


def _after_the_head(send: Callable[[bytes], None], _answered: Callable[[], None], head: bytes, body: bytes) -> None:
    send(head)
    send(body)


def _in_halves(send: Callable[[bytes], None], _answered: Callable[[], None], head: bytes, body: bytes) -> None:
    send(head + body[: len(HIDDEN)])
    time.sleep(random.random() / 50)  # noqa: S311 - only to meet every moment
    send(body[len(HIDDEN) :])


def _after_the_answer(send: Callable[[bytes], None], answered: Callable[[], None], head: bytes, body: bytes) -> None:
    send(head)
    answered()
    send(body)


DELAYS = (_at_once, _after_the_head, _in_halves, _after_the_answer)
# The size of a chunked body is known only when it arrives.
NEVER_REFUSED = ("too large", FRAMINGS[1], _after_the_answer)


def attack(port: int, head: str, status: int, framing: Framing, deliver: Delivery, key: str) -> str:
    """Send a refused request whose body contains requests, then a last request. Return the error, or ""."""
    sent = f"{head.replace('{key}', key)}Host: localhost\r\n{framing.head}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        raw = bytearray()

        def answered() -> None:
            while b"\r\n\r\n" not in raw:
                piece = sock.recv(65536)
                raw.extend(piece)
                assert piece, "closed without an answer"

        try:
            deliver(sock.sendall, answered, sent, framing.body)
            sock.sendall(LAST)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server closed the connection after its answer
        try:
            while piece := sock.recv(65536):
                raw.extend(piece)
        except ConnectionResetError:
            pass
    statuses = [int(found) for found in STATUS_LINE.findall(raw)]
    first = raw.partition(b"\r\n\r\n")[0].lower()
    closes = b"connection: close" in first
    allowed = [[status]] if closes else [[status], [status, 200]]
    return "" if statuses in allowed else f"{statuses}, closes: {closes}"


@pytest.mark.parametrize("closed", ["gunicorn"], indirect=True)
@pytest.mark.parametrize("name", PROXIES)
def test_refused_bodies_behind_a_proxy_do_not_mix_up_answers(
    name: str, closed: Closed, scale: Scale, figures: Record, tmp_path: Path
) -> None:
    """Two seconds of refused requests and of reads; ten thousand of each in the long form."""
    count = scale.of(300, 10_000)
    with PROXIES[name](tmp_path, closed.port) as proxy:
        owner = Identity(closed.server, closed.headers)
        own = [owner.chat(f"mine {number}")["conversation_id"] for number in range(4)]
        done = threading.Event()
        with ThreadPoolExecutor(8) as pool:
            strangers = [pool.submit(stranger, proxy.port, count // 3, done) for _ in range(3)]
            neighbours = [pool.submit(neighbour, proxy.port, each, owner.headers, count // 4) for each in own]
            found = sum((each.result() for each in neighbours), Counter[str]())
            done.set()
            refused = sum((each.result() for each in strangers), Counter[str]())
    figures(
        f"strangers' bodies behind {name}",
        **{"of strangers": sum(refused.values()), "of others": sum(found.values())},
        **{"foreign answers": found["foreign"], "broken": sum(found.values()) - found["own"] - found["foreign"]},
    )
    assert found == {"own": count // 4 * 4}
    assert refused.keys() <= {"401", "closed"}
    assert refused["401"] > 0


def stranger(port: int, count: int, done: threading.Event) -> Counter[str]:
    """Send requests with a wrong key and requests in their bodies, whole or in halves, until told to stop."""
    found: Counter[str] = Counter()
    dice = random.Random(port)  # noqa: S311 - it must repeat itself
    while not done.is_set() or sum(found.values()) < count:
        framing, deliver = dice.choice(FRAMINGS), dice.choice(DELAYS[:3])
        head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n{JSON}{WRONG}{framing.head}\r\n".encode()
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            try:
                deliver(sock.sendall, lambda: None, head, framing.body)
                found[next(iter(STATUS_LINE.findall(sock.recv(65536))), b"closed").decode()] += 1
            except (BrokenPipeError, ConnectionResetError):
                found["closed"] += 1
    return found


def neighbour(port: int, conversation: str, headers: Mapping[str, str], count: int) -> Counter[str]:
    """Read an own conversation repeatedly, and count own, foreign and other answers."""
    found: Counter[str] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(count):
        try:
            connection.request("GET", f"/api/conversations/{conversation}", headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            found[type(error).__name__] += 1
            connection.close()
            continue
        if response.status >= 500:
            found[str(response.status)] += 1
        else:
            found["own" if conversation.encode() in body else "foreign"] += 1
    connection.close()
    return found


def bodies() -> Iterator[bytes]:
    """Sends bodies over the limit, smaller and larger than the buffers of sockets."""
    for size in itertools.cycle((LIMIT + 1, 64 * 1024, 1024 * 1024 + 1, 4 * 1024 * 1024, 20 * 1024 * 1024)):
        yield json.dumps({"message": "x" * size}).encode()


@ON_EACH
def test_client_that_sends_its_whole_body_can_read_the_413(closed: Closed, scale: Scale, figures: Record) -> None:
    count = scale.of(10, 100)
    found: Counter[str] = Counter()
    for body in itertools.islice(bodies(), count):
        connection = http.client.HTTPConnection("127.0.0.1", closed.port, timeout=20)
        try:
            connection.request("POST", "/api/chat", body, {"Content-Type": "application/json", **closed.headers})
            found[json.loads(connection.getresponse().read())["code"]] += 1
        except (OSError, http.client.HTTPException) as error:
            found[type(error).__name__] += 1
        connection.close()
    told = {"bodies over the limit": count, "read their 413": found["body_too_large"]}
    figures(f"413 at {closed.server.command}", **told)
    assert found == {"body_too_large": count}
