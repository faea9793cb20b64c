"""Taking a turn: one transaction, in which its rows are stored or it turns out to be taken before.

It writes the conversation, the lease of the reply that is to be generated, the user message and the reply's row, reads
what the prompt is made of, and keeps the request's idempotency key. Nothing is waited for but the database.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep.config.settings import Settings
from chatkeep.conversations import branches
from chatkeep.domain.conversation import Conversation, Message, Prompt, Role, Said, new_id, now_us
from chatkeep.domain.quota import UNLIMITED, Quotas, QuotaStatus, UsageRecord
from chatkeep.errors import (
    NO_CONVERSATION,
    NO_MESSAGE,
    FieldError,
    IdempotencyKeyReused,
    InvalidFields,
    NotFound,
    TurnRunning,
)
from chatkeep.limiting.limiter import Admission, Limiter
from chatkeep.limiting.storage import StorageQuota
from chatkeep.store import conversations, counters, idempotency, leases, messages
from chatkeep.store.holdings import Stored
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Connection, Duplicate
from chatkeep.turns.cache import CACHE_CLEARED, Answer, Cache, key_of
from chatkeep.turns.live import LiveReply
from chatkeep.turns.prompt import build_prompt
from chatkeep.turns.rows import advanced, repeated, title_of, turn_rows

# How many times as many messages are read as may be sent, while turns among them have failed.
_MOST_READ = 4


class TurnRequest(msgspec.Struct, frozen=True):
    """What is asked for; it knows nothing of HTTP. ``...`` means: as the conversation has it."""

    owner: str
    message: str
    conversation_id: UUID | None = None
    regenerate: UUID | None = None
    """The reply to make a sibling of; there is no new user message then."""
    edit: UUID | None = None
    """The user message to make a sibling of."""
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    system: str | EllipsisType | None = ...
    ttl: int | EllipsisType | None = ...
    metadata: dict[str, Any] | EllipsisType = ...
    cache: bool = True
    """Whether an answer may come from the cache, and be remembered there."""
    key_id: UUID | None = None
    """The caller's key, with which the reply ends; None where the server is open."""
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    """The SHA-256 of the request, by which a repeated key is told from a reused one."""
    counts_for: UUID | None = None
    """The key that usage is told by: the caller's, or the one that somebody signed in with."""
    quotas: Quotas = UNLIMITED
    """The caller's limits."""


class Question(msgspec.Struct, frozen=True):
    """What a turn asks the model."""

    prompt: Prompt
    key: bytes | None
    """By which the answer is remembered; None where it is not."""
    lease: Lease
    """That of the turn's own reply."""
    leader: Lease | None = None
    """The reply, in whichever process, that answers the same question already."""


class Turn(msgspec.Struct, frozen=True):
    """A turn that was taken, now or, where a key was repeated, before."""

    conversation_id: UUID
    reply_id: UUID
    model: str
    created_at: int
    question: Question | None = None
    """None where the turn was taken before."""
    remembered: bool = False
    """Whether the reply, if this process does not generate it, is one that was given before."""
    reply: LiveReply | None = None
    """The reply, where this process generates it: it may have ended before anybody follows it."""
    row: Message | None = None
    """The reply, where it was whole at once."""
    usage_record: UsageRecord | None = None
    """What such a reply has used."""
    quota_status: QuotaStatus = QuotaStatus()
    """What is left of the caller's limits."""

    @property
    def is_new(self) -> bool:
        """Whether the request has taken it, and not an earlier one with the same key."""
        return self.question is not None or self.row is not None

    @property
    def cached(self) -> bool:
        """Whether the answer was asked for by another turn; a reply's first event settles it."""
        return self.reply.message.cached if self.reply else self.remembered


