"""Convert the conversations of other programs to ours, with ids that are the same at every import."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from chatkeep.domain.conversation import STOP, Conversation, Message, Role, Status
from chatkeep.errors import ProviderBroke
from chatkeep.i18n import Text, _
from chatkeep.imports.left_out import UNSEEN, Kind
from chatkeep.imports.records import (
    BadRecord,
    ImportedConversation,
    ImportOptions,
    Item,
    LeftOut,
    forks_of,
    is_storable,
    path_to,
    stable_id,
)

TITLE_LENGTH = 255
ID_LENGTH = 255
MODEL_LENGTH = 255
SYSTEM_LENGTH = 1_000_000
DETAIL_LENGTH = 1_000
_ROLES = {
    "user": Role.USER,
    "human": Role.USER,
    "assistant": Role.ASSISTANT,
    "ai": Role.ASSISTANT,
    "bot": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
}
_FENCE = re.compile(r"`{3,}+")
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".heic", ".svg")


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message of another program.

    Without ``text`` it does not become a message: its reasoning goes to the next reply. A ``whole`` reply becomes one
    anyway, as truncated unless it failed.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    model: str | None = None
    status: Status = Status.COMPLETED
    finish_reason: str | None = None
    error: str | None = None
    """The program's error message for a failed reply."""
    whole: bool = False


@dataclass(slots=True)
class Content:
    """Collects the parts of a message."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _marks: list[str] = field(default_factory=list)

    def leave_out(self, kind: str) -> None:
        """Count a skipped part."""
        self.left_out[kind] += 1

    def attach(self, kind: Kind, name: str = "") -> None:
        """Count a picture, file or recording. A message without text shows a mark for it."""
        self.leave_out(kind)
        self._marks.append(f"[{kind}: {name}]" if name else f"[{kind}]")

    def attach_file(self, name: str, media_type: str = "", content: str = "") -> None:
        """Add the text of a file, or count the file, as a picture by its type or name."""
        if content:
            self.texts.append(f"[{Kind.FILE}: {name}]\n{content}")
            return
        is_picture = media_type.startswith("image") or name.lower().endswith(_PICTURES)
        self.attach(Kind.PICTURE if is_picture else Kind.FILE, name)

    def text(self, between: str = "\n\n") -> str:
        """Return the text, or else the marks of attachments."""
        return between.join(filter(None, self.texts)) or "\n".join(self._marks)

    def reasoning(self) -> str:
        """Return the reasoning."""
        return "\n\n".join(filter(None, self.thoughts))


@dataclass(frozen=True, slots=True)
class Node:
    """A node in another program's tree; ``at`` is µs since 1970, or None if unknown."""

    id: str
    parent: str | None
    at: int | None = None
    said: SourceMessage | None = None
    children: Sequence[str] = ()
    """The child nodes, for programs that name only these."""
    left_out: Counter[str] = field(default_factory=Counter)
    problem: Text | None = None
    """Why it cannot be read; the subject is "it"."""


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
    system: str = ""


def role_of(author: str) -> Role | None:
    """Return the role of an author's name, ignoring case; None for tools and others."""
    return _ROLES.get(author.lower())


def fenced(code: str, language: str = "") -> str:
    """Return code as a Markdown block, with a fence longer than any within; "" for blank code."""
    fence = "`" * (1 + max(map(len, _FENCE.findall(code)), default=2))
    return f"{fence}{language}\n{code.rstrip()}\n{fence}" if code.strip() else ""


def items_of(line: int, chat: Chat, options: ImportOptions) -> list[Item]:
    """Convert a conversation. Return it with what was skipped and which messages could not be read."""
    stamp = chat.created_at or min((node.at for node in chat.nodes if node.at), default=None)
    is_linked = any(node.parent or node.children for node in chat.nodes)
    nodes = list(_with_unique_ids(chat.nodes)) if is_linked else chained(chat.nodes)
    tree = _Tree(replace(chat, nodes=nodes), stamp or options.now)
    found: list[Item] = []
    if tree.spoken:
        found.append(_converted(line, tree, options, stamp))
    elif set(tree.left_out) - UNSEEN:
        tree.problems.append(_("none of its messages can be imported"))
    else:
        tree.left_out[Kind.EMPTY] += 1
    if tree.left_out:
        found.append(LeftOut(tree.left_out))
    return found + [BadRecord(line, problem) for problem in tree.problems]


