"""chatkeep's own exports, whole or an increment, as one document or as lines: everything comes back as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from chatkeep.domain import conversation as model
from chatkeep.domain.conversation import Role, Status
from chatkeep.errors import ReplyInterrupted
from chatkeep.i18n import _, text_of
from chatkeep.imports.documents import RECORD_BYTES, Hashed, Records
from chatkeep.imports.records import (
    UNKNOWN,
    BadRecord,
    Gone,
    Incoming,
    Item,
    Record,
    Refused,
    Terms,
    UnknownFile,
    decoded,
    forks_of,
    path_to,
    require_storable,
)
from chatkeep.store.tombstones import Reason

VERSION = 1
METADATA_BYTES = 16 * 1024
METADATA_DEPTH = 64
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# A quote behind a backslash is in a string, so in what somebody said.
_OBJECT = re.compile(rb'(?<!\\)"object"\s*+:\s*+"export"')
# What ends a document that is read up to a record.
_LIST_END = b"]}"

Time = Annotated[datetime, Meta(tz=True)]
Amount = Annotated[int, Meta(ge=0, le=10**9)]
Name = Annotated[str, Meta(max_length=255)]
Word = Annotated[str, Meta(max_length=64)]


class End(Struct, tag_field="object", tag="export.end"):
    """The seal."""

    sha256: str


class Frame(Struct, tag_field="object", tag="export"):
    """What an export begins with; ``since`` tells that it is an increment."""

    version: int
    since: str | None = None
    end: End | None = None


class Usage(Struct):
    """Tokens as the provider counted them."""

    input_tokens: Amount
    output_tokens: Amount


class Message(Struct, tag_field="object", tag="message"):
    """A message; it names its conversation where it is a line."""

    id: UUID
    parent_id: UUID | None
    position: Annotated[int, Meta(ge=1, le=10**9)]
    timestamp: Time
    on_branch: bool
    role: Role
    status: Status
    model: Name | None
    finish_reason: Word | None
    error: Word | None
    cached: bool
    usage: Usage | None
    content: str
    reasoning: str
    error_detail: Annotated[str, Meta(max_length=1000)] | None = None
    conversation_id: UUID | None = None


class Conversation(Struct, tag_field="object", tag="conversation"):
    """A conversation; as a line it is followed by its messages."""

    id: UUID
    title: Name
    system: Annotated[str, Meta(max_length=1_000_000)] | None
    ttl: Annotated[int, Meta(ge=1, le=10**10)] | None
    pinned: bool
    metadata: dict[str, Any]
    message_count: Amount
    current_id: UUID | None
    created_at: Time
    last_active: Time
    expires_at: Time | None
    messages: list[Message] = []


class Tombstone(Struct, tag_field="object", tag="tombstone"):
    """What is left of a conversation that is gone."""

    id: UUID
    reason: Reason


class Key(Struct, tag_field="object", tag="key"):
    """A key of an end user, which is told of and never comes back; so are those below."""


class Job(Struct, tag_field="object", tag="export_job"):
    """An export job of an end user."""


class Share(Struct, tag_field="object", tag="share"):
    """That a conversation is shared."""


class Repeatable(Struct, tag_field="object", tag="idempotency_key"):
    """An Idempotency-Key of an end user."""


class Used(Struct, tag_field="object", tag="usage"):
    """What an end user has used on a day."""


_frame = msgspec.json.Decoder(Frame)
_member = msgspec.json.Decoder(Conversation | Tombstone)
_any_line = msgspec.json.Decoder(
    Frame | Conversation | Message | Tombstone | End | Key | Job | Share | Repeatable | Used
)


def is_lines(head: bytes) -> bool:
    """Return whether a document begins as an export in JSON lines does."""
    try:
        found = msgspec.json.decode(head.partition(b"\n")[0], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return found.get("object") == "export" and "conversations" not in found


def is_document(head: bytes) -> bool:
    """Return whether a document begins as an export in JSON does."""
    return head.startswith(b"{") and _OBJECT.search(head) is not None


def read_document(records: Records, file: Hashed, terms: Terms) -> Iterator[Item]:
    """Yield what is in an export that is one JSON document. Raises `UnknownFile`."""
    frame = None
    for record in records:
        frame = frame or _checked(records.frame + _LIST_END)
        yield from _members(record, terms, update=frame.since is not None)
    yield from _unsealed(_end_of(records, begun=frame is not None), file)


def _end_of(records: Records, *, begun: bool) -> End | None:
    try:
        return _checked(records.frame).end
    except UnknownFile:
        if not begun:
            _checked(records.frame + _LIST_END)
        return None


def _checked(frame: bytearray) -> Frame:
    try:
        return _known(_frame.decode(frame))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnknownFile(UNKNOWN) from error


def _known(frame: Frame) -> Frame:
    if frame.version != VERSION:
        raise UnknownFile(
            _("This export has the version {version}; a newer chatkeep can read it.", version=frame.version)
        )
    return frame


def _members(record: Record, terms: Terms, *, update: bool) -> Iterator[Item]:
    """Yield what a member of a document's lists is."""
    try:
        found = decoded(record, _member)
        if isinstance(found, Tombstone):
            yield Gone(record.line, found.id, found.reason)
        else:
            yield _incoming(record.line, found, found.messages, terms, update=update)
    except Refused as error:
        yield BadRecord(record.line, text_of(error))