class TurnStarter:
    """How the turns of one process are taken."""

    def __init__(self, settings: Settings, cache: Cache, limiter: Limiter, worker_id: UUID) -> None:
        self._settings = settings
        self._cache = cache
        self._limiter = limiter
        self._quota = StorageQuota.of(settings)
        self._worker_id = worker_id

    def begin(
        self, connection: Connection, request: TurnRequest, admission: Admission, reply_id: UUID, model: str
    ) -> Turn:
        """Store a turn, or return the one that was taken before. Runs in the journal, perhaps more than once."""
        now = now_us()
        conversation = self._conversation(connection, request, now)
        turn = _known(connection, request, now)
        if turn is None:
            admission.check(connection, request.owner, request.counts_for)
            self._quota.check(connection, request.owner, _stored(request))
            turn = _remember(connection, request, conversation.id, reply_id, now)
        if turn is None:
            conversation = _forked(connection, conversation, request)
            turn = self._store(connection, request, admission, conversation, reply_id, model, now)
        return turn

    def _store(
        self,
        connection: Connection,
        request: TurnRequest,
        admission: Admission,
        conversation: Conversation,
        reply_id: UUID,
        model: str,
        now: int,
    ) -> Turn:
        """Write a turn's rows."""
        said = None if request.regenerate else request.message
        asked, reply = turn_rows(conversation, said, reply_id, model, now)
        prompt = self._prompt(connection, request, conversation, reply)
        key = key_of(request.owner, prompt) if request.cache and self._settings.cache_size else None
        if request.conversation_id is None:
            conversations.insert(connection, advanced(conversation, reply))
        answer = self._remembered(connection, request, key)
        lease = Lease(
            conversation.id, reply_id, self._worker_id, stop=False, owner=request.owner, key_id=request.counts_for
        )
        leader = _claim(connection, lease, None if request.regenerate else key, answer)
        if request.conversation_id is not None:
            conversations.update(connection, advanced(conversation, reply))
        row = repeated(reply, answer) if answer else None
        added = [message for message in (asked, row or reply) if message]
        for message in added:
            messages.insert(connection, message)
        self._quota.add(connection, request.owner, Stored.of(added))
        admission.count(connection)
        usage_record = self._limiter.usage_record(lease, row, request.quotas) if row else None
        if usage_record:
            connection.ledger.charge(usage_record.subjects, now, tokens=usage_record.tokens)
        question = None if answer else Question(prompt, key, lease, leader)
        return Turn(
            conversation.id, reply_id, model, reply.timestamp, question,
            remembered=answer is not None, row=row, usage_record=usage_record, quota_status=admission.quota_status,
        )  # fmt: skip

    def _prompt(
        self, connection: Connection, request: TurnRequest, conversation: Conversation, reply: Message
    ) -> Prompt:
        """Return what the turn asks: the last messages, those of an earlier turn with the new one at their end."""
        new = [] if request.regenerate else [Said(Role.USER, request.message)]
        latest: list[Said] = []
        if request.conversation_id is not None:
            most = self._settings.context_messages - len(new)
            latest = _latest(connection, conversation, reply.timestamp, most)
        return build_prompt(
            reply.model or "",
            conversation.system,
            latest + new,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
        )

    def _remembered(self, connection: Connection, request: TurnRequest, key: bytes | None) -> Answer | None:
        """Return the answer that this process remembers, where it may be given again.

        Who asks for another reply does not want the one that was given before, but the new one is worth remembering.
        """
        answer = self._cache.get_local(key) if key and not request.regenerate else None
        return answer if answer and is_kept(connection, request.owner, answer) else None

    def _conversation(self, connection: Connection, request: TurnRequest, now: int) -> Conversation:
        """Return the conversation that the turn goes to, with what the request changes in it."""
        if request.conversation_id is None:
            found = self._new_conversation(request, now)
        else:
            locked = conversations.lock(connection, request.owner, request.conversation_id, now)
            if locked is None:
                raise NotFound(NO_CONVERSATION)
            found = locked
        changed = {
            name: getattr(request, name)
            for name in ("system", "ttl", "metadata")
            if not isinstance(getattr(request, name), EllipsisType)
        }
        return replace(found, **changed) if changed else found

    def _new_conversation(self, request: TurnRequest, now: int) -> Conversation:
        ttl = self._settings.conversation_ttl
        return Conversation(
            id=new_id(now),
            owner=request.owner,
            title=title_of(request.message),
            created_at=now,
            last_active=now,
            ttl=None if ttl is None else int(ttl),
        )


def _stored(request: TurnRequest) -> Stored:
    """Return what a turn stores at once: its message, and the row of the reply."""
    return Stored(1) if request.regenerate else Stored(2, len(request.message.encode()))


