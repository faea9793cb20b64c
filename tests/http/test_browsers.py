"""A server without keys refuses what foreign pages can make a browser send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client import Response, request
from tests.http.api import Api, asked, unique
from tests.servers import COMMANDS, ROOT, Server, thrown_away
from tests.upstream import Upstream

LISTED = "https://app.example.com"
# Headers that browsers add. Old browsers, and http to other machines, have no Sec-Fetch-Site.
FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    {"Origin": "https://evil.example.com"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "null"},
]


def test_foreign_page_cannot_take_a_turn(api: Api, upstream: Upstream) -> None:
    message = unique()
    for headers in FOREIGN:
        refused = api.post(message, headers=headers)
        assert (refused.status, refused.json["code"]) == (403, "foreign_origin"), headers
        assert refused.headers.get_content_type() == "application/problem+json"
    assert asked(upstream, message) == []


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_foreign_page_cannot_change_anything(api: Api, headers: dict[str, str]) -> None:
    answer = api.chat("Hello")
    conversation = f"/api/conversations/{answer['conversation_id']}"
    before = api.read(answer["conversation_id"])
    for method, path in [
        ("PATCH", conversation),
        ("DELETE", conversation),
        ("POST", f"{conversation}/stop"),
        ("POST", f"{conversation}/messages/{answer['message_id']}/regenerate"),
        ("POST", "/api/exports"),
        ("POST", "/api/conversations/import"),
    ]:
        assert api.request(method, path, json={}, headers=headers).json["code"] == "foreign_origin", path
    assert api.read(answer["conversation_id"]) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_form_bodies_are_refused(api: Api, kind: str) -> None:
    body = b'{"message": "Hello"}'
    assert api.request("POST", "/api/chat", body=body, headers={"Content-Type": kind}).status == 415
    from_afar = {"Content-Type": kind, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert api.request("POST", "/api/chat", body=body, headers=from_afar).status == 403


def test_foreign_page_cannot_load_the_api_but_may_link_to_it(api: Api) -> None:
    loads = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert api.request("GET", "/api/conversations?q=secret", headers=loads).status == 403
    for path in ("/", "/api/conversations"):
        follows = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert api.request("GET", path, headers=follows).status == 200


@pytest.mark.parametrize("start", ["/api", "//api", "///api", "/%61pi", "//%61pi", "/api/"])
def test_other_spellings_of_a_path_do_not_bypass_the_guard(api: Api, start: str) -> None:
    """The router accepts several spellings of a path."""
    loads = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for path in ("/conversations", "/conversations/", "/keys"):
        answer = api.request("GET", f"{start}{path}", headers=loads)
        assert answer.status in {403, 308}, answer.body  # 308 names the usual spelling


@pytest.mark.parametrize("site", ["same-origin", "none", None])
def test_own_page_and_programs_are_accepted(api: Api, site: str | None) -> None:
    headers = {"Sec-Fetch-Site": site} if site else {}
    assert api.post("Hello", headers={**headers, "Origin": api.server.url}).status == 200
    assert api.post("Hello", headers=headers).status == 200


def test_listed_origin_is_accepted(impatient: Api) -> None:
    for headers in ({"Origin": LISTED}, {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}):
        assert impatient.post("Hello", headers=headers).status == 200
    assert impatient.post("Hello", headers={"Sec-Fetch-Site": "cross-site"}).status == 403


# A name that resolves to this machine after its page is loaded (DNS rebinding)


NOT_OURS = [
    "evil.example.com", "evil.example.com:{port}", "127.0.0.1.evil.com", "0.0.0.0:{port}", "::1", "localhost.evil.com",
    "127.0.0.1@evil.com", "169.254.169.254", "10.0.0.1:{port}", "", "localhost, evil.example.com",
]  # fmt: skip


@pytest.mark.parametrize("host", NOT_OURS)
@pytest.mark.parametrize("path", ["/", "/api/conversations", "/health", "/metrics", "/api/nope"])
def test_loopback_server_rejects_foreign_hosts(api: Api, path: str, host: str) -> None:
    headers = {"Host": host.format(port=api.server.port), "Sec-Fetch-Site": "same-origin"}
    refused = api.request("GET", path, headers=headers)
    assert (refused.status, refused.json["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1", "127.1.2.3:{port}", "[::1]:{port}"])
def test_loopback_server_accepts_loopback_hosts(api: Api, host: str) -> None:
    assert api.request("GET", "/health", headers={"Host": host.format(port=api.server.port)}).status == 200


@pytest.fixture(scope="module", params=COMMANDS)
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind a local proxy that forwards the public Host."""
    env = {"CHATKEEP_HOSTS": "chat.example.com,[fd00::1],*.example.org", "WEB_CONCURRENCY": "1"}
    with thrown_away(Served(request.param, tmp_path_factory.mktemp("named"), env)) as running:
        yield running


