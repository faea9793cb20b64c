"""A server behind each documented proxy: late answers, silent streams, many streams.

What the long form waits for is longer than proxies wait by themselves: `CHATKEEP_PROXIES=long`, some minutes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, takewhile
from pathlib import Path
from urllib.parse import urljoin

import pytest

if os.name == "nt":
    pytest.skip("proxies are not started on Windows", allow_module_level=True)

from tests import client
from tests.faults.crowd import Crowd
from tests.servers import Server, thrown_away
from tests.services import debian
from tests.services.proxies import BELOW_A_PATH, PEM, PROXIES, WITH_HTTP_2, Running
from tests.upstream import Upstream, reply_to

IS_LONG = os.environ.get("CHATKEEP_PROXIES") == "long"
LATE_S, SILENT_S = (85, 95) if IS_LONG else (2, 6)
STREAMS = 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server with longer deadlines than any test needs."""
    env = {"OPENAI_BASE_URL": upstream.url, "WEB_CONCURRENCY": "1", "CHATKEEP_GAP_TIMEOUT": "5m"}
    env["CHATKEEP_FIRST_TOKEN_TIMEOUT"] = "5m"
    with thrown_away(Server("gunicorn", tmp_path_factory.mktemp("proxied"), env)) as running:
        yield running


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server under a path prefix."""
    env = {"OPENAI_BASE_URL": upstream.url, "WEB_CONCURRENCY": "1", "CHATKEEP_PREFIX": "/chat"}
    with thrown_away(Server("gunicorn", tmp_path_factory.mktemp("prefixed"), env)) as running:
        yield running


@pytest.fixture(scope="module")
def proxies(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """Every documented proxy in front of one server. Tests use all of them at once."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(PROXIES[name](tmp_path_factory.mktemp(name), server.port))
            for name in ("nginx", "caddy", "haproxy", "apache")
        }


def test_page_is_served_through_every_proxy(proxies: dict[str, Running]) -> None:
    for name, proxy in proxies.items():
        page = client.request("GET", f"{proxy.url}/")
        assert (page.status, "<title>" in page.text) == (200, True), name


def take_late(proxy: Running) -> bool:
    """Return whether an answer arrives that is silent until it is complete."""
    late = f"late #n=2,r={1 / LATE_S:.4f}#"
    answer = client.request("POST", f"{proxy.url}/api/chat", json={"message": late, "stream": False}, timeout=250)
    return answer.status == 200 and answer.json["reply"] == reply_to(late)


def take_silent(proxy: Running) -> bool:
    """Return whether comments keep a silent stream open, and its pieces arrive when they are sent."""
    silent = f"silent #n=2,r={1 / SILENT_S:.4f}#"
    with client.stream(f"{proxy.url}/api/chat", {"message": silent, "stream": True}, timeout=60) as stream:
        events = [(event.event, event.at) for event in stream]
    first, second = (at for name, at in events if name == "delta")
    return events[-1][0] == "done" and bool(stream.comments) and second - first > SILENT_S / 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("take", [take_late, take_silent])
def test_silent_answers_and_streams_pass_every_proxy(
    proxies: dict[str, Running], take: Callable[[Running], bool]
) -> None:
    """Waits for a provider: two seconds, and six, with a comment after five."""
    with ThreadPoolExecutor(len(proxies)) as pool:
        found = dict(zip(proxies, pool.map(take, proxies.values()), strict=True))
    assert found == dict.fromkeys(proxies, True)


def test_many_streams_are_complete(proxies: dict[str, Running]) -> None:
    """Streams for three seconds."""
    with ExitStack() as stack:
        crowds = {name: stack.enter_context(Crowd(proxy.port, stays=True)) for name, proxy in proxies.items()}
        for name, crowd in crowds.items():
            for number in range(STREAMS):
                crowd.ask(f"{name} {number} #n=30,r=10,seed={number}#")
        for name, crowd in crowds.items():
            assert crowd.wait_for_end(100), f"a stream through {name} has no end"
            for listener in crowd.listeners:
                assert listener.parsed()[0].text == reply_to(listener.message), name