def _latest(connection: Connection, conversation: Conversation, until: int, most: int) -> list[Said]:
    """Return the last ``most`` messages that a turn goes on from, oldest first.

    Turns whose reply has no text don't count, so that failures push nothing out: they come along.
    """
    latest: list[Said] = []
    limit, wanted = 0, most
    while wanted > limit:
        limit = wanted
        latest = _read_latest(connection, conversation, until, limit)
        failed = sum(one.role is Role.ASSISTANT and not one.content for one in latest)
        wanted = min(most + 2 * failed, _MOST_READ * most) if len(latest) == limit else 0
    return latest


def _read_latest(connection: Connection, conversation: Conversation, until: int, limit: int) -> list[Said]:
    if not conversation.forks:
        return messages.latest(connection, conversation.id, until, limit)
    found = messages.nearest(connection, conversation.id, conversation.current_id, limit)
    return [Said(one.role, one.content, one.error, one.finish_reason) for one in reversed(found)]


def _forked(connection: Connection, conversation: Conversation, request: TurnRequest) -> Conversation:
    """Return the conversation as it stands where the turn goes on: at its end, or before what it replaces."""
    replaced = request.regenerate or request.edit
    if replaced is None:
        return conversation
    found = messages.get(connection, conversation.id, replaced)
    if found is None:
        raise NotFound(NO_MESSAGE)
    wanted = Role.ASSISTANT if request.regenerate else Role.USER
    if found.role is not wanted:
        told = "only a reply can be regenerated" if request.regenerate else "only a user message can be edited"
        raise InvalidFields(f"{told.capitalize()}.", errors=[FieldError("message_id", told)])
    return replace(branches.switched(connection, conversation, found.parent_id), forks=conversation.forks + 1)


def _known(connection: Connection, request: TurnRequest, now: int) -> Turn | None:
    """Return the turn that the request's key stands for already, if any."""
    if request.idempotency_key is None:
        return None
    known = idempotency.get(connection, request.owner, request.idempotency_key, now)
    if known is None:
        return None
    if known.request_hash != request.fingerprint:
        raise IdempotencyKeyReused("Send a new Idempotency-Key with a new request.")
    reply = messages.get(connection, known.conversation_id, known.reply_id)
    if reply is None:
        raise NotFound("The conversation of this Idempotency-Key was deleted.")
    return Turn(known.conversation_id, known.reply_id, reply.model or "", reply.timestamp, remembered=reply.cached)


def _remember(
    connection: Connection, request: TurnRequest, conversation_id: UUID, reply_id: UUID, now: int
) -> Turn | None:
    """Keep the request's key; return the turn that it stands for by now, where another process took one.

    The key is stored before the turn: of two equal requests at once the second waits for the first one's commit.
    """
    if request.idempotency_key is None:
        return None
    mine = idempotency.IdempotencyRecord(request.fingerprint, conversation_id, reply_id)
    try:
        idempotency.insert(connection, request.owner, request.idempotency_key, mine, now)
    except Duplicate:
        return _known(connection, request, now)
    return None


def _claim(connection: Connection, lease: Lease, question: bytes | None, answer: Answer | None) -> Lease | None:
    """Take the lease of a reply that is to be generated; return that of the one that answers the same, if any.

    The lease holds the question, for all who ask the same meanwhile, so whatever ends the reply frees it. On MySQL
    a transaction with an equal question waits here for the other one's commit. Raises `TurnRunning`.
    """
    running = TurnRunning("Wait for the running reply, or stop it, before you send another message.")
    if answer:
        if leases.of_conversation(connection, lease.conversation_id):
            raise running
        return None
    try:
        return leases.acquire(connection, lease, question)
    except Duplicate as error:
        raise running from error


def is_kept(connection: Connection, owner: str, answer: Answer) -> bool:
    """Return whether the reply that an answer comes from is stored, and no cache was cleared since."""
    return (
        answer.stored_at > counters.get(connection, CACHE_CLEARED)
        and conversations.get(connection, owner, answer.conversation_id, now_us()) is not None
        and messages.progress(connection, answer.reply_id) is not None
    )
