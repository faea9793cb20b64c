"""Conversations of other programs: their trees become ours, with ids that are the same at every import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from chatkeep.imports.records import Incoming, Refused, Terms, forks_of, lasting_id, path_to, renewed, require_storable
from chatkeep.model import Conversation, Message, Role, Status

TITLE_LENGTH = 255
ID_LENGTH = 255
MODEL_LENGTH = 255
# Seconds beyond this are ms, µs or ns: it is the year 2103.
_SECONDS = 4.2e9


@dataclass(frozen=True, slots=True)
class Said:
    """What a message of another program says; without ``text`` it is none of ours, but may hold reasoning."""

    role: Role
    text: str = ""
    reasoning: str = ""
    model: str | None = None
    status: Status = Status.COMPLETED
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the tree of another program; ``at`` is in µs since 1970, where it is known."""

    id: str
    parent: str | None
    at: int | None = None
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation of another program; times are µs since 1970."""

    source: str
    id: str
    title: str
    created_at: int | None
    updated_at: int | None
    current: str | None
    nodes: list[Node] = field(repr=False)
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A node that becomes a message, below another one."""

    node: Node
    said: Said
    parent: str | None
    at: int


@dataclass(slots=True, eq=False)
class _Thought:
    """Reasoning of a node that is no message. The first reply below gets it: copies would be many times the file."""

    text: str
    above: _Thought | None
    given: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """What a node's children are told: the message above them, its time, and the last thought since."""

    message: str | None
    at: int
    thought: _Thought | None = None


def incoming(line: int, chat: Chat, terms: Terms) -> Incoming:
    """Return a conversation of ours. Raises `Refused`."""
    if not 0 < len(chat.id) <= ID_LENGTH:
        raise Refused("it has no id")
    began = chat.created_at or min((node.at for node in chat.nodes if node.at), default=terms.now)
    conversation_id = lasting_id(began, terms.owner, chat.source, chat.id)
    above: dict[str, str | None] = {}
    spoken = list(_rising(_spoken(chat.nodes, began, above)))
    ids = {
        one.node.id: lasting_id(one.node.at or began, terms.owner, chat.source, chat.id, one.node.id) for one in spoken
    }
    rows = [_message(conversation_id, one, position, ids) for position, one in enumerate(spoken, 1)]
    require_storable(rows)
    last = rows[-1].id if rows else None
    tip = ids.get(above.get(chat.current or "") or "", last)
    made = Conversation(
        id=conversation_id,
        owner=terms.owner,
        title=_title(chat, spoken),
        created_at=min([began, *(row.timestamp for row in rows[:1])]),
        last_active=max([chat.updated_at or began, *(row.timestamp for row in rows[-1:])]),
        message_count=len(rows),
        current_id=tip,
        forks=forks_of(rows),
        ttl=terms.ttl,
        pinned=chat.pinned,
        metadata={"imported_from": chat.source, "source_id": chat.id},
    )
    return Incoming(line, renewed(made, terms.now), rows, path_to(tip, rows)[0])


def microseconds(at: float | None) -> int | None:
    """Return µs since 1970 of seconds, or of a part of them as some versions write; None where there is no time."""
    if at is None or at <= 0:
        return None
    while at > _SECONDS:
        at /= 1000
    return round(at * 1_000_000)


def _spoken(nodes: list[Node], began: int, above: dict[str, str | None]) -> list[_Spoken]:
    """Return the nodes that become messages, each behind its parent; ``above`` gets every node's own message.

    What is no message is left out, and its children hang on the next one above. Raises `Refused`.
    """
    children: dict[str | None, list[Node]] = {}
    known = {node.id for node in nodes}
    for node in nodes:
        children.setdefault(node.parent if node.parent in known else None, []).append(node)
    found: list[_Spoken] = []
    waiting = [(node, _Place(None, 0)) for node in reversed(children.get(None, []))]
    while waiting:
        node, place = waiting.pop()
        one = _of(node, place, began)
        found += [one] if one else []
        below = _below(node, place, one)
        above[node.id] = below.message
        waiting += [(child, below) for child in reversed(children.get(node.id, []))]
    if len(above) < len(nodes):
        raise Refused("its messages follow each other in a circle")
    return found


def _of(node: Node, place: _Place, began: int) -> _Spoken | None:
    if node.said is None or not node.said.text:
        return None
    thoughts = [*_given(place.thought), node.said.reasoning] if node.said.role is Role.ASSISTANT else []
    said = replace(node.said, reasoning="\n\n".join(filter(None, thoughts)))
    return _Spoken(node, said, place.message, max(node.at or began, place.at + 1))


def _below(node: Node, place: _Place, one: _Spoken | None) -> _Place:
    if one is not None:
        return _Place(node.id, one.at)
    reasoning = node.said.reasoning if node.said else ""
    return _Place(place.message, place.at, _Thought(reasoning, place.thought) if reasoning else place.thought)


def _given(thought: _Thought | None) -> list[str]:
    """Return the thoughts that no reply has got yet, the oldest first, and note that one has got them now."""
    found: list[str] = []
    while thought is not None and not thought.given:
        found.append(thought.text)
        thought.given, thought = True, thought.above
    return found[::-1]


def _rising(spoken: list[_Spoken]) -> Iterator[_Spoken]:
    """Yield the messages by time, no two at the same."""
    last = 0
    for one in sorted(spoken, key=lambda one: one.at):
        last = max(one.at, last + 1)
        yield replace(one, at=last)


def _message(conversation_id: UUID, one: _Spoken, position: int, ids: dict[str, UUID]) -> Message:
    return Message(
        id=ids[one.node.id],
        conversation_id=conversation_id,
        parent_id=ids[one.parent] if one.parent is not None else None,
        position=position,
        role=one.said.role,
        content=one.said.text,
        timestamp=one.at,
        status=one.said.status,
        reasoning=one.said.reasoning,
        model=one.said.model[:MODEL_LENGTH] if one.said.model else None,
        finish_reason=one.said.finish_reason,
    )


def _title(chat: Chat, spoken: list[_Spoken]) -> str:
    title = chat.title or (spoken[0].said.text if spoken else "")
    return " ".join(title.split())[:TITLE_LENGTH]
