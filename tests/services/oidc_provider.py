"""npm's oidc-provider, a certified OpenID provider, on loopback. It signs every user in, with keys of the test."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.services import npm

HERE = Path(__file__).parent / "oidc-provider"
SECRET = "s3cret:/?& of at least 32 bytes for HS256"
# A key of each kind that there is an algorithm for; the first is made anew in no time.
KEYS = {"p256": "ES256", "rsa": "RS256", "p384": "ES384", "p521": "ES512", "okp": "Ed25519"}


class OidcProvider:
    """A running provider; use it as a context."""

    def __init__(self) -> None:
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [npm.node(), npm.folder(HERE) / "provider.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self.url = f"http://127.0.0.1:{next(self._lines())}"
        self.renew()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process
        self._process.kill()
        with self._process:  # waits, and closes both pipes
            pass

    def renew(self) -> None:
        """Sign in alice again, with new keys of every kind."""
        self._change(subject="alice", make=KEYS, signing=list(KEYS), published=list(KEYS))

    def make(self, keys: Mapping[str, str]) -> None:
        """Make keys anew for algorithms, by their ``kid``."""
        self._change(make=keys)

    def use(self, signing: Sequence[str], published: Sequence[str] | None = None) -> None:
        """Sign with keys, and publish the same ones or others."""
        self._change(signing=signing, published=signing if published is None else published)

    def sign_in_as(self, subject: str) -> None:
        """Sign in another user from now on, or refuse all users."""
        self._change(subject=subject)

    def _change(self, **parts: Any) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(json.dumps(parts) + "\n")
        self._process.stdin.flush()
        assert "done" in self._lines()  # between notices of its own

    def _lines(self) -> Iterator[str]:
        assert self._process
        assert self._process.stdout
        return map(str.strip, self._process.stdout)


def ensure_installed() -> None:
    """Install oidc-provider if it is missing, by its lock file; raises `npm.Unavailable` if that is not possible."""
    npm.ensure_installed(HERE)
