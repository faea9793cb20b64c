"""Take a turn, follow it, stop it: the heart.

A turn's way: `take_turn` stores the user message and the reply's row in one transaction; a background thread streams
the reply from the provider into the journal; followers are shown what the journal has committed; `_finish_turn` stores
how it ended. The reply belongs to this process and not to the request that asked for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import partial
from types import EllipsisType
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chatkeep import errors
from chatkeep.cache import CACHE_CLEARED, Answer, Cache, key_of
from chatkeep.concurrency import background
from chatkeep.errors import (
    NO_CONVERSATION,
    NO_MESSAGE,
    FieldError,
    InvalidFields,
    KeyReused,
    NotFound,
    Problem,
    ProviderError,
    Quotas,
    ServerStopping,
    TurnRunning,
    without_frames,
)
from chatkeep.following import follow_row
from chatkeep.limiter import Admission, Limiter
from chatkeep.limits import UNLIMITED, Allowances, Bill
from chatkeep.metrics import (
    CACHE_ANSWERS,
    COMMIT_SECONDS,
    FIRST_TOKEN_SECONDS,
    PROVIDER_ERRORS,
    TOKENS,
    TURN_SECONDS,
    TURNS,
    Tally,
)
from chatkeep.model import Conversation, Delta, Finish, Message, Prompt, Role, Status, new_id, now_us
from chatkeep.prompt import build_prompt
from chatkeep.provider import Call, Provider
from chatkeep.redaction.policies import Screen
from chatkeep.replies import CopyCall, End, Ending, Event, Events, LiveReply, outcome, problem_of
from chatkeep.rows import advanced, repeated, title_of, turn_rows
from chatkeep.settings import Settings
from chatkeep.store import conversations, idempotency, leases, marks, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Append, Connection, Duplicate

log = logging.getLogger(__name__)

DRAIN_LOOK_S = 0.2


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
    allowances: Allowances = UNLIMITED
    """The caller's limits."""


class Question(msgspec.Struct, frozen=True):
    """What a turn asks the model."""

    prompt: Prompt
    key: bytes | None
    """By which the answer is remembered; None where it is not."""
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
    quotas: Quotas = Quotas()
    """What is left of the caller's limits."""

    @property
    def cached(self) -> bool:
        """Whether the answer was asked for by another turn; a reply's first event settles it."""
        return self.reply.message.cached if self.reply else self.remembered


