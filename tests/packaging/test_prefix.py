"""A server under a path of a host, behind nginx: with the documented block, and with another site's block."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from tests.auth.keys import make_key
from tests.auth.signing_in import OWN, Jar
from tests.client import request, stream
from tests.ports import free_port
from tests.servers import COMMANDS, ROOT, Server, thrown_away
from tests.services.nginx import Nginx
from tests.services.oidc_provider import KEYS, SECRET, OidcProvider

pytestmark = pytest.mark.posix("nginx is not tested on Windows")
CONFIGURATION = """
{user}pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream chatkeep {{ server 127.0.0.1:{server}; }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        {block}
    }}
}}
"""


# Typical without our docs: another site has the front page.
OF_A_SITE = """
location /chat/ {
    proxy_pass http://chatkeep/;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Prefix /chat;
}
location / { return 404; }
"""


def block(page: str) -> str:
    found = re.search(r"(?ms)^```nginx\n(.+?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert found
    return found[1]


@pytest.fixture(scope="module", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, oidc_provider: OidcProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with sign-in that is set to the path under which nginx serves it."""
    env = {
        "CHATKEEP_PREFIX": "/chat",
        "WEB_CONCURRENCY": "1",
        "CHATKEEP_OIDC_ISSUER": oidc_provider.url,
        "CHATKEEP_OIDC_CLIENT_ID": "chatkeep ES256",
        "CHATKEEP_OIDC_ALGORITHM": "ES256",
        "CHATKEEP_OIDC_CLIENT_SECRET": SECRET,
        "CHATKEEP_OIDC_ACCOUNT": "people",
    }
    with thrown_away(Server(request.param, tmp_path_factory.mktemp("prefix"), env)) as running:
        yield running


@pytest.fixture(scope="module", params=["handbook", "site"])
def url(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """The URL at which nginx serves it."""
    folder, port = server.folder, free_port()
    locations = block("deployment.md") if request.param == "handbook" else OF_A_SITE
    values = {"folder": folder, "server": server.port, "port": port, "block": locations}
    text = CONFIGURATION.format(user="user root;\n" if os.geteuid() == 0 else "", **values)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    with Nginx(folder / "nginx.conf", port) as proxy:
        yield f"{proxy.url}/chat"


@pytest.fixture(scope="module")
def cookie(server: Server, url: str) -> str:
    """The cookie of a signed-in user."""
    key = make_key(f"sqlite:///{(server.folder / 'data' / 'chatkeep.sqlite3').as_posix()}").text
    answer = request("POST", f"{url}/api/sign-in", json={"key": key}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 200, answer.body
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def signed_in(cookie: str) -> dict[str, str]:
    return {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}


def test_both_languages_show_the_same_block() -> None:
    assert block("deployment.md") == block("生产环境部署配置文档.md")


@pytest.mark.parametrize("page", ["/", "/docs", "/admin", "/shared/some-token"])
def test_every_link_of_a_page_exists(url: str, page: str) -> None:
    answer = request("GET", url + page)
    named = re.findall(r'(?:src|href|data-document)="([^"#]+)"', answer.text)
    assert (answer.status, len(named) > 2) == (200, True)
    found = {place: request("GET", urljoin(url + page, place)).status for place in named}
    assert set(found.values()) == {200}, found


def test_the_path_without_a_slash_redirects_to_the_page(url: str) -> None:
    answer = request("GET", url)
    assert answer.status in {301, 308}
    assert urljoin(url, answer.headers["Location"]) == f"{url}/"


def test_the_api_s_document_names_the_prefix(url: str) -> None:
    assert request("GET", f"{url}/openapi.json").json["servers"] == [{"url": "/chat"}]


def test_urls_in_responses_have_the_prefix(url: str, cookie: str) -> None:
    made = request("POST", f"{url}/api/exports", json={"format": "json"}, headers=signed_in(cookie))
    assert made.status == 202, made.body
    job = request("GET", urljoin(url, made.headers["Location"]), headers=signed_in(cookie))
    assert job.json["id"] == made.json["id"]
    turn = request("POST", f"{url}/api/chat", json={"message": "Hello"}, headers=signed_in(cookie)).json
    share = f"{url}/api/conversations/{turn['conversation_id']}/share"
    path = request("POST", share, headers=signed_in(cookie)).json["path"]
    assert request("GET", urljoin(url, path)).status == 200


def test_another_spelling_is_redirected_under_the_prefix(url: str, cookie: str) -> None:
    answer = request("GET", f"{url}/api/conversations/", headers=signed_in(cookie))
    assert (answer.status, answer.json["object"]) == (200, "list")


def test_servers_under_two_prefixes_have_separate_cookies(cookie: str) -> None:
    assert cookie.startswith("chatkeep_key.chat=")


@pytest.mark.parametrize("page", ["", "admin"])
def test_sign_in_with_a_provider_returns_to_the_page(url: str, oidc_provider: OidcProvider, page: str) -> None:
    oidc_provider.use(list(KEYS))
    oidc_provider.sign_in_as("alice")
    browser = Jar()
    back = browser.away(browser.get(f"{url}/sign-in/oidc?to={page}").headers["Location"])
    assert back.startswith(f"{url}/sign-in/oidc/done?")
    assert urljoin(back, browser.get(back).headers["Location"]) == f"{url}/{page}"
    assert browser.get(f"{url}/api/sign-in", **OWN).json["account"] == "people"
    ours = {name: value for (name, _), value in browser.cookies.items() if name.startswith("chatkeep")}
    assert list(ours) == ["chatkeep_key.chat"]
    assert (
        request("POST", f"{url}/api/sign-out", headers=signed_in("; ".join(map("=".join, ours.items())))).json[
            "signed_out"
        ]
        is True
    )
    assert browser.get(f"{url}/api/sign-in", **OWN).status == 401


def test_a_stream_works_under_the_prefix(url: str, cookie: str) -> None:
    with stream(f"{url}/api/chat", {"message": "Hello", "stream": True}, headers=signed_in(cookie)) as events:
        assert [event.event for event in events][-1] == "done"
