"""Conversations continue after any event with models whose chat templates are strict about roles."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import templates
from tests.http.api import Api, eventually, unique
from tests.upstream import Upstream, generate

TURNS = 40


class Talk:
    """A conversation with one model, and the events that may happen in it."""

    def __init__(self, api: Api, upstream: Upstream, model: str) -> None:
        self.api = api
        self.upstream = upstream
        self.fields: dict[str, Any] = {"model": model}
        self.streamed = False
        self.id: str = api.chat("Hello", system="Be brief.", **self.fields)["conversation_id"]

    def answered(self) -> None:
        """Ask, and get the whole answer."""
        self.streamed = not self.streamed
        message = unique("Go on #n=4#")  # an earlier turn in the prompt may have another marker
        if self.streamed:
            self.api.streamed(message, conversation_id=self.id, **self.fields)
        else:
            self.api.chat(message, conversation_id=self.id, **self.fields)
        last = self.api.last(self.id)
        assert (last["status"], last["error_detail"]) == ("completed", None)
        assert last["content"] == "".join(generate(4))

    def stopped_with_text(self) -> None:
        with self.api.running(unique("#n=500,r=50#"), conversation_id=self.id, **self.fields):
            self.api.stop(self.id)
        self.api.ended(self.id)

    def stopped_without_text(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            message = unique("#fault=hang_first#")
            answer = pool.submit(self.api.post, message, conversation_id=self.id, stream=self.streamed, **self.fields)
            assert eventually(lambda: self.api.last(self.id)["status"] == "generating")
            self.api.stop(self.id)
            answer.result()

    def refused(self) -> None:
        self.failed("#status=400#")

    def broken(self) -> None:
        self.failed("#status=500,should_retry=false#")

    def cut(self) -> None:
        self.failed("#n=5,fault=cut_after:2#")

    def too_long(self) -> None:
        self.failed("#window=50#".ljust(60, "."))

    def blank(self) -> None:
        self.api.post(" ", conversation_id=self.id, **self.fields)

    def failed(self, message: str) -> None:
        assert self.api.post(unique(message), conversation_id=self.id, **self.fields).status != 200

    def regenerated(self) -> None:
        path = f"/api/conversations/{self.id}/messages/{self.api.last(self.id)['id']}/regenerate"
        assert self.api.request("POST", path, json=self.fields).json["status"] == "completed"

    def edited(self) -> None:
        *_, question, _reply = self.api.read(self.id, limit=100)["messages"]["data"]
        path = f"/api/conversations/{self.id}/messages/{question['id']}/edit"
        assert (
            self.api.request("POST", path, json={"message": unique("No:"), **self.fields}).json["status"] == "completed"
        )


@pytest.mark.parametrize("model", templates.TEMPLATES)
def test_turn_after_any_event_is_accepted_by_strict_templates(model: str, embedded: Api, upstream: Upstream) -> None:
    """Takes forty turns a conversation, every other one streamed: some seconds."""
    talk = Talk(embedded, upstream, model)
    troubles: list[Callable[[], None]] = [
        talk.stopped_with_text, talk.stopped_without_text, talk.refused, talk.broken, talk.cut, talk.too_long,
        talk.blank,
    ]  # fmt: skip
    # First without branches, then with them, because the context has two queries.
    turns = [*[talk.answered] * 4, *troubles, talk.regenerated, talk.edited, *troubles]
    begun = len(upstream.requests)
    for turn in turns:
        turn()
        talk.answered()
    taken = [request for request in upstream.requests[begun:] if request.body["model"] == model]
    assert len(taken) >= TURNS
    for request in taken:
        templates.render(model, request.messages)
