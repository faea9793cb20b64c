"""Compare the clients' logs with the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.faults.log import Seen
from tests.faults.rows import Message, Rows


@dataclass(slots=True)
class Verdict:
    """The checker's findings. Every list is empty if the promises hold."""

    acknowledged: int = 0
    compared: int = 0
    resumed: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    refused: int = 0
    """Turns whose clients stopped after a problem that says whether anything was stored."""
    unknown: int = 0
    """Those of them with an unknown outcome."""
    unknown_stored: int = 0
    lies: list[str] = field(default_factory=list)
    """Turns that were stored although the problem said that nothing was."""

    def figures(self) -> dict[str, int]:
        """Return the counts."""
        return {
            "acknowledged": self.acknowledged,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "streams compared": self.compared,
            "resumed": self.resumed,
            "mismatches": len(self.mismatched),
            "unsound rows": len(self.unsound),
        }

    def refusals(self) -> dict[str, int]:
        """Return what the problems of refused turns said about storage, and whether it was true."""
        return {
            "refused turns": self.refused,
            "told that the outcome is unknown": self.unknown,
            "of these stored": self.unknown_stored,
            "told that nothing was stored, and it was": len(self.lies),
        }

    def check(self) -> None:
        """Fail with the findings if there are any."""
        found = [
            f"{name}: {item}"
            for name in ("lost", "doubled", "mismatched", "unsound", "lies")
            for item in getattr(self, name)[:5]
        ]
        assert not found, "\n".join([str(self.figures()), *found])


def compare(rows: Rows, log: Iterable[Seen], *, branches: bool = False) -> Verdict:
    """Compare the log with the rows. ``branches`` allows messages to have more than one child."""
    verdict, messages = Verdict(), {message.id: message for message in rows.messages}
    asked = Counter(message.content for message in rows.messages if message.role == "user")
    for seen in log:
        if asked[seen.message] > 1:
            verdict.doubled.append(f"{seen.message} is there {asked[seen.message]} times")
        if seen.refusal:
            _judge(verdict, seen, stored=asked[seen.message] > 0)
        if seen.reply_id:
            verdict.acknowledged += 1
            verdict.resumed += seen.resumed > 0
            _compare(verdict, seen, messages)
    verdict.unsound += _unsound(rows, messages, branches=branches)
    return verdict


def _judge(verdict: Verdict, seen: Seen, *, stored: bool) -> None:
    verdict.refused += 1
    if seen.refusal == "outcome_unknown":
        verdict.unknown += 1
        verdict.unknown_stored += stored
    elif stored:
        verdict.lies.append(f"{seen} is stored")


def _compare(verdict: Verdict, seen: Seen, messages: dict[str, Message]) -> None:
    reply = messages.get(seen.reply_id)
    asked = messages.get(reply.parent_id or "") if reply else None
    if reply is None or asked is None or asked.content != seen.message:
        verdict.lost.append(f"{seen} is stored as {asked} and {reply}")
        return
    verdict.compared += 1
    verdict.mismatched += [f"{problem}: {seen} is stored as {reply}" for problem in _differences(seen, reply)]


def _differences(seen: Seen, reply: Message) -> Iterator[str]:
    yield from seen.wrong
    if not reply.content.startswith(seen.text):
        yield "other text was shown"
    if seen.is_whole and reply.content != seen.text:
        yield "more text was stored than shown"
    if seen.status and seen.status != reply.status:
        yield "the client got another status"
    if seen.code and seen.code != reply.error:
        yield "the client got another problem"


def _unsound(rows: Rows, messages: dict[str, Message], *, branches: bool) -> Iterator[str]:
    """Yield rows that no sequence of requests and faults may leave."""
    held = {reply for _, reply in rows.leases}
    for message in rows.messages:
        yield from (f"{reason}: {message}" for reason in _wrong_with(message, rows, messages, held))
    for conversation, reply in rows.leases:
        if conversation not in rows.conversations or reply not in messages:
            yield f"a lease without its reply {reply}"
    for key, reply in rows.keys:
        if reply not in messages:
            yield f"a key without its reply: {key}"
    for id, found in rows.by_conversation().items():  # noqa: A001
        yield from (f"{reason}: conversation {id}" for reason in _wrong_with_order(found, *rows.conversations[id]))
        if not branches:
            yield from (f"{reason}: conversation {id}" for reason in _wrong_with_line(found))


def _wrong_with(message: Message, rows: Rows, messages: dict[str, Message], held: set[str]) -> Iterator[str]:
    parent = messages.get(message.parent_id or "")
    if message.conversation_id not in rows.conversations:
        yield "a message without its conversation"
    if message.parent_id and (parent is None or parent.conversation_id != message.conversation_id):
        yield "a parent that is not there"
    if parent and parent.position >= message.position:
        yield "a parent that is younger"
    if message.written != len(message.content) + len(message.reasoning):
        yield "a count of characters that is wrong"
    if (message.status == "generating") != (message.id in held):
        yield "a lease that does not fit the status"
    if message.role == "assistant" and message.status == "completed" and not message.finish_reason:
        yield "completed without the provider's word"


def _wrong_with_order(found: list[Message], count: int, tip: str | None) -> Iterator[str]:
    if [message.position for message in found] != list(range(1, count + 1)):
        yield f"positions {[message.position for message in found]} of {count}"
    if sorted(found, key=lambda message: message.timestamp) != found:
        yield "times that contradict the positions"
    if tip not in {message.id for message in found}:
        yield "a current message that is not there"


def _wrong_with_line(found: list[Message]) -> Iterator[str]:
    parents = [None, *(message.id for message in found)]
    if any(message.parent_id != parent for message, parent in zip(found, parents, strict=False)):
        yield "messages that are not one line"
    if any(message.role != ("assistant" if index % 2 else "user") for index, message in enumerate(found)):
        yield "roles that do not take turns"
