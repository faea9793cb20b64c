"""Begin a turn: the one transaction that stores its rows, or finds the turn of an earlier request with the same key.

The transaction checks the limits, writes the conversation, the reply's lease, the user message and the reply's row,
reads the messages of the prompt, and stores the request's idempotency key. It waits for nothing but the database.
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
from chatkeep.domain.quota import UNLIMITED, Quotas, QuotaStatus
from chatkeep.errors import (
    NO_ACCESS,
    NO_CONVERSATION,
    NO_MESSAGE,
    FieldError,
    IdempotencyKeyReused,
    InvalidFields,
    NotFound,
    TurnRunning,
    Unauthorized,
)
from chatkeep.i18n import _
from chatkeep.limiting.limiter import Admission
from chatkeep.store import conversations, counters, fences, idempotency, keys, leases, messages
from chatkeep.store.holdings import Stored
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Duplicate
from chatkeep.store.transaction import Transaction
from chatkeep.turns.cache import CACHE_CLEARED, Answer, Cache, key_of
from chatkeep.turns.live import LiveReply
from chatkeep.turns.prompt import build_prompt
from chatkeep.turns.rows import advanced, repeated, title_of, turn_rows

# Failed turns among the last messages are replaced by older ones, up to this many times the messages of a prompt.
_MOST_READ = 4
_RUNNING = _("Wait until the running reply ends, or stop it, before you send another message.")


class TurnRequest(msgspec.Struct, frozen=True):
    """A request for a turn, independent of HTTP. ``...`` leaves the conversation's value unchanged."""

    owner: str
    message: str
    conversation_id: UUID | None = None
    regenerate: UUID | None = None
    """The reply to regenerate: the new one becomes its sibling, without a new user message."""
    edit: UUID | None = None
    """The user message to edit: the new one becomes its sibling."""
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    system: str | EllipsisType | None = ...
    ttl: int | EllipsisType | None = ...
    metadata: dict[str, Any] | EllipsisType = ...
    cache: bool = True
    """Whether the answer may come from the cache, and be stored in it."""
    key_id: UUID | None = None
    """The caller's key, whose revocation stops the reply; None if the server is open."""
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    """The SHA-256 of the request, which tells a repeated request from a reused idempotency key."""
    counts_for: UUID | None = None
    """The key that usage is recorded for: the caller's, or the one that the browser signed in with."""
    quotas: Quotas = UNLIMITED
    """The caller's quotas."""


class Question(msgspec.Struct, frozen=True):
    """What the model is asked, and on whose account."""

    prompt: Prompt
    key: bytes | None
    """The answer's cache key; None if it is not cached."""
    lease: Lease
    """The lease of the turn's reply."""
    admission: Admission
    """Charges the reply when it ends."""
    leader: Lease | None = None
    """The reply, in any process, that is already answering the same question."""


class Turn(msgspec.Struct, frozen=True):
    """A turn that has begun: now, or at an earlier request with the same idempotency key."""

    conversation_id: UUID
    reply_id: UUID
    model: str
    created_at: int
    question: Question | None = None
    """None if nothing is left to ask: the answer was cached, or the turn had begun before."""
    remembered: bool = False
    """Whether a reply that this process does not generate is a cached answer."""
    reply: LiveReply | None = None
    """The reply, if this process generates it; it may end before anything follows it."""
    row: Message | None = None
    """The reply, if this process's cache had its answer."""
    quota_status: QuotaStatus = QuotaStatus()
    """What remains of the caller's limits."""

    @property
    def is_new(self) -> bool:
        """Whether this request has begun it, not an earlier one with the same key."""
        return self.question is not None or self.row is not None

    @property
    def cached(self) -> bool:
        """Whether another turn asked for the answer; final from the reply's first event on."""
        return self.reply.message.cached if self.reply else self.remembered


