"""Answers while the database refuses statements, is read-only, or disconnects during COMMIT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from tests.conftest import ON_EVERY_PAIR, Standing, database_server, empty_database
from tests.http.api import Api, eventually, unique
from tests.servers import Server, thrown_away
from tests.services.users import ORDINARY_USER
from tests.store.proxy import Proxy
from tests.store.test_refusals import BAD, REFUSE_UPDATES
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.services.database_server import DatabaseServer


@dataclass
class Fragile:
    """A server behind a database proxy, with a database user without further rights."""

    api: Api
    database: DatabaseServer
    proxy: Proxy

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.database.execute("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            self.database.execute("SET GLOBAL read_only = 0")

    def get(self, path: str) -> Any:
        return self.api.request("GET", path)


@pytest.fixture(scope="module", params=["gunicorn-mariadb", "waitress-mysql"])
def fragile(
    request: pytest.FixtureRequest, standing: Standing, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fragile]:
    command, kind = request.param.split("-")
    service: DatabaseServer = database_server(standing, kind)
    url = sa.make_url(empty_database(request, kind, tmp_path_factory))
    with ExitStack() as running:
        proxy = running.enter_context(Proxy(service.port))
        own = url.set(username=ORDINARY_USER, port=proxy.port)
        env = {
            "DATABASE_URL": own.render_as_string(hide_password=False),
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": "test-key",
            "WEB_CONCURRENCY": "1",
        }
        server = running.enter_context(thrown_away(Server(command, tmp_path_factory.mktemp(command), env)))
        yield Fragile(Api(server), service, proxy)


def test_read_only_database_fails_readiness_but_not_liveness(fragile: Fragile) -> None:
    message = unique()
    assert fragile.get("/health/ready").status == 200
    with fragile.read_only():
        ready = fragile.get("/health/ready")
        assert (ready.status, ready.json["code"]) == (503, "database_read_only")
        assert (fragile.get("/health").status, fragile.get("/health").json["database"]) == (503, "unavailable")
        assert fragile.get("/health/live").status == 200
        assert fragile.get("/api/conversations").status == 200
        refused = fragile.api.post(message)
        assert (refused.status, refused.json["code"]) == (503, "database_read_only")
        assert "Nothing was stored" in refused.json["detail"]
        assert refused.headers["Retry-After"]
    assert eventually(lambda: fragile.get("/health/ready").status == 200, 5)
    assert fragile.api.count("messages", "content = :content", content=message) == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("arrives", [False, True])
def test_turn_of_unknown_outcome_is_503_and_can_be_repeated(fragile: Fragile, *, arrives: bool, stream: bool) -> None:
    message = unique()
    headers = {"Idempotency-Key": quote(message), "Accept": "*/*"}
    fragile.proxy.lose_a_commit(message, arrives=arrives)
    told = fragile.api.post(message, stream=stream, headers=headers)
    assert (told.status, told.json["code"]) == (503, "outcome_unknown")
    assert "Idempotency-Key" in told.json["detail"]
    assert told.headers["Retry-After"]
    assert eventually(lambda: asked(fragile, message) == arrives)
    again = fragile.api.post(message, stream=stream, headers=headers)
    if arrives:  # no process generated its reply
        assert (again.status, again.json["code"]) == (503, "reply_interrupted")
        assert fragile.api.last(again.json["conversation_id"])["id"] == again.json["message_id"]
    else:
        assert again.status == 200
    assert asked(fragile, message) == 1


def asked(fragile: Fragile, message: str) -> int:
    return fragile.api.count("messages", "content = :content AND role = 'user'", content=message)


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("PATCH", "", {"title": "another title"}, "another title"),
        ("DELETE", "", None, "conversation.deleted"),
        ("POST", "/share", None, "conversation.shared"),
        ("POST", "/api/exports", {"format": "json"}, "INTO export_jobs"),
        ("POST", "/api/keys", {"name": "a key without a use", "scopes": ["read"]}, "a key without a use"),
    ],
)
def test_every_write_reports_an_unknown_outcome(
    fragile: Fragile, method: str, path: str, body: Any, words: str
) -> None:
    made = fragile.api.chat(unique())
    place = path if path.startswith("/api") else f"/api/conversations/{made['conversation_id']}{path}"
    fragile.proxy.lose_a_commit(words, arrives=False)  # a stored key would be required from then on
    told = fragile.api.request(method, place, json=body)
    assert (told.status, told.json["code"]) == (503, "outcome_unknown")


def test_import_of_unknown_outcome_is_finished_by_a_repetition(fragile: Fragile) -> None:
    made = fragile.api.chat(unique("an imported title"))
    file = fragile.get(f"/api/conversations/{made['conversation_id']}/export?format=json").json
    fragile.api.delete(made["conversation_id"])
    fragile.proxy.lose_a_commit("an imported title")
    told = fragile.api.request("POST", "/api/conversations/import", json=file)
    assert (told.status, told.json["code"]) == (503, "outcome_unknown")
    again = fragile.api.request("POST", "/api/conversations/import", json=file)
    assert again.json["conversations"]["present"] == 1


@pytest.fixture
def refusing(api: Api) -> Iterator[Api]:
    """The API of each server, whose database refuses to append one text."""
    database = Database(api.server.env["DATABASE_URL"])
    database.read(lambda connection: connection.change(REFUSE_UPDATES))
    yield api
    database.read(lambda connection: connection.change(Sql("DROP TRIGGER refuse")))
    database.close()


@ON_EVERY_PAIR
def test_reply_refused_by_the_database_fails_alone(refusing: Api) -> None:
    """Streams another reply for two seconds."""
    with refusing.running("Others. #n=40,r=25#") as other:
        refused = refusing.post(f"{unique()} {BAD}")
        assert (refused.status, refused.json["code"]) == (500, "database_refused")
        stored = refusing.ended(refused.json["conversation_id"])
        assert (stored["id"], stored["error"]) == (refused.json["message_id"], "database_refused")
        assert stored["status"] == ("truncated" if stored["content"] else "failed")
        assert BAD not in stored["content"]
        assert other.rest().event == "done"
    assert refusing.chat("And a new one.")["status"] == "completed"


@ON_EVERY_PAIR
def test_refused_statement_is_logged_by_number_without_values(api: Api) -> None:
    message = unique()
    api.execute("ALTER TABLE idempotency_keys RENAME TO kept_aside")
    try:
        refused = api.post(message, headers={"Idempotency-Key": unique().strip()})
    finally:
        api.execute("ALTER TABLE kept_aside RENAME TO idempotency_keys")
    assert (refused.status, refused.json["code"]) == (500, "database_refused")
    assert "Nothing was stored" in refused.json["detail"]
    told = f"{refused.json['request_id']} database_refused"
    [line] = [line for line in api.server.log().splitlines() if told in line]
    assert "idempotency_keys" in line
    assert "1146" in line or "SQLError 1" in line
    assert message not in api.server.log()
    assert api.chat(message)["status"] == "completed"
