"""A server with a public URL treats browsers as on HTTPS, whatever a proxy's headers say."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from chatkeep.config.settings import Settings
from tests.auth.keys import bearer, make_key
from tests.client import Response, request
from tests.servers import Server, thrown_away
from tests.services.oidc import CLIENT_ID, Provider

PUBLIC = "https://chat.example.com"
# As what ends TLS and passes on TCP hands a request over: with the browser's Host, and nothing of its own.
SENT = {"Host": "chat.example.com", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Provider() as provider:
        folder = tmp_path_factory.mktemp("public")
        env = {
            "CHATKEEP_PUBLIC_URL": PUBLIC,
            "CHATKEEP_PREFIX": "/chat",
            "CHATKEEP_OIDC_ISSUER": provider.url,
            "CHATKEEP_OIDC_CLIENT_ID": CLIENT_ID,
            "CHATKEEP_HOSTS": "another.example.com",
        }
        with thrown_away(Server("flask", folder, env)) as running:
            yield running


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return make_key(f"sqlite:///{(server.folder / 'data' / 'chatkeep.sqlite3').as_posix()}").text


@pytest.fixture(scope="module")
def signed_in(server: Server, key: str) -> Response:
    return request("POST", f"{server.url}/api/sign-in", json={"key": key}, headers=SENT)


def test_cookie_is_secure(signed_in: Response) -> None:
    cookie = signed_in.headers["Set-Cookie"]
    assert (signed_in.status, "; Secure" in cookie, cookie.startswith("__Host-")) == (200, True, True)
    assert signed_in.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_openid_redirect_uses_the_public_url(server: Server) -> None:
    there = request("GET", f"{server.url}/sign-in/oidc", headers=SENT).headers["Location"]
    assert parse_qs(urlsplit(there).query)["redirect_uri"] == [f"{PUBLIC}/chat/sign-in/oidc/done"]


@pytest.mark.parametrize("host", ["chat.example.com", "127.0.0.1"])
def test_share_link_uses_the_public_url(server: Server, key: str, host: str) -> None:
    headers = bearer(key) | {"Host": host}
    said = request("POST", f"{server.url}/api/chat", json={"message": f"Hello {host}"}, headers=headers).json
    share = f"{server.url}/api/conversations/{said['conversation_id']}/share"
    made = request("POST", share, headers=headers).json
    assert made["url"] == f"{PUBLIC}{made['path']}"


def test_host_of_the_public_url_is_accepted(server: Server, key: str) -> None:
    def status(host: str) -> int:
        return request("GET", f"{server.url}/api/conversations", headers=bearer(key) | {"Host": host}).status

    assert [status(host) for host in ("chat.example.com", "another.example.com", "evil.example.com")] == [200, 200, 421]


def test_server_with_a_public_url_is_not_private() -> None:
    """A TCP proxy does not say that a client is on another machine."""
    assert not Settings(public_url=PUBLIC).is_private