class Turns:
    """The turns of one process."""

    def __init__(  # noqa: PLR0913 - the parts that a turn goes through
        self,
        settings: Settings,
        database: Database,
        journal: Journal,
        provider: Provider,
        cache: Cache,
        limiter: Limiter,
        tally: Tally,
        *,
        screen: Screen | None = None,
    ) -> None:
        self.worker_id = new_id()
        self.live: dict[UUID, LiveReply] = {}
        self._settings = settings
        self._database = database
        self._journal = journal
        self._provider = provider
        self._cache = cache
        self._limiter = limiter
        self._tally = tally
        self._screen = screen
        self._stopping = False

    def drain(self, patience: float) -> None:
        """Take no more turns, wait up to ``patience`` seconds until the running replies are whole, then end them."""
        self._stopping = True
        deadline = time.monotonic() + patience
        while self.live and time.monotonic() < deadline:
            time.sleep(DRAIN_LOOK_S)
        self.interrupt_all()

    def interrupt_all(self) -> None:
        """End every reply with what there is of it, because the process stops; take no more turns."""
        self._stopping = True
        for reply in list(self.live.values()):
            reply.end(Ending.SHUTDOWN)

    def take_turn(self, request: TurnRequest) -> Turn:
        """Store the user message and the reply's row, then have the reply generated; return once both are durable.

        Raises `NotFound`, `TurnRunning`, `KeyReused`, `RateLimited`, `SensitiveContent`, `StoreUnavailable`,
        `ServerStopping`.
        """
        if self._stopping:
            raise ServerStopping(retry_after=1)
        if self._screen:
            request = _passed(request, self._screen)
        reply_id, model = new_id(), request.model or self._provider.default_model
        begun = time.monotonic()
        with self._limiter.asking(request.allowances) as admission:
            turn = self._journal.write(
                lambda connection: self._take(connection, request, admission, reply_id, model),
                brief=not (request.edit or request.regenerate),  # these go through the messages of a branch
                subjects=admission.subjects,
            )
        self._tally.observe(COMMIT_SECONDS, time.monotonic() - begun)
        if turn.question:
            return self._begin(request, turn, turn.question)
        if turn.row:
            self._count_repeated()
            self._limiter.charge(self._bill(request, turn.row))
        return turn

    def _take(
        self, connection: Connection, request: TurnRequest, admission: Admission, reply_id: UUID, model: str
    ) -> Turn:
        """Write a turn's rows. Runs in the journal, perhaps more than once."""
        now = now_us()
        conversation = self._conversation(connection, request, now)
        known = _known(connection, request, now)
        if known is None:
            admission.check(connection, request.owner, request.counts_for)
            known = _remember(connection, request, conversation.id, reply_id, now)
        if known is not None:
            return known
        conversation = _forked(connection, conversation, request)
        said = None if request.regenerate else request.message
        asked, reply = turn_rows(conversation, said, reply_id, model, now)
        prompt = self._prompt(connection, request, conversation, reply)
        key = key_of(request.owner, prompt) if request.cache and self._settings.cache_size else None
        if request.conversation_id is None:
            conversations.insert(connection, advanced(conversation, reply))
        answer = self._remembered(connection, request, key)
        leader = self._claim(connection, request, reply, None if request.regenerate else key, answer)
        if request.conversation_id is not None:
            conversations.update(connection, advanced(conversation, reply))
        row = repeated(reply, answer) if answer else None
        for message in filter(None, (asked, row or reply)):
            messages.insert(connection, message)
        admission.count(connection)
        if row:
            bill = self._bill(request, row)
            connection.ledger.take(bill.subjects, now, tokens=bill.tokens)
        question = None if answer else Question(prompt, key, leader)
        return Turn(
            conversation.id, reply_id, model, reply.timestamp, question,
            remembered=answer is not None, row=row, quotas=admission.quotas,
        )  # fmt: skip

    def _prompt(
        self, connection: Connection, request: TurnRequest, conversation: Conversation, reply: Message
    ) -> Prompt:
        """Return what the turn asks: the last messages, those of an earlier turn with the new one at their end."""
        new = [] if request.regenerate else [(Role.USER, request.message)]
        latest: list[tuple[Role, str]] = []
        if request.conversation_id is not None:
            limit = self._settings.context_messages - len(new)
            latest = messages.latest(connection, conversation.id, reply.timestamp, limit)
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
        answer = self._cache.near(key) if key and not request.regenerate else None
        return answer if answer and _is_kept(connection, request.owner, answer) else None

    def _claim(
        self,
        connection: Connection,
        request: TurnRequest,
        reply: Message,
        question: bytes | None,
        answer: Answer | None,
    ) -> Lease | None:
        """Take the lease of a reply that is to be generated; return that of the one that answers the same, if any.

        The lease holds the question, for all who ask the same meanwhile, so whatever ends the reply frees it. On MySQL
        a transaction with an equal question waits here for the other one's commit. Raises `TurnRunning`.
        """
        running = TurnRunning("Wait for the running reply, or stop it, before you send another message.")
        if answer:
            if leases.of_conversation(connection, reply.conversation_id):
                raise running
            return None
        try:
            return leases.take(connection, self._lease(request, reply), question)
        except Duplicate as error:
            raise running from error

    def _lease(self, request: TurnRequest, reply: Message) -> Lease:
        ids = (reply.conversation_id, reply.id, self.worker_id)
        return Lease(*ids, stop=False, owner=request.owner, key_id=request.counts_for)

    def _bill(self, request: TurnRequest, row: Message) -> Bill:
        return self._limiter.bill(self._lease(request, row), row, request.allowances)

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

    def _begin(self, request: TurnRequest, turn: Turn, question: Question) -> Turn:
        """Answer from a cache that others fill, too, or start generating; return the turn, which then knows."""
        reply, key = self._live(request, turn), question.key
        known = self._cache.far(key) if key and not request.regenerate else None
        if known and self._repeat(reply, known):
            self._count_repeated()
            return replace(turn, remembered=True)
        reply.key_id = request.key_id
        reply.copy(question.leader)
        if key and not request.regenerate:
            self._tally.count(CACHE_ANSWERS, "hit" if question.leader else "miss")
        self.live[reply.id] = reply
        self._journal.streams = len(self.live)
        background(self._generate, reply, question, name=f"reply-{reply.id}")
        return replace(turn, reply=reply)

    def _live(self, request: TurnRequest, turn: Turn) -> LiveReply:
        row = Message(
            id=turn.reply_id, conversation_id=turn.conversation_id, parent_id=None, position=0, role=Role.ASSISTANT,
            content="", timestamp=turn.created_at, status=Status.GENERATING, model=turn.model,
        )  # fmt: skip
        return LiveReply(self._lease(request, row), row, request.allowances)

    def _repeat(self, reply: LiveReply, answer: Answer) -> bool:
        """Fill a reply with a remembered answer; return False where the one it came from is not stored any more."""
        final = repeated(reply.message, answer)
        bill = self._limiter.bill(reply.lease, final, reply.allowances)

        def fill(connection: Connection) -> bool:
            if not _is_kept(connection, reply.lease.owner, answer):
                return False
            connection.append([Append(reply.id, 0, Delta(answer.text, answer.reasoning))])
            ended = end_reply(connection, reply.lease, final) is final
            if ended:
                connection.ledger.take(bill.subjects, now_us(), tokens=bill.tokens)
            return ended

        filled = self._journal.write(fill, brief=True, subjects=bill.subjects)
        if filled:
            self._limiter.charge(bill)
        return filled

    def _count_repeated(self) -> None:
        self._tally.count(CACHE_ANSWERS, "hit")
        self._tally.count(TURNS, Status.COMPLETED)

    def _generate(self, reply: LiveReply, question: Question) -> None:
        """Stream a reply into the journal, whoever listens."""
        finish: Finish | None = None
        problem: Problem | None = None
        try:
            finish = self._answer(reply, question)
        except ProviderError as error:
            problem = without_frames(error)
        except Exception:
            log.exception("generating reply %s failed", reply.id)
            problem = errors.InternalError()
        self._finish_turn(reply, finish, problem, question)

    def _answer(self, reply: LiveReply, question: Question) -> Finish | None:
        """Copy the running reply to the same question, or ask the provider where there is none.

        A copy whose leader ended without a word asks for itself: one of all such copies leads, the others follow it.
        """
        while reply.leader is not None:
            finish = self._receive(reply, self._copy_of(reply.leader))
            if finish is not None or reply.received or reply.ending is not None:
                return finish
            reply.copy(self._lead(reply, question))
        return self._receive(reply, self._provider.stream_reply(question.prompt))

    def _copy_of(self, leader: Lease) -> CopyCall:
        return CopyCall(partial(self.follow_turn, leader.conversation_id, leader.reply_id, 0))

    def _lead(self, reply: LiveReply, question: Question) -> Lease | None:
        """Let a reply answer its question for all; return the lease of the reply that does so already, if any."""
        key, lease = question.key or b"", reply.lease
        return self._journal.write(
            lambda connection: leases.ask(connection, lease.conversation_id, lease.reply_id, key), patient=True
        )

    def _receive(self, reply: LiveReply, call: Call) -> Finish | None:
        """Append every delta; return the provider's word that the reply is whole, if it gave one."""
        finish: Finish | None = None

        def receive(piece: Delta | Finish) -> None:
            nonlocal finish
            if isinstance(piece, Finish):
                finish = piece
                return
            if not reply.received and not reply.message.cached:
                self._tally.observe(FIRST_TOKEN_SECONDS, time.monotonic() - reply.begun)
            reply.receive(piece)
            if reply.received > self._settings.max_reply:
                reply.end(Ending.TOO_LONG)
            else:
                self._journal.append(reply, piece)

        reply.attach(call)
        call.deliver(receive)
        return finish

    def _finish_turn(
        self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question
    ) -> None:
        """Store how a reply ended and what it used, learn it where it is whole, and tell its followers."""
        (final, problem), key = outcome(reply, finish, problem), question.key
        try:
            stored = self._end(reply, final, question)
            if stored is None:
                problem = NotFound("The conversation was deleted while its reply was generated.")
            elif stored.status != final.status:
                problem = problem_of(stored)
            if stored is final:
                self._count(final, problem, time.monotonic() - reply.begun)
            if key and stored and stored.status is Status.COMPLETED and reply.is_new_here:
                self._cache.put(key, reply.answer(stored))
            whole = replace(stored, content=reply.text, reasoning=reply.reasoning) if stored else None
            reply.close(End(whole, problem))
        except Problem as error:
            reply.close(End(None, error))
        finally:
            self.live.pop(reply.id, None)
            self._journal.streams = len(self.live)

    def _end(self, reply: LiveReply, final: Message, question: Question) -> Message | None:
        """Store how a reply ended and charge what it used; return it as it is stored, None where it is gone."""

        def end(connection: Connection) -> tuple[Message | None, Bill]:
            said = final if final.usage else _said(connection, reply, final)
            bill = self._limiter.bill(reply.lease, said, reply.allowances, question.prompt)
            stored = end_reply(connection, reply.lease, final)
            if stored is not None and stored.status is Status.GENERATING:
                stored = None  # nobody ended it: it goes with its conversation, which waits for the sweep
            if stored is None or stored is final:  # what was deleted meanwhile was used, too
                connection.ledger.take(bill.subjects, now_us(), tokens=bill.tokens)
            return stored, bill

        subjects = self._limiter.charged(reply.allowances)
        stored, bill = self._journal.write(end, patient=True, brief=True, subjects=subjects)
        self._limiter.charge(bill)
        return stored

    def _count(self, ended: Message, problem: Problem | None, seconds: float) -> None:
        """Count a reply that this process has ended; one that copied another cost nothing."""
        self._tally.count(TURNS, ended.status)
        self._tally.observe(TURN_SECONDS, seconds)
        if isinstance(problem, ProviderError) and not ended.cached:
            self._tally.count(PROVIDER_ERRORS, problem.code)
        if ended.usage and not ended.cached:
            self._tally.count(TOKENS, "input", by=ended.usage.input_tokens)
            self._tally.count(TOKENS, "output", by=ended.usage.output_tokens)

    def follow_taken(self, turn: Turn, events: Events | None = None) -> Iterator[Event]:
        """Yield the events of a turn's reply from its beginning, with all that is known of how it ends."""
        if turn.row:
            return iter([Delta(turn.row.content, turn.row.reasoning), End(turn.row)])
        if turn.reply:
            return turn.reply.follow(events=events)
        return self.follow_turn(turn.conversation_id, turn.reply_id, events=events)

    def follow_turn(
        self, conversation_id: UUID, reply_id: UUID, after: int = 0, events: Events | None = None
    ) -> Iterator[Event]:
        """Yield a reply's events from ``after`` characters of its text on, up to its `End`.

        Woken where this process generates the reply; read from its row where another does, or did. An `End` that
        somebody puts into ``events`` ends the following, too.
        """
        reply = self.live.get(reply_id)
        if reply is not None:
            return reply.follow(after, events)
        return follow_row(self._database, conversation_id, reply_id, after, events)

    def stop_turn(self, owner: str, conversation_id: UUID) -> UUID | None:
        """Stop a conversation's running reply, in whichever process; return its id if there is one.

        Raises `NotFound`, `StoreUnavailable`.
        """

        def ask(connection: Connection) -> Lease | None:
            if conversations.get(connection, owner, conversation_id, now_us()) is None:
                raise NotFound(NO_CONVERSATION)
            lease = leases.of_conversation(connection, conversation_id)
            if lease is not None and lease.reply_id not in self.live:
                leases.ask_to_stop(connection, lease)
            return lease

        lease = self._journal.write(ask)
        if lease is None:
            return None
        reply = self.live.get(lease.reply_id)
        if reply is not None:
            reply.end(Ending.STOPPED)
        return lease.reply_id

    def forget_answers(self) -> None:
        """Forget every answer that this process remembers."""
        self._cache.clear()

    def abandon(self, reply_id: UUID) -> None:
        """Stop a reply whose only reader went away, where this process still generates it."""
        reply = self.live.get(reply_id)
        if reply is not None:
            reply.end(Ending.STOPPED)


