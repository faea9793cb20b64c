"""Send long repeated texts to every route, in both languages: `./dev fuzz`.

No request may hold up the event loop, and none may be answered with a status from 500 on. A probe asks for
`/health/live` all the time. It counts what the loop's thread computed until the answer came, so that other programs
on the machine change nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tests.auth.keys import make_key
from tests.client import request
from tests.servers import Server, thrown_away
from tests.services.databases import SERVERS
from tests.upstream import Upstream

STALL = 0.2
"""The most seconds of CPU time before the loop answers the probe."""
PATIENCE = 60
SHORT_REPLY = " #n=3#"
"""Makes the scripted provider reply briefly; it would echo the whole message."""
UNITS = (
    " ", "\n", "\t", "\0", "\u3000", "\u200b", "a", "A", "0", "1", "9", "-1", ".", "..", ",", ";", ":", ": ", "=", "&",
    "&#", "&#9", "%", "%2", "/", "//", "\\", '"', "'", "`", "~", "*", "_", "#", "> ", "| ", "- ", "[", "]", "{", "}",
    "(", "![](", "<", '<details type="reasoning">', "<summary>", "</details>", "e\u0301", "\u0301", "é", "字", "\uff11",
    "🙂", "👨‍👩‍👧", "\u202e", "\ufffd", "x=1; ", "a: ", "a@", "a.", "1.", "138 ", "sk-", "ck_", "Bearer ", "en;q=0.1,",
    "zh,", "0-1,", '"x", ', "W/", "gzip,", "2026-", ":1", "::", "Expected `", " - at `$", "there is no ",
    " added,  there already, ", "is unknown", "chatkeep_conversation=", "__Host-", "\\ud83d", "\\u0000",
)  # fmt: skip
HEADERS = (
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cookie", "Content-Type", "Forwarded", "Host",
    "Idempotency-Key", "If-Match", "If-None-Match", "If-Range", "Last-Event-ID", "Origin", "Range", "Referer",
    "Sec-Fetch-Site", "X-End-User", "X-End-User-Token", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id",
)  # fmt: skip
LENGTHS = {"header": (100, 1_000, 7_000), "query": (100, 1_000, 2_500), "path": (100, 1_000, 2_500)}
BODY_LENGTHS = (100, 3_000, 30_000, 300_000, 900_000)
MISSING_ID = "01a202c6-688b-7050-9b35-34b6a3bc47ef"
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "CHATKEEP_REDACT_INPUT": "mask",
    "CHATKEEP_REDACT_OUTPUT": "mask",
    "OPENAI_API_KEY": "test-key",
}


@dataclass(frozen=True)
class Case:
    """A request, and a short description of its oddity."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    oddity: str


@dataclass
class Findings:
    """The findings so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def are_good(self) -> bool:
        return not self.failures and not self.stalls and bool(self.statuses)

    def __str__(self) -> str:
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        lines = [f"{self.statuses.total()} requests ({counts})", *self.failures, *self.stalls]
        return "\n".join([*lines, f"longest turn of the loop: {self.slowest[0] * 1000:.0f} ms, {self.slowest[1]}"])


class Cases:
    """Generates requests with one odd place each, reproducibly by a seed."""

    def __init__(self, document: dict[str, Any], key: str, seed: int) -> None:
        self.conversation = self.message = MISSING_ID
        self._key = key
        self._dice = random.Random(seed)  # noqa: S311 - reproducible
        self._count = 0
        self._operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if isinstance(operation, dict) and "responses" in operation
        ]

    def __iter__(self) -> Iterator[Case]:
        """Yield cases for every route in turn, without end."""
        while True:
            self._dice.shuffle(self._operations)
            for method, path, operation in self._operations:
                self._count += 1
                yield self._case(method, path, operation)

    def _case(self, method: str, path: str, operation: dict[str, Any]) -> Case:
        places = [("header", name) for name in self._dice.sample(HEADERS, 3)]
        places += [("query", self._text(100)[0])]
        places += [(one["in"], one["name"]) for one in operation.get("parameters", []) if one["in"] != "header"]
        body = _example(operation)
        if body is not None:
            places += [("field", name) for name in body] * 2 + [("name", ""), ("body", "")]
            places += [("chat", ""), ("tree", "")] * 4 if path.endswith("/import") else []
        kind, name = self._dice.choice(places)
        length = self._dice.choice(LENGTHS.get(kind, BODY_LENGTHS))
        text, told = self._text(length)
        return Case(
            method,
            self._path(path, kind, name, text),
            self._headers(kind, name, text),
            None if body is None else _encoded(body, kind, name, text),
            f"{method} {path}: {kind} {name!r} of {told}",
        )

    def _text(self, length: int) -> tuple[str, str]:
        first, second = self._dice.choice(UNITS), self._dice.choice(UNITS)
        unit = first if self._dice.random() < 0.8 else first + second
        end = self._dice.choice(("", "", "x", "\0", "!"))
        return unit * (length // len(unit)) + end, f"{length // len(unit)} times {unit!r} and {end!r}"

    def _path(self, path: str, kind: str, name: str, text: str) -> str:
        values = {"conversation_id": self.conversation, "message_id": self.message}
        for part in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
            value = text if (kind, part) == ("path", name) else values.get(part, MISSING_ID)
            path = path.replace(f"{{{part}}}", quote(value, safe=""))
        return f"{path}?{quote(name)}={quote(text)}" if kind == "query" else path

    def usual_headers(self) -> dict[str, str]:
        """Return normal headers."""
        return {
            "Accept-Language": self._dice.choice(("en", "zh")),
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "X-End-User": f"fuzz-{self._count // 200}",  # so that lists and exports stay small
        }

    def _headers(self, kind: str, name: str, text: str) -> dict[str, str]:
        headers = self.usual_headers()
        if kind == "header":
            headers[name] = text.translate({0: None, 10: None, 13: None}).encode().decode("latin-1")
        return headers


def _example(operation: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first example of an operation's body, or None."""
    content = operation.get("requestBody", {}).get("content", {})
    for kind in content.values():
        for example in kind.get("examples", {}).values():
            return dict(example["value"])
    return {} if content else None