class TurnStarter:
    """Begins the turns of one process."""

    def __init__(self, settings: Settings, cache: Cache, worker_id: UUID) -> None:
        self._settings = settings
        self._cache = cache
        self._worker_id = worker_id

    def begin(
        self, transaction: Transaction, request: TurnRequest, admission: Admission, reply_id: UUID, model: str
    ) -> Turn:
        """Store a turn, or return the one that the request's key stands for. The journal may run this repeatedly."""
        now = now_us()
        conversation = self._conversation(transaction, request, now)
        turn = _known(transaction, request, now)
        if turn is None:
            admission.check(transaction, _stored(request))
            turn = _remember(transaction, request, conversation.id, reply_id, now)
        if turn is None:
            conversation = _forked(transaction, conversation, request)
            turn = self._store(transaction, request, admission, conversation, reply_id, model, now)
        return turn

    def _store(
        self,
        transaction: Transaction,
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
        prompt = self._prompt(transaction, request, conversation, reply)
        key = key_of(request.owner, prompt) if request.cache and self._settings.cache_size else None
        if request.conversation_id is None:
            _require_key(transaction, request)
            conversations.insert(transaction, advanced(conversation, reply))
        answer = self._remembered(transaction, request, key)
        lease = Lease(
            conversation.id, reply_id, self._worker_id, stop=False, owner=request.owner, key_id=request.counts_for
        )
        leader = _claim(transaction, lease, None if request.regenerate else key, answer)
        if request.conversation_id is not None:
            conversations.update(transaction, advanced(conversation, reply))
        row = repeated(reply, answer) if answer else None
        added = [message for message in (asked, row or reply) if message]
        for message in added:
            messages.insert(transaction, message)
        admission.count(transaction, Stored.of(added))
        if row:
            admission.charge(transaction, row)
        question = None if answer else Question(prompt, key, lease, admission, leader)
        return Turn(
            conversation.id, reply_id, model, reply.timestamp, question,
            remembered=answer is not None, row=row, quota_status=admission.quota_status,
        )  # fmt: skip

    def _prompt(
        self, transaction: Transaction, request: TurnRequest, conversation: Conversation, reply: Message
    ) -> Prompt:
        """Return the prompt: the last messages of the branch, and the new one."""
        new = [] if request.regenerate else [Said(Role.USER, request.message)]
        latest: list[Said] = []
        if request.conversation_id is not None:
            most = self._settings.context_messages - len(new)
            latest = _latest(transaction, conversation, reply.timestamp, most)
        return build_prompt(
            reply.model or "",
            conversation.system,
            latest + new,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
        )

    def _remembered(self, transaction: Transaction, request: TurnRequest, key: bytes | None) -> Answer | None:
        """Return the answer in this process's cache, if its reply is still stored.

        A regenerated reply never comes from the cache, but the cache stores it.
        """
        answer = self._cache.get_local(key) if key and not request.regenerate else None
        return answer if answer and is_kept(transaction, request.owner, answer) else None

    def _conversation(self, transaction: Transaction, request: TurnRequest, now: int) -> Conversation:
        """Return the turn's conversation with the request's changes."""
        if request.conversation_id is None:
            found = self._new_conversation(request, now)
        else:
            locked = conversations.lock(transaction, request.owner, request.conversation_id, now)
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
    """Return what a turn's begin stores: the user message and the reply's row."""
    return Stored(1) if request.regenerate else Stored(2, len(request.message.encode()))


def _require_key(transaction: Transaction, request: TurnRequest) -> None:
    """Raise `Unauthorized` if the caller's key was erased with its end user, before this process has noticed."""
    key_id = request.key_id
    if key_id and fences.erased(transaction, [request.owner], since=1) and keys.get(transaction, key_id) is None:
        raise Unauthorized(NO_ACCESS)


def _latest(transaction: Transaction, conversation: Conversation, until: int, most: int) -> list[Said]:
    """Return the last ``most`` messages before a turn, oldest first.

    Turns whose reply has no text are returned but not counted, so that failures push nothing out of the prompt.
    """
    latest: list[Said] = []
    limit, wanted = 0, most
    while wanted > limit:
        limit = wanted
        latest = _read_latest(transaction, conversation, until, limit)
        failed = sum(one.role is Role.ASSISTANT and not one.content for one in latest)
        wanted = min(most + 2 * failed, _MOST_READ * most) if len(latest) == limit else 0
    return latest


def _read_latest(transaction: Transaction, conversation: Conversation, until: int, limit: int) -> list[Said]:
    if not conversation.forks:
        return messages.latest(transaction, conversation.id, until, limit)
    found = messages.last_up_to(transaction, conversation.id, conversation.current_id, limit)
    return [Said(one.role, one.content, one.error, one.finish_reason) for one in reversed(found)]


def _forked(transaction: Transaction, conversation: Conversation, request: TurnRequest) -> Conversation:
    """Return the conversation at the point where the turn continues: its end, or before the message it replaces."""
    replaced = request.regenerate or request.edit
    if replaced is None:
        return conversation
    found = messages.get(transaction, conversation.id, replaced)
    if found is None:
        raise NotFound(NO_MESSAGE)
    wanted = Role.ASSISTANT if request.regenerate else Role.USER
    if found.role is not wanted:
        told = _("only a reply can be regenerated") if request.regenerate else _("only a user message can be edited")
        raise InvalidFields.of([FieldError("message_id", told)])
    return replace(branches.switch_locked(transaction, conversation, found.parent_id), forks=conversation.forks + 1)


def _known(transaction: Transaction, request: TurnRequest, now: int) -> Turn | None:
    """Return the turn of an earlier request with the same idempotency key, if there is one."""
    if request.idempotency_key is None:
        return None
    known = idempotency.get(transaction, request.owner, request.idempotency_key, now)
    if known is None:
        return None
    if known.request_hash != request.fingerprint:
        raise IdempotencyKeyReused(_("Send a different Idempotency-Key with a new request."))
    reply = messages.get(transaction, known.conversation_id, known.reply_id)
    if reply is None:
        raise NotFound(_("The conversation of this Idempotency-Key was deleted."))
    return Turn(known.conversation_id, known.reply_id, reply.model or "", reply.timestamp, remembered=reply.cached)


def _remember(
    transaction: Transaction, request: TurnRequest, conversation_id: UUID, reply_id: UUID, now: int
) -> Turn | None:
    """Store the request's idempotency key; return the turn of another process that has just stored it, if any.

    The key is stored before the turn, so the second of two concurrent requests waits for the first one's commit.
    """
    if request.idempotency_key is None:
        return None
    mine = idempotency.IdempotencyRecord(request.fingerprint, conversation_id, reply_id)
    try:
        idempotency.insert(transaction, request.owner, request.idempotency_key, mine, now)
    except Duplicate:
        return _known(transaction, request, now)
    return None


def _claim(transaction: Transaction, lease: Lease, question: bytes | None, answer: Answer | None) -> Lease | None:
    """Acquire the lease of a reply; return that of the running reply to the same question, if there is one.

    The lease stores the question, so whatever ends the reply releases the question. On MySQL a transaction with the
    same question waits here for the other one's commit. Raises `TurnRunning`.
    """
    if answer:
        if leases.of_conversation(transaction, lease.conversation_id):
            raise TurnRunning(_RUNNING)
        return None
    try:
        return leases.acquire(transaction, lease, question)
    except Duplicate as error:
        raise TurnRunning(_RUNNING) from error


def is_kept(transaction: Transaction, owner: str, answer: Answer) -> bool:
    """Return whether an answer's reply is still stored, and no cache was cleared since."""
    return (
        answer.stored_at > counters.get(transaction, CACHE_CLEARED)
        and conversations.get(transaction, owner, answer.conversation_id, now_us()) is not None
        and messages.progress(transaction, answer.reply_id) is not None
    )
