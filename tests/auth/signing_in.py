"""Sign in with OpenID Connect, in a browser's way or without a server."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from chatkeep.auth.access import NewKey
from chatkeep.auth.oidc import AuthorizationResponse, Oidc
from chatkeep.config.settings import Settings
from chatkeep.store.journal import Journal
from tests.auth.keys import journal_of
from tests.client import Response, request
from tests.servers import Server

OWN = {"Sec-Fetch-Site": "same-origin"}
LIST = "/api/conversations"
DONE = "/sign-in/oidc/done"
COOKIE = "chatkeep_oidc_"
MOST_REDIRECTS = 5
HERE = "http://127.0.0.1:1"
# JSON that is nested too deeply.
DEEP = b"[" * 100_000 + b"]" * 100_000


class Jar:
    """What a browser keeps of cookies, by name and path; it follows no redirect by itself."""

    def __init__(self) -> None:
        self.cookies: dict[tuple[str, str], str] = {}

    def get(self, url: str, **headers: str) -> Response:
        place = urlsplit(url).path or "/"
        sent = "; ".join(f"{name}={value}" for (name, path), value in self.cookies.items() if place.startswith(path))
        answer = request("GET", url, headers={"Cookie": sent, **headers})
        for header in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(header).items():
                self.cookies.pop((name, morsel["path"]), None)
                if morsel.value:
                    self.cookies[name, morsel["path"]] = morsel.value
        return answer

    def away(self, place: str) -> str:
        """Sign in at the provider, and return the URL that it redirects to."""
        for _ in range(MOST_REDIRECTS):
            answer = self.get(place)
            assert answer.status in {302, 303}, answer.text
            place = urljoin(place, answer.headers["Location"])
            if urlsplit(place).path.endswith(DONE):
                return place
        raise AssertionError(f"redirected for ever, to {place}")

    def named(self, begin: str) -> list[str]:
        """Return the values of the cookies whose name begins so."""
        return [value for (name, _), value in self.cookies.items() if name.startswith(begin)]


class Browser(Jar):
    """A browser at a server."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server

    def begin(self, to: str = "") -> str:
        """Begin to sign in, and return the URL that the provider redirects to."""
        away = self.get(f"{self.server.url}/sign-in/oidc?{urlencode({'to': to})}")
        assert away.status == 302, away.body
        return self.away(str(away.headers["Location"]))

    def sign_in(self, to: str = "") -> str:
        """Sign in, and return the final URL."""
        return str(self.get(self.begin(to)).headers["Location"])

    def status(self) -> int:
        return self.get(self.server.url + LIST, **OWN).status

    def is_refused(self, url: str, why: str, cause: str) -> bool:
        """Return whether a response is refused: the page shows the reason, and the log has one line with the cause."""
        before = self.server.log()
        answer = self.get(url)
        said = [line for line in self.server.log().removeprefix(before).splitlines() if "sign-in failed" in line]
        assert [line.partition("sign-in failed: ")[2].partition(" ")[0] for line in said] == [cause]
        assert (answer.status, answer.headers["Location"]) == (302, f"/?sign-in={why}")
        return not self.named("chatkeep_key") and self.status() == 401


class Client:
    """A server's side of the sign-in without a server; tests can advance its clock."""

    def __init__(self, journal: Journal, folder: Path, env: dict[str, str]) -> None:
        self.passed = 0.0
        self._journal = journal
        settings = Settings.from_env({f"CHATKEEP_OIDC_{name}": value for name, value in env.items()}, folder)
        self._oidc = Oidc(settings, lambda: time.monotonic() + self.passed)

    def sign_in(self, change: Callable[[str], str] = str) -> NewKey:
        """Sign in; ``change`` may change what the provider sends back."""
        place, started = self._oidc.begin(HERE + DONE, "")
        asked = parse_qs(urlsplit(change(Jar().away(place))).query)
        given = {name: values[0] for name, values in asked.items()}
        returned = AuthorizationResponse(
            given.get("state", ""), given.get("code"), given.get("error"), given.get("iss")
        )
        return self._oidc.finish(self._journal, started, returned, HERE + DONE, "request")


@contextmanager
def clients(folder: Path) -> Iterator[Callable[..., Client]]:
    """Make clients by their settings, ``CHATKEEP_OIDC_`` left out, which share a database."""
    with journal_of(f"sqlite:///{(folder / 'clients.sqlite3').as_posix()}") as journal:
        yield lambda **env: Client(journal, folder, env)


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