def chained(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes of a list, each below the parent that it names, or else below the previous node.

    The first node whose parent is not in the list is a root. So are others that name the same parent. If it names none,
    others without a parent are roots only if every reply names a parent, as in a tree.
    """
    known = {node.id for node in nodes}
    replies = [node for node in nodes if node.said is not None and node.said.role is Role.ASSISTANT]
    is_tree = any(node.parent in known for node in nodes) and all(node.parent for node in replies)
    found: list[Node] = []
    root: Node | None = None
    for node in _with_unique_ids(nodes):
        if node.parent not in known:
            root = root or node
            is_root = node is root or (node.parent == root.parent and (is_tree or node.parent is not None))
            node = node if is_root else replace(node, parent=found[-1].id)  # noqa: PLW2901 - in its place
        found.append(node)
    return found


def _with_unique_ids(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield nodes with unique ids: a duplicate gets another id."""
    known: Counter[str] = Counter()
    taken = {node.id for node in nodes}
    for node in nodes:
        id = node.id  # noqa: A001 - as everywhere
        while known[node.id] and id in taken:
            known[node.id] += 1
            id = f"{node.id}#{known[node.id]}"  # noqa: A001
        known[node.id] = known[node.id] or 1
        yield replace(node, id=id)


@dataclass(frozen=True, slots=True)
class _PlacedMessage:
    """A node that becomes a message."""

    node: Node
    said: SourceMessage
    parent: str | None
    at: int


@dataclass(slots=True, eq=False)
class _Thought:
    """Reasoning of a node without a message. Only the first reply below gets it, because copies could be huge."""

    text: str
    above: _Thought | None
    given: bool = False


@dataclass(frozen=True, slots=True)
class _Context:
    """The context of a node's children: the message above, its time, and the last reasoning since."""

    message: str | None
    at: int
    thought: _Thought | None = None


class _Tree:
    """Converts a conversation's nodes to messages, each after its parent.

    Nodes without a message are skipped, and their children attached to the next message above. A cycle is cut at its
    first node.
    """

    def __init__(self, chat: Chat, began: int) -> None:
        self.chat = chat
        self.began = began
        self.system = chat.system
        self.spoken: list[_PlacedMessage] = []
        self.above: dict[str, str | None] = {}
        """For each node, its message or the one above it."""
        self.left_out: Counter[str] = Counter()
        self.problems: list[Text] = []
        self._thoughts: list[_Thought] = []
        self._children = _children(chat.nodes)
        roots = self._children.get(None, [])
        for node in [*roots, *chat.nodes]:
            self._walk(node)
        self.left_out[Kind.REASONING] += sum(not thought.given for thought in self._thoughts)
        if len(self.system) > SYSTEM_LENGTH:
            self.left_out[Kind.SYSTEM] += 1
            self.system = ""
        self.left_out = +self.left_out

    def _walk(self, start: Node) -> None:
        waiting = [(start, _Context(None, 0))]
        while waiting:
            node, place = waiting.pop()
            if node.id in self.above:
                continue
            below = self._process(node, place)
            self.above[node.id] = below.message
            waiting += [(child, below) for child in reversed(self._children.get(node.id, []))]

    def _process(self, node: Node, place: _Context) -> _Context:
        """Process a node, and return its children's context."""
        self.left_out.update(node.left_out)
        said, problem = node.said, node.problem
        if said is not None and not is_storable(said.text, said.reasoning):
            said, problem = None, _("it is larger than 7 MiB")
        if problem is not None:
            self.left_out[Kind.UNREADABLE] += 1
            self.problems.append(_("its message {id} is left out: {reason}", id=node.id[:64], reason=problem))
        if said is None:
            return place
        if said.role is Role.SYSTEM:
            self._instruct(said.text)
            return place
        if said.text or said.whole:
            return self._speak(node, said, place)
        return replace(place, thought=self._thought(said.reasoning, place)) if said.reasoning else place

    def _instruct(self, text: str) -> None:
        if text and self.system and text != self.system:
            self.left_out[Kind.SYSTEM] += 1
        self.system = self.system or text

    def _speak(self, node: Node, said: SourceMessage, place: _Context) -> _Context:
        thoughts = [*_take_thoughts(place.thought), said.reasoning] if said.role is Role.ASSISTANT else []
        said = replace(said, reasoning="\n\n".join(filter(None, thoughts)))
        if not said.text and said.status is Status.COMPLETED:
            reason = None if said.finish_reason == STOP else said.finish_reason
            said = replace(said, status=Status.TRUNCATED, finish_reason=reason)
        one = _PlacedMessage(node, said, place.message, max(node.at or self.began, place.at + 1))
        self.spoken.append(one)
        return _Context(node.id, one.at)

    def _thought(self, text: str, place: _Context) -> _Thought:
        thought = _Thought(text, place.thought)
        self._thoughts.append(thought)
        return thought


def _children(nodes: list[Node]) -> dict[str | None, list[Node]]:
    """Return the children of each node: by the parent they name, or by the node that names them or that parent."""
    known = {node.id for node in nodes}
    named = {child: node.id for node in nodes for child in node.children}
    found: dict[str | None, list[Node]] = {}
    for node in nodes:
        parent = node.parent if node.parent in known else named.get(node.id) or named.get(node.parent or "")
        found.setdefault(parent, []).append(node)
    return found


def _take_thoughts(thought: _Thought | None) -> list[str]:
    """Return the thoughts that no reply has yet, oldest first, and mark them as given."""
    found: list[str] = []
    while thought is not None and not thought.given:
        found.append(thought.text)
        thought.given, thought = True, thought.above
    return found[::-1]


def _converted(line: int, tree: _Tree, options: ImportOptions, stamp: int | None) -> ImportedConversation:
    """Return our conversation. Its ids depend on ``stamp``, not on the clock, so a second import finds the first."""
    chat, spoken = tree.chat, list(_with_unique_times(tree.spoken))
    own_id = chat.id if 0 < len(chat.id) <= ID_LENGTH else _digest(chat)
    conversation_id = stable_id(stamp or 0, options.owner, chat.source, own_id)
    ids = {
        one.node.id: stable_id(one.node.at or stamp or 0, options.owner, chat.source, own_id, one.node.id)
        for one in spoken
    }
    rows = [_message(conversation_id, one, position, ids) for position, one in enumerate(spoken, 1)]
    tip = ids.get(tree.above.get(chat.current or "") or "", rows[-1].id)
    made = Conversation(
        id=conversation_id,
        owner=options.owner,
        title=_title(chat, spoken),
        created_at=min(tree.began, rows[0].timestamp),
        last_active=max(chat.updated_at or tree.began, rows[-1].timestamp),
        message_count=len(rows),
        current_id=tip,
        forks=forks_of(rows),
        system=tree.system or None,
        pinned=chat.pinned,
        metadata={"imported_from": chat.source, "source_id": own_id},
    )
    return ImportedConversation(line, made, rows, path_to(tip, rows)[0])


def _digest(chat: Chat) -> str:
    """Return an id for a conversation without one: a hash of its content."""
    said = [(node.id, node.at, node.said.text if node.said else "") for node in chat.nodes]
    return hashlib.sha256(repr((chat.created_at, chat.title, said)).encode()).hexdigest()[:32]


def _with_unique_times(spoken: list[_PlacedMessage]) -> Iterator[_PlacedMessage]:
    """Yield the messages by time, with unique times."""
    last = 0
    for one in sorted(spoken, key=lambda one: one.at):
        last = max(one.at, last + 1)
        yield replace(one, at=last)


def _message(conversation_id: UUID, one: _PlacedMessage, position: int, ids: dict[str, UUID]) -> Message:
    said = one.said
    return Message(
        id=ids[one.node.id],
        conversation_id=conversation_id,
        parent_id=ids[one.parent] if one.parent is not None else None,
        position=position,
        role=said.role,
        content=said.text,
        timestamp=one.at,
        status=said.status,
        reasoning=said.reasoning,
        model=said.model[:MODEL_LENGTH] if said.model else None,
        finish_reason=said.finish_reason,
        error=ProviderBroke.code if said.error is not None else None,
        error_detail=said.error[:DETAIL_LENGTH] if said.error else None,
    )


def _title(chat: Chat, spoken: list[_PlacedMessage]) -> str:
    title = chat.title or spoken[0].said.text
    return " ".join(title.split())[:TITLE_LENGTH]
