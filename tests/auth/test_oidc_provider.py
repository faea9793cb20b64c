"""Sign-in with a certified OpenID provider, npm's oidc-provider; it starts once for all tests: a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from chatkeep.auth.access import owner_of
from chatkeep.auth.issuer import CACHED_S, REREAD_S
from chatkeep.auth.keys import revoke_key
from chatkeep.errors import SignInFailed
from tests.auth.keys import Identity, bearer, journal_of, make_key
from tests.auth.signing_in import COOKIE, LIST, OWN, Browser, Client, clients
from tests.http.api import eventually
from tests.servers import Server, thrown_away
from tests.services.oidc_provider import KEYS, SECRET, OidcProvider
from tests.upstream import Upstream

ID = "01a202d1-2a30-79d4-9bd7-fd298a4c908a"
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


@pytest.fixture(scope="module", params=["waitress", "gunicorn", "flask"])
def server(
    request: pytest.FixtureRequest,
    oidc_provider: OidcProvider,
    upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server on loopback that has a provider, and no key."""
    folder = tmp_path_factory.mktemp("oidc")
    env = {
        "DATABASE_URL": f"sqlite:///{(folder / 'chatkeep.sqlite3').as_posix()}",
        "OPENAI_BASE_URL": upstream.url,
        "CHATKEEP_OIDC_ISSUER": oidc_provider.url,
        "CHATKEEP_OIDC_CLIENT_ID": "chatkeep ES256",
        "CHATKEEP_OIDC_ALGORITHM": "ES256",
        "CHATKEEP_OIDC_CLIENT_SECRET": SECRET,
        "CHATKEEP_OIDC_ACCOUNT": "people",
        "CHATKEEP_OIDC_SCOPES": "chat,read",
    }
    with thrown_away(Server(request.param, folder, env)) as server:
        yield server


@pytest.fixture(autouse=True)
def provider(oidc_provider: OidcProvider) -> OidcProvider:
    """The provider, which signs in alice with the keys that it has."""
    oidc_provider.sign_in_as("alice")
    oidc_provider.use(list(KEYS))
    return oidc_provider


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server)


def test_sign_in_creates_a_session_of_an_end_user(server: Server, provider: OidcProvider, browser: Browser) -> None:
    assert browser.status() == 401  # on loopback, and without any key
    assert browser.sign_in(f"#{ID}") == f"/#{ID}"
    assert browser.named(COOKIE) == []
    who = browser.get(f"{server.url}/api/sign-in", **OWN).json
    owner = owner_of("people", "alice")
    assert who == {
        "object": "caller", "account": "people", "scopes": ["chat", "read"], "end_user": True, "owner": owner,
        "name": urlsplit(provider.url).netloc,
    }  # fmt: skip
    app = Identity(server, bearer(make_key(server.env["DATABASE_URL"], "people").text))
    said = app.named("alice").chat("of alice")["conversation_id"]
    assert browser.get(f"{server.url}{LIST}/{said}", **OWN).status == 200
    longest = "b" * 255
    provider.sign_in_as(longest)
    other = Browser(server)
    assert other.sign_in() == "/"
    assert other.get(f"{server.url}{LIST}/{said}", **OWN).status == 404
    theirs = app.named(longest).chat("of the other")["conversation_id"]
    assert other.get(f"{server.url}{LIST}/{theirs}", **OWN).status == 200


def test_cookies_are_http_only_and_same_site(server: Server, provider: OidcProvider, browser: Browser) -> None:
    away = browser.get(f"{server.url}/sign-in/oidc")
    cookie = str(away.headers["Set-Cookie"])
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"}
    asked = parse_qs(urlsplit(away.headers["Location"]).query)
    assert asked["scope"] == ["openid"]
    assert min(len(asked[name][0]) for name in ("state", "nonce", "code_challenge")) >= 43
    done = browser.get(browser.away(away.headers["Location"]))
    key = next(one for one in done.headers.get_all("Set-Cookie", []) if one.startswith("chatkeep_key="))
    assert {part.strip() for part in key.split(";")[1:]} >= {"HttpOnly", "SameSite=Strict", "Max-Age=43200"}
    assert provider.url not in done.text
    assert done.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("first", [0, 1])
