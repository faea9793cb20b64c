"""A turn ends for all who wait for it, whatever goes wrong within the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import Delta, Finish, Prompt, Status
from chatkeep.provider import Receive
from chatkeep.server.app import create_app
from chatkeep.turns.begin import TurnRequest
from chatkeep.turns.live import End, Event
from chatkeep.turns.service import Turns
from chatkeep.web.services import Services, services_of

# More than any machine has, so that no thread can be started.
STACK = 1 << 46


class Odd:
    """An embedder's provider: it says what it was asked, and ends as it was made to, which may be with nonsense."""

    name = default_model = "odd"
    ending: Any = None

    def stream_reply(self, prompt: Prompt) -> Odd:
        self.asked = prompt.messages[-1].content
        return self

    def deliver(self, receive: Receive) -> None:
        receive(Delta(self.asked))
        receive(self.ending)

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Odd:
    return Odd()


@pytest.fixture(scope="module")
def parts(provider: Odd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = services_of(create_app(Settings(data_dir=Path(tmp_path_factory.mktemp("turns"))), provider))
    yield made
    made.close()


def end_of(turns: Turns, message: str) -> End:
    events: list[Event] = [*turns.follow_begun(turns.begin_turn(TurnRequest("ann", message)))]
    assert isinstance(events[-1], End)
    return events[-1]


@pytest.mark.parametrize(
    "ending",
    [Finish("stop", usage={"prompt_tokens": 9}), Finish(["stop"]), Finish("stop", model=object())],  # type: ignore[arg-type]
    ids=["usage", "reason", "model"],
)
def test_reply_fails_if_its_end_cannot_be_stored(
    ending: Finish, parts: Services, provider: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    """What a type of the protocol does not allow stands for any fault of ours where a reply ends."""
    provider.ending = ending
    with caplog.at_level(logging.ERROR):
        end = end_of(parts.turns, f"What is fog? {ending}")
    assert end.problem
    assert end.problem.code in {"internal_error", "database_refused"}
    assert end.message
    assert (end.message.status, end.message.error) == (Status.TRUNCATED, end.problem.code)
    assert end.message.content.startswith("What is fog?")
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert not parts.turns.live


@pytest.mark.posix("Windows takes no such size")
def test_reply_fails_if_no_thread_can_start(parts: Services, provider: Odd) -> None:
    provider.ending = Finish("stop")
    before = threading.stack_size(STACK)
    try:
        turn = parts.turns.begin_turn(TurnRequest("ann", "Is a thread left?"))
    finally:
        threading.stack_size(before)
    end = [*parts.turns.follow_begun(turn)][-1]
    assert isinstance(end, End)
    assert end.problem
    assert end.problem.code == "internal_error"
    assert end.message
    assert end.message.status is Status.FAILED
    assert end_of(parts.turns, "And now?").problem is None