class Served(Server):
    """A server whose Waitress is started by `chatkeep serve`, which trusts proxies on this machine."""

    def _arguments(self) -> list[str]:
        if self.command == "waitress":
            return ["-m", "chatkeep", "serve", "--server", "waitress"]
        return super()._arguments()


def ask(server: Server, method: str = "GET", **headers: str) -> Response:
    body: Any = {"message": "Hello"} if method == "POST" else None
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, f"{server.url}/api/{'chat' if body else 'conversations'}", json=body, headers=sent)


def test_only_listed_hosts_are_accepted(named: Server) -> None:
    for host in ("chat.example.com", "Chat.Example.com:8443", "[fd00::1]", "a.b.example.org", "localhost"):
        assert ask(named, Host=host).status == 200, host
    for host in (
        "example.com",
        "chat.example.com.evil.com",
        "achat.example.com",
        "example.org",
        "aexample.org",
        "10.0.0.1",
    ):
        assert ask(named, Host=host).status == 421, host


def test_origin_is_compared_with_the_host_that_a_proxy_forwards(named: Server) -> None:
    host = "chat.example.com:8080"
    assert ask(named, "POST", Host=host, Origin=f"http://{host}").status == 200
    assert ask(named, "POST", Host=host, Origin="http://chat.example.com").status == 403
    assert ask(named, "POST", Host=host, Origin="http://evil.example.com:8080").status == 403


@pytest.mark.parametrize(
    "header",
    [
        ("SCRIPT_NAME", "/chat"),
        ("SCRIPT_NAME", "/api"),
        ("PATH_INFO", "/metrics"),
        ("Script-Name", "/api"),
        ("X-Forwarded-Ssl", "on"),
        ("X-Forwarded-Protocol", "ssl"),
        ("X-Forwarded-Prefix", "/chat"),
        ("X-Script-Name", "/chat"),
        ("REMOTE_ADDR", "10.0.0.1"),
    ],
    ids="=".join,
)
def test_unconfigured_forwarded_headers_are_ignored(named: Server, header: tuple[str, str]) -> None:
    """Most proxies forward every header of their clients, and servers trust a local proxy."""
    sent = dict([header]) | {"X-Forwarded-For": "127.0.0.1"}
    plain, found = ask(named), request("GET", f"{named.url}/api/conversations", headers=sent)
    assert (found.status, found.json) == (200, plain.json)
    assert found.headers["Strict-Transport-Security"] is None
    assert request("GET", f"{named.url}/openapi.json", headers=sent).json["servers"] == [{"url": "/"}]


def test_https_answers_have_hsts(named: Server) -> None:
    header = ask(named, X_Forwarded_Proto="https").headers["Strict-Transport-Security"]
    # Flask's own server is for development and does not support proxies.
    assert (header == "max-age=31536000") == (named.command != "flask")
    assert ask(named).headers["Strict-Transport-Security"] is None


@pytest.mark.posix("Windows has no such sockets in Python")
@pytest.mark.parametrize(("hosts", "status"), [("", 200), ("chat.example.com", 421)])
def test_unix_socket_accepts_any_host_unless_hosts_are_listed(
    hosts: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs in this process, because only HOST matters, not the server."""
    from chatkeep.config.settings import Settings  # noqa: PLC0415
    from chatkeep.server.app import create_app  # noqa: PLC0415 - servers of their own process do without
    from chatkeep.web.services import services_of  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({"HOST": "unix:chatkeep.sock", "CHATKEEP_HOSTS": hosts}, ROOT / "nowhere")
    app = create_app(settings)
    answer = app.test_client().get("/health", headers={"Host": "10.0.0.1"})
    services_of(app).close()
    assert answer.status_code == status