def _said(connection: Connection, reply: LiveReply, final: Message) -> Message:
    """Return how a reply ends with all its text, the last of which this transaction has stored."""
    row = messages.get(connection, reply.lease.conversation_id, reply.id)
    text, reasoning = (row.content, row.reasoning) if row else (reply.text, reply.reasoning)
    return replace(final, content=text, reasoning=reasoning)


def _passed(request: TurnRequest, screen: Screen) -> TurnRequest:
    """Return a request as it may be stored and sent. Raises `SensitiveContent`."""
    system, metadata = request.system, request.metadata
    return replace(
        request,
        message=screen.passed(request.message, "message"),
        system=screen.passed(system, "system") if isinstance(system, str) else system,
        metadata=metadata if isinstance(metadata, EllipsisType) else screen.passed_json(metadata, "metadata"),
    )


def _is_kept(connection: Connection, owner: str, answer: Answer) -> bool:
    """Return whether the reply that an answer comes from is stored, and no cache was cleared since."""
    return (
        answer.stored_at > marks.get(connection, CACHE_CLEARED)
        and conversations.get(connection, owner, answer.conversation_id, now_us()) is not None
        and messages.progress(connection, answer.reply_id) is not None
    )


def end_reply(connection: Connection, lease: Lease, final: Message) -> Message | None:
    """Store how a reply ended, unless somebody else did before; return it as it is stored, None where it is gone.

    Of all who end a reply the one that gives the lease back has ended it.
    """
    if leases.give_back(connection, lease):
        messages.finish(connection, final)
        conversations.touch(connection, lease.conversation_id, now_us())
        return final
    return messages.get(connection, lease.conversation_id, lease.reply_id)


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
    messages.switch_branch(connection, conversation.id, found.parent_id)
    return replace(conversation, current_id=found.parent_id, forks=conversation.forks + 1)


def _known(connection: Connection, request: TurnRequest, now: int) -> Turn | None:
    """Return the turn that the request's key stands for already, if any."""
    if request.idempotency_key is None:
        return None
    known = idempotency.get(connection, request.owner, request.idempotency_key, now)
    if known is None:
        return None
    if known.request_hash != request.fingerprint:
        raise KeyReused("Send a new Idempotency-Key with a new request.")
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
    mine = idempotency.Known(request.fingerprint, conversation_id, reply_id)
    try:
        idempotency.insert(connection, request.owner, request.idempotency_key, mine, now)
    except Duplicate:
        return _known(connection, request, now)
    return None
