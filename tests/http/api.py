"""A short client of a running server's API, for tests that go through the front door."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from tests import client
from tests.client import SLOW, Event, Response, Stream
from tests.servers import Server
from tests.upstream import Request, Upstream

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Api:
    """A client of ``server``."""

    server: Server

    def request(self, method: str, path: str, **options: Any) -> Response:
        return client.request(method, self.server.url + path, **options)

    def post(self, message: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Response:
        """Take a turn and return the response, whatever it is."""
        return self.request("POST", "/api/chat", json={"message": message, **fields}, headers=headers)

    def chat(self, message: str, **options: Any) -> Any:
        """Take a turn and return its answer, which must be there."""
        response = self.post(message, **options)
        assert response.status == 200, response.body
        return response.json

    def stream(self, message: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Stream:
        """Take a turn whose answer is streamed."""
        return client.stream(f"{self.server.url}/api/chat", {"message": message, **fields}, headers=headers)

    def streamed(self, message: str, **options: Any) -> Stream:
        """Take a turn and return its stream once it has ended."""
        with self.stream(message, **options) as stream:
            for _ in stream:
                pass
        return stream

    def running(self, message: str, **options: Any) -> Running:
        """Take a turn and return it as soon as the first delta is there."""
        running = Running(self.stream(message, **options))
        running.until(1)
        return running

    def follow(self, reply: Mapping[str, str], *, headers: Mapping[str, str] | None = None, **query: Any) -> Stream:
        """Follow the reply that an answer or a start event names."""
        path = f"/api/conversations/{reply['conversation_id']}/messages/{reply['message_id']}/stream"
        return client.stream(f"{self.server.url}{path}?{urlencode(query)}", headers=headers)

    def followed(self, reply: Mapping[str, str], **options: Any) -> Stream:
        """Follow a reply to its end."""
        with self.follow(reply, **options) as stream:
            for _ in stream:
                pass
        return stream

    def stop(self, conversation_id: str) -> Any:
        return self.request("POST", f"/api/conversations/{conversation_id}/stop").json

    def read(self, conversation_id: str, **query: Any) -> Any:
        """Return a conversation with its messages."""
        response = self.request("GET", f"/api/conversations/{conversation_id}?{urlencode(query)}")
        assert response.status == 200, response.body
        return response.json

    def last(self, conversation_id: str) -> Any:
        """Return the last message of a conversation."""
        return self.read(conversation_id, order="desc", limit=1)["messages"]["data"][0]

    def ended(self, conversation_id: str, seconds: float = 15) -> Any:
        """Return the last message of a conversation once its status is final."""
        final = eventually(
            lambda: last if (last := self.last(conversation_id))["status"] != "generating" else None, seconds
        )
        assert final, f"still generating after {seconds} s"
        return final

    def list(self, **query: Any) -> Any:
        response = self.request("GET", f"/api/conversations?{urlencode(query)}")
        assert response.status == 200, response.body
        return response.json

    def change(self, conversation_id: str, **fields: Any) -> Any:
        response = self.request("PATCH", f"/api/conversations/{conversation_id}", json=fields)
        assert response.status == 200, response.body
        return response.json

    def delete(self, conversation_id: str) -> Response:
        return self.request("DELETE", f"/api/conversations/{conversation_id}")

    def count(self, table: str, where: str = "1 = 1", **values: Any) -> int:
        """Return how many rows the server's database holds."""
        database = Database(self.server.env["DATABASE_URL"])
        try:
            counted = Sql(f"SELECT COUNT(*) FROM {table} WHERE {where}")  # noqa: S608 - the tests' own words
            return int(database.read(lambda connection: connection.rows(counted, **values))[0][0])
        finally:
            database.close()

    def execute(self, text: str, **values: Any) -> None:
        """Change the server's database behind its back."""
        database = Database(self.server.env["DATABASE_URL"])
        try:
            database.read(lambda connection: connection.change(Sql(text), **values))
        finally:
            database.close()


class Running:
    """A streamed turn that continues while a test does something else."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._events = iter(stream)
        self.start: dict[str, Any] = next(self._events).data
        self.id: str = self.start["conversation_id"]

    @property
    def text(self) -> str:
        return self.stream.text

    def until(self, characters: int) -> Event:
        """Read until this many characters of the text are there; return the event that brought them."""
        return next(event for event in self._events if len(self.text) >= characters)

    def rest(self) -> Event:
        """Read to the end and return the last event."""
        *_, last = self._events
        return last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stream.close()


def unique(text: str = "") -> str:
    """Return text that no other test uses."""
    return f"{text} {uuid4().hex}".strip()


def asked(upstream: Upstream, message: str) -> list[Request]:
    """Return the provider's requests that end with this message."""
    return [request for request in upstream.requests if request.message == message]


def soon(seconds: float, attempt: Callable[[], T]) -> T:
    """Return the result of the first of five attempts that takes less than ``seconds``, or fail.

    Other work on the machine can delay one attempt. Slow code delays all of them.
    """
    took = []
    for _ in range(5):
        begun = time.monotonic()
        found = attempt()
        took.append(time.monotonic() - begun)
        if took[-1] < seconds * SLOW:
            return found
    raise AssertionError(f"it took {took}, never less than {seconds} s")


def eventually(condition: Callable[[], T], seconds: float = 10) -> T:
    """Return the result of ``condition`` as soon as it is true, or the last one when the seconds are over."""
    deadline = time.monotonic() + seconds * SLOW
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found