def _unsealed(end: End | None, file: Hashed) -> Iterator[BadRecord]:
    """Yield what is wrong with the file as a whole."""
    if end is None:
        yield BadRecord(file.last_line, _("the file is cut: the seal that ends an export is missing"))
    elif end.sha256 != file.before_last_line():
        yield BadRecord(file.last_line, _("the seal does not fit: the file was changed after it was written"))


@dataclass(slots=True)
class _Group:
    """A conversation's lines."""

    line: int
    conversation: Conversation
    messages: list[Message] = field(default_factory=list)
    size: int = 0
    doubt: int | None = None
    """A line behind its own that could not be read, and may be one of its messages."""

    def add(self, record: Record, message: Message) -> None:
        self.size += len(record.body or b"")
        if self.size <= RECORD_BYTES:
            self.messages.append(message)


class Lines:
    """What is in an export that is JSON lines. Iterating raises `UnknownFile`."""

    def __init__(self, records: Iterable[Record], file: Hashed, terms: Terms) -> None:
        self._records = records
        self._file = file
        self._terms = terms
        self._update = False
        self._group: _Group | None = None
        self._lost = False
        self._end: End | None = None

    def __iter__(self) -> Iterator[Item]:
        """Yield conversations, and tombstones, and what is neither."""
        for record in self._records:
            try:
                found = decoded(record, _any_line)
            except Refused as error:
                yield self._bad(record, error)
            else:
                yield from self._took(record, found)
        yield from self._finished()
        yield from _unsealed(self._end, self._file)

    def _bad(self, record: Record, error: Refused) -> BadRecord:
        # Of what it begins, if it is a conversation, the messages that follow are known by nobody.
        self._lost = True
        if self._group is not None:
            self._group.doubt = record.line
        return BadRecord(record.line, text_of(error))

    def _took(self, record: Record, found: Any) -> Iterator[Item]:
        if isinstance(found, Message):
            yield from self._message(record, found)
            return
        yield from self._finished()
        if isinstance(found, Frame):
            self._update = _known(found).since is not None
        elif isinstance(found, Conversation):
            self._group, self._lost = _Group(record.line, found), False
        elif isinstance(found, Tombstone):
            yield Gone(record.line, found.id, found.reason)
        elif isinstance(found, End):
            self._end = found

    def _message(self, record: Record, message: Message) -> Iterator[BadRecord]:
        if self._group is not None and message.conversation_id == self._group.conversation.id:
            self._group.add(record, message)
        elif not self._lost:
            yield BadRecord(record.line, _("it does not belong to the conversation before it"))

    def _finished(self) -> Iterator[Item]:
        group, self._group = self._group, None
        if group is None:
            return
        try:
            _require_whole(group, update=self._update)
            yield _incoming(group.line, group.conversation, group.messages, self._terms, update=self._update)
        except Refused as error:
            yield BadRecord(group.line, text_of(error))