@pytest.fixture(scope="module")
def secure(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """Every documented proxy with a certificate, in front of one server."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(make(tmp_path_factory.mktemp(f"secure-{name}"), server.port))
            for name, make in WITH_HTTP_2.items()
        }


def curl(*options: str) -> subprocess.Popen[bytes]:
    """Start curl, which uses HTTP/2 if the server offers it. Use it as a context manager."""
    command = [debian.program("curl", "curl"), "--silent", "--show-error", *options]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def trusting(url: str) -> list[str]:
    """Return curl's options for a request."""
    return ["--noproxy", "*", "--cacert", str(PEM), url]


def streamed(message: str, proxy: Running) -> list[str]:
    """Return curl's options for a turn that is streamed."""
    body = json.dumps({"message": message, "stream": True})
    return ["--header", "Content-Type: application/json", "--data", body, *trusting(f"{proxy.url}/api/chat")]


def test_pages_use_http_2_and_hsts(secure: dict[str, Running]) -> None:
    for name, proxy in secure.items():
        with curl("--include", *trusting(f"{proxy.url}/")) as process:
            assert process.stdout
            head, _, page = process.stdout.read().partition(b"\r\n\r\n")
        assert (head.split()[:2], b"<title>" in page) == ([b"HTTP/2", b"200"], True), name
        assert b"\r\nstrict-transport-security: " in head, name


def test_http_2_streams_are_not_buffered(secure: dict[str, Running]) -> None:
    """Reads only the beginning of a stream of a minute."""
    for name, proxy in secure.items():
        with curl("--no-buffer", "--include", *streamed(f"{name} #n=600,r=10#", proxy)) as process:
            assert process.stdout
            lines = list(takewhile(lambda line: b"event: delta" not in line, process.stdout))
            process.terminate()
            rest = process.stdout.read()
        assert lines[0].startswith(b"HTTP/2 200"), name
        assert b"data: " in rest, name
        assert b"event: done" not in rest, name


@pytest.mark.timeout(300)
def test_many_streams_share_an_http_2_connection(secure: dict[str, Running], tmp_path: Path) -> None:
    """Streams for three seconds."""

    def take(name: str) -> tuple[set[str], int, list[str]]:
        """Return the versions of HTTP, the number of connections, and the messages without a complete reply."""
        files = {f"{name} {n} #n=30,r=10,seed={n}#": tmp_path / f"{name} {n}" for n in range(STREAMS)}
        told = ["--write-out", "%{http_version} %{num_connects}\\n", "--output"]
        each = [["--next", *told, str(file), *streamed(message, secure[name])] for message, file in files.items()]
        with curl("--parallel", "--parallel-max", str(STREAMS), *list(chain(*each))[1:]) as process:
            lines = process.communicate()[0].decode().split("\n")[:-1]
        versions, connects = zip(*(line.split() for line in lines), strict=True)
        missing = [message for message, file in files.items() if text_of(file) != reply_to(message)]
        return set(versions), sum(map(int, connects)), missing

    with ThreadPoolExecutor(len(secure)) as pool:
        found = dict(zip(secure, pool.map(take, secure), strict=True))
    assert found == dict.fromkeys(secure, ({"2"}, 1, []))


def text_of(file: Path) -> str:
    """Return the text of a stream that curl wrote."""
    deltas = re.findall(rb"event: delta\n(?:id: .*\n)?data: (.*)\n", file.read_bytes())
    return "".join(json.loads(data)["text"] for data in deltas)


@pytest.mark.parametrize("name", BELOW_A_PATH)
def test_server_under_a_path_prefix_serves_all_files_of_its_pages(name: str, prefixed: Server, tmp_path: Path) -> None:
    """tests/packaging/test_prefix.py tests nginx's configuration for it."""
    with BELOW_A_PATH[name](tmp_path, prefixed.port) as proxy:
        bare = client.request("GET", f"{proxy.url}/chat")
        assert (bare.status, urljoin(proxy.url, bare.headers["Location"])) == (308, f"{proxy.url}/chat/")
        page = client.request("GET", f"{proxy.url}/chat/?lang=en")
        named = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
        assert (page.status, len(named) > 2) == (200, True)
        for place in named:
            assert client.request("GET", urljoin(f"{proxy.url}/chat/", place)).status == 200, place
        message = f"{name} #n=3#"
        with client.stream(f"{proxy.url}/chat/api/chat", {"message": message, "stream": True}) as stream:
            assert [event.event for event in stream][-1] == "done"
        assert stream.text == reply_to(message)
