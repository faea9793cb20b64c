"""A small OpenID provider on loopback that signs every user in, and can send invalid responses."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

DISCOVERY, KEYS, TOKEN = "/.well-known/openid-configuration", "/keys", "/token"
CLIENT_ID, CLIENT_SECRET = "chatkeep tests", "s3cret:/?&"


class Provider:
    """A running provider; use it as a context. ``lies`` replace what the next ID token holds; None leaves it out."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.curve_key = ec.generate_private_key(ec.SECP256R1())
        self.subject = "alice"
        self.codes: dict[str, dict[str, str]] = {}
        self.lies: dict[str, Any] = {}
        self.make_token: Any = None
        """Makes the next ID token out of its claims, in place of signing it."""
        self.asked: Counter[str] = Counter()
        """How often each path was asked for."""
        self.answers = threading.Event()
        """Whether it answers at all."""
        self.answers.set()
        self.sends: dict[str, tuple[int, bytes]] = {}
        """What it answers by path, in place of its documents: a status and a body."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Requests,), {"provider": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self) -> dict[str, Any]:
        """Return the discovery document."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }

    def keys(self) -> dict[str, Any]:
        """Return the public keys, among which one is of another kind and one is a secret."""
        curve = json.loads(ECAlgorithm.to_jwk(self.curve_key.public_key())) | {"kid": "curve"}
        secret = {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"s" * 32).decode()}
        return {"keys": [json.loads(RSAAlgorithm.to_jwk(self.key.public_key())) | {"kid": "first"}, curve, secret]}

    def authorize(self, asked: dict[str, str]) -> str:
        """Return where a browser that asks to be signed in is sent back to."""
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert asked["client_id"] == CLIENT_ID
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.url})}"

    def exchange(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Return the tokens for a code, or None if the request is invalid."""
        asked = self.codes.pop(form["code"], None)
        expected = base64.b64encode(f"{'chatkeep+tests'}:{'s3cret%3A%2F%3F%26'}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if asked is None or authorization != f"Basic {expected}" or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        if challenge.decode() != asked["code_challenge"]:
            return None
        return {"access_token": "x", "token_type": "Bearer", "id_token": self.token(asked["nonce"])}

    def token(self, nonce: str) -> str:
        """Return an ID token, with the requested faults."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "sub": self.subject, "iat": now, "exp": now + 60, "nonce": nonce}
        claims = {name: value for name, value in (claims | self.lies).items() if value is not None}
        if self.make_token:
            return str(self.make_token(claims))
        return jwt.encode(claims, self.key, "RS256", headers={"kid": "first"})


class _Requests(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if place.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(place.query).items()}
            self.send_response(302)
            self.send_header("Location", self.provider.authorize(asked))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        told = {DISCOVERY: self.provider.about, KEYS: self.provider.keys}
        self._answer(told[place.path]())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self._answer(self.provider.exchange(form, self.headers.get("Authorization", "")))

    def _answer(self, value: Any) -> None:
        answer = 200 if value else 400, json.dumps(value or {"error": "invalid_grant"}).encode()
        self.provider.asked[self.path] += 1
        self.provider.answers.wait(5)
        status, body = self.provider.sends.get(self.path, answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if body[:1] in b"{[" else "text/html")
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