def _encoded(body: dict[str, Any], kind: str, name: str, text: str) -> bytes:
    """Return a body with an odd text in one place."""
    if kind == "body":
        return text.encode()
    if kind == "chat":
        said = {"role": "assistant", "content": text, "timestamp": 1_700_000_000}
        return json.dumps([{"id": "a", "chat": {"history": {"messages": {"m": said}}}}]).encode()
    if kind == "tree":
        said = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": [text[:8]]}}
        nodes = {str(at): {"parent": str(at - 1) if at else None, "message": said} for at in range(len(text) // 150)}
        return json.dumps([{"id": text[:8], "mapping": nodes}]).encode()
    if name == "message":
        text += SHORT_REPLY
    odd = body | {text if kind == "name" else name: text} if kind in {"field", "name"} else body
    # Escapes in a text are JSON's.
    return json.dumps(odd, ensure_ascii=False).replace("\\\\u", "\\u").encode()


class Probe:
    """Requests `/health/live` all the time, and measures how long the loop computed before it answered."""

    def __init__(self, server: Server, findings: Findings) -> None:
        self.now = "nothing"
        """The case that is running."""
        self._server = server
        self._findings = findings
        (self._worker,) = server.worker_pids()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.005):
            before, begun = self.now, self._computed()
            request("GET", f"{self._server.url}/health/live", timeout=PATIENCE)
            self._note(self._computed() - begun, before)

    def _computed(self) -> float:
        """Return the CPU seconds of the worker's first thread, which runs the loop."""
        text = Path(f"/proc/{self._worker}/task/{self._worker}/schedstat").read_text(encoding="ascii")
        return int(text.split()[0]) / 1e9

    def _note(self, seconds: float, before: str) -> None:
        told = before if before == self.now else f"{before}, or {self.now}"
        self._findings.slowest = max(self._findings.slowest, (seconds, told))
        if seconds > STALL:
            self._findings.stalls.append(f"the loop stood still for {seconds * 1000:.0f} ms: {told}")


class Fuzzer:
    """Sends cases to a server, one by one."""

    def __init__(self, server: Server, key: str, seed: int) -> None:
        self.findings = Findings()
        self._server = server
        _, document = self._ask(Case("GET", "/openapi.json", {}, None, ""))
        self._cases = Cases(json.loads(document), key, seed)

    def run(self, seconds: float) -> Findings:
        """Send cases for some seconds. Return the findings."""
        deadline = time.monotonic() + seconds
        with Probe(self._server, self.findings) as probe:
            for number, case in enumerate(self._cases):
                if time.monotonic() > deadline:
                    break
                if number % 50 == 0:
                    self._take_turn()
                probe.now = case.oddity
                self._try(case)
        return self.findings

    def _take_turn(self) -> None:
        """Create a conversation for the next cases."""
        headers = self._cases.usual_headers()
        _, answer = self._ask(Case("POST", "/api/chat", headers, b'{"message":"Hello"}', ""))
        told = json.loads(answer)
        self._cases.conversation, self._cases.message = told["conversation_id"], told["message_id"]

    def _try(self, case: Case) -> None:
        try:
            status, _ = self._ask(case)
        except (OSError, http.client.HTTPException) as error:
            self.findings.statuses[0] += 1
            if isinstance(error, TimeoutError):
                self.findings.failures.append(f"no answer: {case.oddity}")
            return
        self.findings.statuses[status] += 1
        if status >= 500:
            self.findings.failures.append(f"{status}: {case.oddity}")

    def _ask(self, case: Case) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        with closing(connection):
            # The server may refuse a request before it has arrived completely.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(case.method, case.path, case.body, case.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


def fuzzed(url: str, folder: Path, provider: str, *, seconds: float, seed: int) -> Findings:
    """Run gunicorn on a database, send requests, and return the findings."""
    key = make_key(url).text
    env = SETTINGS | {"DATABASE_URL": url, "OPENAI_BASE_URL": provider}
    with thrown_away(Server("gunicorn", folder, env)) as server:
        return Fuzzer(server, key, seed).run(seconds)


def main(*arguments: str) -> int:
    """Fuzz a server, print the findings, and return the exit status."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--database", choices=("sqlite", *SERVERS), default="sqlite")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    chosen = parser.parse_args(arguments)
    sys.stdout.write(f"seed {chosen.seed}, {chosen.database}\n")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder / 'chatkeep.sqlite3'}"
        if chosen.database in SERVERS:
            SERVERS[chosen.database].ensure_installed()
            url = stack.enter_context(SERVERS[chosen.database]()).create_database()
        provider = stack.enter_context(Upstream()).url
        findings = fuzzed(url, folder, provider, seconds=chosen.seconds, seed=chosen.seed)
    sys.stdout.write(f"{findings}\n")
    return 0 if findings.are_good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
