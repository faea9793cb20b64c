"""The clients' log of their turns, to compare with the rows."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests import client
from tests.client import Event, Stream

BROKEN = (OSError, http.client.HTTPException)
PATIENCE = 40.0  # seconds that a client retries
PAUSE = 0.05


@dataclass(slots=True)
class Seen:
    """One turn as its client saw it. It is acknowledged when the client knows the reply's id."""

    message: str
    key: str | None = None
    conversation_id: str = ""
    reply_id: str = ""
    text: str = ""
    status: str | None = None
    """The final status that the client got."""
    code: str | None = None
    """The code of the problem that the client got."""
    refusal: str | None = None
    """The code of the problem that refused the last attempt, without a reply."""
    is_whole: bool = False
    """Whether the server said that the client has the whole text."""
    resumed: int = 0
    wrong: list[str] = field(default_factory=list)
    """Protocol violations, such as an id that is not the number of characters."""

    def acknowledge(self, told: dict[str, Any]) -> None:
        """Record the ids of a start event, an answer or a problem."""
        ids = told["conversation_id"], told["message_id"]
        if self.reply_id and ids != (self.conversation_id, self.reply_id):
            self.wrong.append(f"acknowledged as {self.reply_id}, then as {ids[1]}")
        self.conversation_id, self.reply_id = ids
        self.refusal = None

    def answer(self, told: dict[str, Any]) -> None:
        """Record a JSON answer."""
        self.acknowledge(told)
        self.text, self.status, self.is_whole = told["reply"], told["status"], True

    def problem(self, told: dict[str, Any]) -> None:
        """Record a problem instead of an answer. It has ids if the turn was stored, and no text."""
        if "message_id" in told:
            self.acknowledge(told)
            self.code = told["code"]
        else:
            self.refusal = told["code"]

    def note(self, event: Event) -> None:
        """Record an event of a stream."""
        if self.is_whole:
            self.wrong.append(f"{event.event} after the end")
        elif event.event == "start":
            self.acknowledge(event.data)
        elif event.event == "delta":
            self.text += event.data["text"]
            if int(event.id or -1) != len(self.text):
                self.wrong.append(f"a delta's id is {event.id} at {len(self.text)} characters")
        else:
            self.is_whole = True
            self.status, self.code = event.data.get("status"), None
            if event.event == "error":
                self.status, self.code = None, event.data["code"]

    def read(self, stream: Stream) -> None:
        """Record a stream until it ends or breaks."""
        try:
            for event in stream:
                self.note(event)
        except BROKEN:
            stream.close()


class Talker(threading.Thread):
    """A client that takes turns, reconnects when a connection breaks, and logs what it saw.

    Half of its turns have an Idempotency-Key: those it repeats until they are acknowledged. The others it sends once.
    """

    def __init__(self, url: str, name: str, dice: random.Random, spec: str) -> None:
        super().__init__(name=name, daemon=True)
        self.log: list[Seen] = []
        self._url, self._dice, self._spec = url, dice, spec
        self._conversation: str | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Take turns until stopped, and complete the last one."""
        while not self._stopped.is_set():
            self._take_turn(len(self.log))

    def stop(self) -> None:
        """Take no more turns."""
        self._stopped.set()

    def _take_turn(self, number: int) -> None:
        unique = f"{self.name}.{number}"
        seen = Seen(f"{unique} #{self._spec},seed={number}#", unique if self._dice.random() < 0.5 else None)
        self.log.append(seen)
        if self._dice.random() < 0.2:
            self._conversation = None
        streamed, deadline = self._dice.random() < 0.7, time.monotonic() + PATIENCE
        while not self._try(seen, streamed=streamed):
            assert time.monotonic() < deadline, f"{unique} was not taken within {PATIENCE} s"
            time.sleep(PAUSE)
        self._conversation = seen.conversation_id or self._conversation

    def _try(self, seen: Seen, *, streamed: bool) -> bool:
        """Send the turn. Return False if it must be repeated."""
        body = {"message": seen.message, "stream": streamed}
        if self._conversation:
            body["conversation_id"] = self._conversation
        seen.refusal = None
        try:
            stream = client.stream(
                f"{self._url}/api/chat",
                body,
                headers={"Accept": "*/*"} | ({"Idempotency-Key": seen.key} if seen.key else {}),
            )
            return self._note(seen, stream)
        except BROKEN:
            return seen.key is None

    def _note(self, seen: Seen, stream: Stream) -> bool:
        """Record an answer of any kind. Return False if the turn must be repeated."""
        if stream.headers.get_content_type() == "text/event-stream":
            seen.read(stream)
            if seen.reply_id:
                resume(self._url, seen)
                return True
            return seen.key is None
        told = json.loads(stream.read())
        if stream.status == 200:
            seen.answer(told)
            return True
        seen.problem(told)
        if seen.reply_id:
            return True
        return told["code"] != "turn_running" and seen.key is None


def resume(url: str, seen: Seen) -> None:
    """Follow an acknowledged reply to its end, and resume each time the stream breaks."""
    deadline = time.monotonic() + PATIENCE
    path = f"{url}/api/conversations/{seen.conversation_id}/messages/{seen.reply_id}/stream"
    while not seen.is_whole:
        assert time.monotonic() < deadline, f"{seen.message} had no end within {PATIENCE} s"
        try:
            stream = client.stream(path, headers={"Last-Event-ID": str(len(seen.text))})
        except BROKEN:
            time.sleep(PAUSE)
            continue
        seen.resumed += 1
        if stream.status == 200:
            seen.read(stream)
        else:
            assert stream.status == 503, stream.read()
            stream.close()
            time.sleep(PAUSE)
