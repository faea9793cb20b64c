"""Create keys for tests, and call the API with them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chatkeep.auth.access import NewKey, Scope
from chatkeep.auth.keys import KeySpec, create_key, revoke_key
from chatkeep.domain.conversation import now_us
from chatkeep.domain.quota import read_limits
from chatkeep.store import migrations
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from tests import client
from tests.client import Response, Stream
from tests.servers import Server


@contextmanager
def journal_of(url: str) -> Iterator[Journal]:
    """Open a journal of the test's own on a server's database, as the command line does."""
    database = Database(url)
    migrations.ensure(database)
    journal = Journal(database)
    yield journal
    journal.close()
    database.close()


def make_key(
    url: str, account: str = "local", *scopes: Scope, lifetime: float | None = None, limits: str | None = None
) -> NewKey:
    """Make a key as `chatkeep keys create` does, without a process for it."""
    wanted = KeySpec("a test", account, scopes or tuple(Scope), lifetime, read_limits(limits) if limits else None)
    with journal_of(url) as journal:
        return create_key(journal, wanted)


def until_expired(made: NewKey) -> None:
    """Wait until a key has just expired."""
    assert made.key.expires_at
    time.sleep(max(0.0, (made.key.expires_at - now_us()) / 1e6 + 0.05))


def revoke(url: str, made: NewKey) -> None:
    with journal_of(url) as journal:
        revoke_key(journal, made.key.id)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller of a server, with the headers that identify it."""

    server: Server
    headers: Mapping[str, str] = field(default_factory=dict)

    def named(self, end_user: str) -> Identity:
        return Identity(self.server, {**self.headers, "X-End-User": end_user.encode().decode("latin-1")})

    def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> Response:
        return client.request(method, self.server.url + path, headers={**self.headers, **(headers or {})}, **options)

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def statuses(self, path: str) -> set[int]:
        """Return the statuses of twenty requests at once, which every process of the server gets some of."""
        with ThreadPoolExecutor(20) as pool:
            return {response.status for response in pool.map(self.get, [path] * 20)}

    def chat(self, message: str, **fields: Any) -> Any:
        response = self.request("POST", "/api/chat", json={"message": message, **fields})
        assert response.status == 200, response.body
        return response.json

    def stream(self, message: str, **fields: Any) -> Stream:
        return client.stream(f"{self.server.url}/api/chat", {"message": message, **fields}, headers=self.headers)