def _require_whole(group: _Group, *, update: bool) -> None:
    if group.size > RECORD_BYTES:
        raise Refused(_("it is larger than 64 MiB"))
    # An increment has some messages only, so how many there should be is not known.
    if group.doubt is not None and (update or len(group.messages) < group.conversation.message_count):
        raise Refused(_("it is left out with all of its messages, one of which line {line} may be", line=group.doubt))


def _incoming(line: int, found: Conversation, said: list[Message], terms: Terms, *, update: bool) -> Incoming:
    """Return a conversation of a file. Raises `Refused`."""
    rows = sorted((_message(found.id, one) for one in said), key=lambda one: one.timestamp)
    _require_tree(rows)
    require_storable(rows)
    tip = _tip(found.current_id, said)
    path, whole = path_to(tip, rows)
    branch = path if whole else frozenset(one.id for one in said if one.on_branch)
    made = replace(_conversation(found, rows, terms.owner), current_id=tip, forks=forks_of(rows))
    return Incoming(line, made, rows, branch, update)


def _tip(current_id: UUID | None, said: list[Message]) -> UUID | None:
    """Return where the current branch ends.

    A conversation that went on while it was exported has newer messages on its branch than the one that it names.
    """
    if current_id is not None and all(one.id != current_id for one in said):
        return current_id
    ends = [one for one in said if one.on_branch or one.id == current_id]
    return max(ends, key=lambda one: one.timestamp).id if ends else None


def _require_tree(rows: list[model.Message]) -> None:
    """Raise `Refused` unless times differ and each message is later than its parent, as far as that is here."""
    later = {row.id for row in rows}
    if len(later) < len(rows):
        raise Refused(_("two of its messages have the same id"))
    if any(row.timestamp == after.timestamp for row, after in pairwise(rows)):
        raise Refused(_("two of its messages have the same timestamp"))
    for row in rows:
        if row.parent_id in later:
            raise Refused(_("its message {id} is not later than its parent", id=row.id))
        later.discard(row.id)


def _conversation(found: Conversation, rows: list[model.Message], owner: str) -> model.Conversation:
    """Return the conversation's row; one that went on while it was exported spans all of its messages."""
    _require_small(found.metadata)
    created, active = _us(found.created_at), _us(found.last_active)
    return model.Conversation(
        id=found.id,
        owner=owner,
        title=found.title,
        created_at=min([created, *(row.timestamp for row in rows[:1])]),
        last_active=max([active, *(row.timestamp for row in rows[-1:])]),
        message_count=max([len(rows), *(row.position for row in rows)]),
        system=found.system,
        ttl=found.ttl,
        expires_at=None if found.expires_at is None else _us(found.expires_at),
        pinned=found.pinned,
        metadata=found.metadata,
    )


def _message(conversation_id: UUID, found: Message) -> model.Message:
    """Return a message's row. Nobody writes a reply any more that was being generated when it was exported."""
    generating = found.status is Status.GENERATING
    return model.Message(
        id=found.id,
        conversation_id=conversation_id,
        parent_id=found.parent_id,
        position=found.position,
        role=found.role,
        content=found.content,
        timestamp=_us(found.timestamp),
        status=Status.INTERRUPTED if generating else found.status,
        reasoning=found.reasoning,
        model=found.model,
        finish_reason=found.finish_reason,
        error=ReplyInterrupted.code if generating else found.error,
        error_detail=found.error_detail,
        usage=None if found.usage is None else model.Usage(found.usage.input_tokens, found.usage.output_tokens),
        cached=found.cached,
    )


def _us(at: datetime) -> int:
    """Return µs since 1970. Raises `Refused` where that, and what expires then, is beyond all calendars."""
    if not _UNIX <= at < _LATEST:
        raise Refused(_("{time} is no time between 1970 and 9000", time=at))
    return (at - _UNIX) // _MICROSECOND


def _require_small(metadata: dict[str, Any]) -> None:
    if _is_deeper(metadata, METADATA_DEPTH):
        raise Refused(_("its metadata is nested more than {depth} deep", depth=METADATA_DEPTH))
    if len(msgspec.json.encode(metadata)) > METADATA_BYTES:
        raise Refused(_("its metadata is larger than {bytes} bytes", bytes=METADATA_BYTES))


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list)) and (depth == 0 or any(_is_deeper(item, depth - 1) for item in inner))
