"""Begin, follow and stop turns: the heart of chatkeep.

The way of a turn: `TurnStarter.begin` stores the user message and the reply's row in one transaction. `ReplyGenerator`
streams the reply from the provider into the journal in a background thread. The journal commits the deltas and hands
them to the `LiveReply`, which followers read. At last `ReplyGenerator` stores how the reply ended.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from uuid import UUID

from msgspec.structs import replace

from chatkeep.config.settings import Settings
from chatkeep.conversations import branches
from chatkeep.domain.conversation import Delta, Message, Role, Status, new_id, now_us
from chatkeep.errors import NO_CONVERSATION, DatabaseRefused, NotFound, Problem, ServerStopping, stored_in_part
from chatkeep.limiting.limiter import Admission, Limiter
from chatkeep.limiting.storage import StorageQuota
from chatkeep.provider import Provider
from chatkeep.redaction.policies import RedactionPolicy
from chatkeep.runtime.metrics import CACHE_ANSWERS, COMMIT_SECONDS, TURNS, Registry
from chatkeep.store import conversations, leases
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Append
from chatkeep.store.transaction import Transaction
from chatkeep.turns.begin import Question, Turn, TurnRequest, TurnStarter, is_kept
from chatkeep.turns.cache import Answer, Cache
from chatkeep.turns.generate import ReplyGenerator
from chatkeep.turns.live import End, Event, Events, LiveReply, StopReason
from chatkeep.turns.outcome import end_reply
from chatkeep.turns.poll import follow_row
from chatkeep.turns.rows import repeated

log = logging.getLogger(__name__)


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
        registry: Registry,
        *,
        policy: RedactionPolicy | None = None,
    ) -> None:
        self.worker_id = new_id()
        self._database = database
        self._journal = journal
        self._model = provider.default_model
        self._cache = cache
        self._limiter = limiter
        self._registry = registry
        self._policy = policy
        self._quota = StorageQuota.of(settings)
        self._starter = TurnStarter(settings, cache, self.worker_id)
        self._generator = ReplyGenerator(settings, database, journal, provider, cache, registry, self.follow_turn)
        self.live = self._generator.live
        """The replies that this process generates."""
        self._stopping = False

    def refuse(self) -> None:
        """Refuse new turns, because the process stops."""
        self._stopping = True

    def interrupt_all(self) -> None:
        """End every reply as it is, and refuse new turns, because the process stops."""
        self.refuse()
        for reply in list(self.live.values()):
            reply.end(StopReason.SHUTDOWN)

    def begin_turn(self, request: TurnRequest) -> Turn:
        """Store the user message and the reply's row, and start to generate the reply; return once both are durable.

        Raises `NotFound`, `TurnRunning`, `IdempotencyKeyReused`, `RateLimited`, `QuotaExceeded`, `SensitiveContent`,
        `StoreUnavailable`, `ServerStopping`.
        """
        if self._stopping:
            raise ServerStopping(retry_after=1)
        if self._policy:
            request = self._policy.apply_to_record(request)
        with self._on_branch(request) as begun:
            turn = self._begin(request)
            begun(turn)
        return turn

    @contextmanager
    def _on_branch(self, request: TurnRequest) -> Iterator[Callable[[Turn], None]]:
        """Switch to the turn's branch if one transaction cannot; switch back unless a new turn has begun."""
        replaced, of = request.regenerate or request.edit, request.conversation_id
        if replaced is None or of is None:
            yield lambda _turn: None
            return
        before = branches.switch_before(self._database, self._journal, request.owner, of, replaced)
        turns: list[Turn] = []
        try:
            with stored_in_part(branches.IN_PART) if before else nullcontext():
                yield turns.append
        finally:
            if before is not None and not any(turn.is_new for turn in turns):
                with contextlib.suppress(Problem):
                    branches.switch(self._database, self._journal, before, before.current_id)

    def _begin(self, request: TurnRequest) -> Turn:
        """Begin a turn, and answer it from a cache or start to generate its reply."""
        reply_id, model = new_id(), request.model or self._model
        begun = time.monotonic()
        with self._limiter.admission(request.owner, request.counts_for, request.quotas) as admission:
            turn = self._journal.write(
                lambda transaction: self._starter.begin(transaction, request, admission, reply_id, model),
                inline=not (request.edit or request.regenerate),  # these read the messages of a branch
                subjects=admission.subjects,
            )
        self._registry.observe(COMMIT_SECONDS, time.monotonic() - begun)
        if turn.question:
            return self._answer(request, turn, turn.question)
        if turn.row:
            self._count_repeated()
            admission.settle()
        return turn

    def _answer(self, request: TurnRequest, turn: Turn, question: Question) -> Turn:
        """Fill the reply from the shared cache, or start to generate it; return the turn with the result."""
        reply, key = _live(turn, question), question.key
        known = self._cache.get_shared(key) if key and not request.regenerate else None
        if known and self._repeat(reply, known, question.admission):
            self._count_repeated()
            return replace(turn, remembered=True)
        reply.key_id = request.key_id
        reply.copy(question.leader)
        if key and not request.regenerate:
            self._registry.count(CACHE_ANSWERS, "hit" if question.leader else "miss")
        self._generator.start(reply, question)
        return replace(turn, reply=reply)

    def _repeat(self, reply: LiveReply, answer: Answer, admission: Admission) -> bool:
        """Fill a reply with a cached answer; return False if the answer's own reply was deleted.

        The turn is stored already, so this waits for a database that is down, like the reply's text would.
        """
        final = repeated(reply.message, answer)

        def fill(transaction: Transaction) -> bool:
            if not is_kept(transaction, reply.lease.owner, answer):
                return False
            transaction.append([Append(reply.id, 0, Delta(answer.text, answer.reasoning))])
            stored = end_reply(transaction, reply.lease, final, self._quota)
            admission.charge(transaction, final, ends=stored is final)
            # It is completed as well if an earlier attempt was committed without an answer.
            return stored is not None and stored.status is Status.COMPLETED

        try:
            filled = self._journal.write(fill, retry_until_up=True, inline=True, subjects=admission.charged_subjects)
        except DatabaseRefused as error:
            log.error("a cached answer cannot be stored: %s", error)  # noqa: TRY400 - the database's fault
            return False
        if filled:
            admission.settle()
        return filled

    def _count_repeated(self) -> None:
        self._registry.count(CACHE_ANSWERS, "hit")
        self._registry.count(TURNS, Status.COMPLETED)

    def follow_begun(self, turn: Turn, events: Events | None = None) -> Iterator[Event]:
        """Yield the events of a turn's reply from its beginning."""
        if turn.row:
            return iter([Delta(turn.row.content, turn.row.reasoning), End(turn.row)])
        if turn.reply:
            return turn.reply.follow(events=events)
        return self.follow_turn(turn.conversation_id, turn.reply_id, events=events)

    def follow_turn(
        self, conversation_id: UUID, reply_id: UUID, after: int = 0, events: Events | None = None
    ) -> Iterator[Event]:
        """Yield a reply's events from ``after`` characters of its text on, up to its `End`.

        They come from memory if this process generates the reply, otherwise from polling its row. An `End` that is put
        into ``events`` from outside ends the following as well.
        """
        reply = self.live.get(reply_id)
        if reply is not None:
            return reply.follow(after, events)
        return follow_row(self._database, conversation_id, reply_id, after, events)

    def stop_turn(self, owner: str, conversation_id: UUID) -> UUID | None:
        """Stop a conversation's running reply, in any process; return its id if there is one.

        Raises `NotFound`, `StoreUnavailable`.
        """

        def ask(transaction: Transaction) -> Lease | None:
            if conversations.get(transaction, owner, conversation_id, now_us()) is None:
                raise NotFound(NO_CONVERSATION)
            lease = leases.of_conversation(transaction, conversation_id)
            if lease is not None and lease.reply_id not in self.live:
                leases.ask_to_stop(transaction, lease)
            return lease

        lease = self._journal.write(ask)
        if lease is None:
            return None
        self.stop_here(lease.reply_id)
        return lease.reply_id

    def stop_here(self, reply_id: UUID) -> None:
        """Stop a reply if this process generates it."""
        reply = self.live.get(reply_id)
        if reply is not None:
            reply.end(StopReason.STOPPED)

    def forget_answers(self) -> None:
        """Clear this process's cache of answers."""
        self._generator.forget_answers()


def _live(turn: Turn, question: Question) -> LiveReply:
    row = Message(
        id=turn.reply_id, conversation_id=turn.conversation_id, parent_id=None, position=0, role=Role.ASSISTANT,
        content="", timestamp=turn.created_at, status=Status.GENERATING, model=turn.model,
    )  # fmt: skip
    return LiveReply(question.lease, row)