def test_two_tabs_can_sign_in_at_once(browser: Browser, first: int) -> None:
    tabs = [browser.begin("admin"), browser.begin(f"#{ID}")]
    assert len(browser.named(COOKIE)) == 2
    ends = ["/admin", f"/#{ID}"]
    for tab in (first, 1 - first):
        assert browser.get(tabs[tab]).headers["Location"] == ends[tab]
    assert browser.named(COOKIE) == []


def test_browser_keeps_five_pending_sign_ins(browser: Browser) -> None:
    tabs = [browser.begin() for _ in range(7)]
    assert len(browser.named(COOKIE)) == 5
    assert browser.is_refused(tabs[1], "failed", "state_unknown")
    assert [browser.get(tab).headers["Location"] for tab in tabs[2:]] == ["/"] * 5


def test_rotated_signing_key_works_without_restart(provider: OidcProvider, browser: Browser) -> None:
    assert browser.sign_in() == "/"
    provider.make({"p256": "ES256"})
    provider.use(list(KEYS))
    assert Browser(browser.server).sign_in() == "/"


def test_authorization_response_works_once(server: Server, browser: Browser) -> None:
    back, kept = browser.begin(), dict(browser.cookies)
    assert browser.get(back).headers["Location"] == "/"
    again = Browser(server)
    assert again.is_refused(back, "failed", "state_unknown")
    again.cookies |= kept  # the code is used up, even if the browser's cookie fits
    assert again.is_refused(back, "failed", "token_invalid_grant")


def test_code_of_another_sign_in_is_refused(server: Server, browser: Browser) -> None:
    """An attacker's code with the victim's state: the verifier does not fit it."""
    [code] = parse_qs(urlsplit(Browser(server).begin()).query)["code"]
    mine = browser.begin()
    own = parse_qs(urlsplit(mine).query)["code"][0]
    assert browser.is_refused(mine.replace(own, code), "failed", "token_invalid_grant")


def test_refusal_by_the_provider_is_shown(provider: OidcProvider, browser: Browser) -> None:
    provider.sign_in_as("")
    assert browser.is_refused(browser.begin(), "denied", "provider_access_denied")


def test_revoking_the_sign_in_key_ends_all_sessions(server: Server, provider: OidcProvider, browser: Browser) -> None:
    """Waits until every process has seen it: two seconds. The last test of a server, because sign-in stays revoked."""
    browser.sign_in()
    url = server.env["DATABASE_URL"]
    found = Identity(server, bearer(make_key(url).text)).get("/api/keys?limit=100").json["data"]
    door = next(key for key in found if key["name"] == urlsplit(provider.url).netloc and key["parent_id"] is None)
    with journal_of(url) as journal:
        revoke_key(journal, UUID(door["id"]))
    assert eventually(lambda: browser.status() == 401, 5)
    again = Browser(server)
    assert again.is_refused(again.begin(), "denied", "key_revoked")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Client]]:
    with clients(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture
def client(make: Callable[..., Client], provider: OidcProvider) -> Client:
    return make(ISSUER=provider.url, CLIENT_ID="chatkeep ES256", CLIENT_SECRET=SECRET, ALGORITHM="ES256")


def cause(client: Client, change: Callable[[str], str] = str) -> str:
    """Return what the log would say of a sign-in that fails."""
    with pytest.raises(SignInFailed) as failed:
        client.sign_in(change)
    return failed.value.cause


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_signing_algorithm_is_verified(
    make: Callable[..., Client], provider: OidcProvider, algorithm: str
) -> None:
    mine = {"ISSUER": provider.url, "CLIENT_ID": f"chatkeep {algorithm}", "CLIENT_SECRET": SECRET}
    assert make(**mine, ALGORITHM=algorithm).sign_in().key.account == "local"
    other = "ES256" if algorithm == "RS256" else "RS256"
    assert cause(make(**mine, ALGORITHM=other)) == "id_token_algorithm"


@pytest.mark.parametrize(("expected", "signed"), [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA")])
def test_both_names_of_an_algorithm_are_accepted(
    make: Callable[..., Client], provider: OidcProvider, expected: str, signed: str
) -> None:
    mine = {"ISSUER": provider.url, "CLIENT_ID": f"chatkeep {signed}", "CLIENT_SECRET": SECRET}
    assert make(**mine, ALGORITHM=expected).sign_in()
    refused = {"Ed25519": "id_token_algorithm", "EdDSA": "id_token_key_unknown"}
    assert cause(make(**mine, ALGORITHM="Ed448")) == refused[signed]


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_token_signed_with_a_shared_secret_is_refused(
    make: Callable[..., Client], provider: OidcProvider, algorithm: str
) -> None:
    mine = {"ISSUER": provider.url, "CLIENT_ID": "chatkeep HS256", "CLIENT_SECRET": SECRET}
    assert cause(make(**mine, ALGORITHM=algorithm)) == "id_token_algorithm"


def test_public_client_needs_no_secret(make: Callable[..., Client], provider: OidcProvider) -> None:
    assert make(ISSUER=provider.url, CLIENT_ID="public").sign_in()


def test_keys_are_read_again_after_a_rotation(client: Client, provider: OidcProvider) -> None:
    client.sign_in()
    for kid in ("new", "new", "newer", "new"):  # under a new kid, under the same one, and under an old one again
        provider.make({kid: "ES256"})
        provider.use([kid, *list(KEYS)[1:]])
        client.passed += REREAD_S
        assert client.sign_in()


def test_unknown_keys_cause_a_bounded_number_of_reads(client: Client, provider: OidcProvider) -> None:
    provider.make({"fresh": "ES256"})
    client.sign_in()
    provider.make({"p256": "ES256"})
    provider.use(list(KEYS))
    client.sign_in()  # reads them again, for the last time for a while
    provider.use(["fresh", *list(KEYS)[1:]])
    assert cause(client) == "id_token_key_unknown"
    provider.make({"p256": "ES256"})
    provider.use(list(KEYS))
    assert cause(client) == "id_token_signature"
    client.passed += REREAD_S
    assert client.sign_in()


def test_withdrawn_key_is_trusted_for_at_most_an_hour(client: Client, provider: OidcProvider) -> None:
    provider.make({"kept": "ES256"})
    client.sign_in()
    provider.use(list(KEYS), published=["kept", *list(KEYS)[1:]])
    client.passed += CACHED_S - 60
    assert client.sign_in()
    client.passed += 61
    assert cause(client) == "id_token_key_unknown"


def test_withdrawn_key_is_dropped_by_the_first_token_with_a_new_one(client: Client, provider: OidcProvider) -> None:
    provider.make({"next": "ES256"})
    client.sign_in()
    provider.use(["next", *list(KEYS)[1:]])
    client.sign_in()
    provider.use(list(KEYS), published=["next", *list(KEYS)[1:]])
    client.passed += REREAD_S
    assert cause(client) == "id_token_key_unknown"


def test_every_failure_has_a_documented_cause(
    make: Callable[..., Client], client: Client, provider: OidcProvider
) -> None:
    mine = {"ISSUER": provider.url, "CLIENT_ID": "chatkeep RS256", "CLIENT_SECRET": SECRET}
    alias = provider.url.replace("127.0.0.1", "localhost")
    assert cause(make(**mine | {"ISSUER": alias})) == "discovery_issuer_mismatch"
    assert cause(make(**mine | {"ISSUER": f"{provider.url}/elsewhere"})) == "discovery_status_404"
    assert cause(make(**mine | {"ISSUER": "http://127.0.0.1:9"})) == "discovery_unreachable"
    assert cause(make(**mine | {"CLIENT_SECRET": "another"})) == "token_invalid_client"
    assert cause(client, lambda url: url.replace("state=", "state=x")) == "state_unknown"
    assert cause(client, lambda url: url.replace("code=", "code=x")) == "token_invalid_grant"
    assert cause(client, lambda url: url.replace("code=", "x=")) == "code_missing"
    assert cause(client, lambda url: url.replace("iss=", "x=")) == "response_issuer_missing"
    assert cause(client, lambda url: url.replace("iss=", "iss=x")) == "response_issuer_mismatch"
    provider.sign_in_as("x" * 256)
    assert cause(client) == "id_token_subject"
    provider.sign_in_as("")
    assert cause(client) == "provider_access_denied"
