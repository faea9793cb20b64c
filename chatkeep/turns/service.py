"""Take a turn, follow it, stop it: the heart.

A turn's way: `begin_turn` stores the user message and the reply's row in one transaction (`TurnStarter.begin`); a
background thread streams the reply from the provider into the journal; followers see what is committed;
`_finish_turn` stores how it ended. The reply belongs to this process and not to the request that asked for it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from uuid import UUID

from msgspec.structs import replace

from chatkeep import errors
from chatkeep.config.settings import Settings
from chatkeep.conversations import branches
from chatkeep.domain.conversation import STOP, Delta, Finish, Message, Prompt, Role, Status, new_id, now_us
from chatkeep.domain.quota import UsageRecord
from chatkeep.errors import (
    NO_CONVERSATION,
    ContextTooLong,
    DatabaseRefused,
    NotFound,
    Problem,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
    ServerStopping,
    stored_in_part,
    without_frames,
)
from chatkeep.limiting.limiter import Limiter
from chatkeep.limiting.storage import StorageQuota
from chatkeep.provider import Call, Provider
from chatkeep.redaction.policies import RedactionPolicy
from chatkeep.runtime.concurrency import background
from chatkeep.runtime.logs import named
from chatkeep.runtime.metrics import (
    CACHE_ANSWERS,
    COMMIT_SECONDS,
    FIRST_TOKEN_SECONDS,
    PROVIDER_ERRORS,
    TOKENS,
    TURN_SECONDS,
    TURNS,
    Registry,
)
from chatkeep.store import conversations, leases, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.sql import Append, Connection
from chatkeep.turns.begin import Question, Turn, TurnRequest, TurnStarter, is_kept
from chatkeep.turns.cache import Answer, Cache
from chatkeep.turns.live import End, Event, Events, FollowerCall, LiveReply, StopReason, end_reply, outcome, problem_of
from chatkeep.turns.poll import follow_row
from chatkeep.turns.prompt import alternating, answered_prompt, shorter_prompts
from chatkeep.turns.rows import repeated

log = logging.getLogger(__name__)
# Refused with these, every prompt would be: the key, the model or the address is wrong.
_NOT_THE_PROMPT = {401, 404, 405}


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
        self.live: dict[UUID, LiveReply] = {}
        self._settings = settings
        self._database = database
        self._journal = journal
        self._provider = provider
        self._cache = cache
        self._limiter = limiter
        self._registry = registry
        self._policy = policy
        self._quota = StorageQuota.of(settings)
        self._starter = TurnStarter(settings, cache, limiter, self.worker_id)
        self._stopping = False

    def refuse(self) -> None:
        """Take no more turns: the process stops."""
        self._stopping = True

    def interrupt_all(self) -> None:
        """End every reply with what there is of it, because the process stops; take no more turns."""
        self.refuse()
        for reply in list(self.live.values()):
            reply.end(StopReason.SHUTDOWN)

    def begin_turn(self, request: TurnRequest) -> Turn:
        """Store the user message and the reply's row, then have the reply generated; return once both are durable.

        Raises `NotFound`, `TurnRunning`, `KeyReused`, `RateLimited`, `SensitiveContent`, `StoreUnavailable`,
        `ServerStopping`.
        """
        if self._stopping:
            raise ServerStopping(retry_after=1)
        if self._policy:
            request = self._policy.apply_to_record(request)
        with self._on_its_way(request) as taken:
            turn = self._take(request)
            taken(turn)
        return turn

    @contextmanager
    def _on_its_way(self, request: TurnRequest) -> Iterator[Callable[[Turn], None]]:
        """Switch to where a turn goes on, if one transaction couldn't; and back, unless a new turn is ``taken``."""
        replaced, of = request.regenerate or request.edit, request.conversation_id
        if replaced is None or of is None:
            yield lambda _turn: None
            return
        before = branches.make_way(self._database, self._journal, request.owner, of, replaced)
        turns: list[Turn] = []
        try:
            with stored_in_part(branches.IN_PART) if before else nullcontext():
                yield turns.append
        finally:
            if before is not None and not any(turn.is_new for turn in turns):
                with contextlib.suppress(Problem):
                    branches.switch(self._database, self._journal, before, before.current_id)

    def _take(self, request: TurnRequest) -> Turn:
        reply_id, model = new_id(), request.model or self._provider.default_model
        begun = time.monotonic()
        with self._limiter.asking(request.quotas) as admission:
            turn = self._journal.write(
                lambda connection: self._starter.begin(connection, request, admission, reply_id, model),
                inline=not (request.edit or request.regenerate),  # these go through the messages of a branch
                subjects=admission.subjects + self._quota.subjects(request.owner),
            )
        self._registry.observe(COMMIT_SECONDS, time.monotonic() - begun)
        if turn.question:
            return self._begin(request, turn, turn.question)
        if turn.usage_record:
            self._count_repeated()
            self._limiter.charge(turn.usage_record)
        return turn

    def _begin(self, request: TurnRequest, turn: Turn, question: Question) -> Turn:
        """Answer from a cache that others fill, too, or start generating; return the turn, which then knows."""
        reply, key = _live(request, turn, question), question.key
        known = self._cache.get_shared(key) if key and not request.regenerate else None
        if known and self._repeat(reply, known):
            self._count_repeated()
            return replace(turn, remembered=True)
        reply.key_id = request.key_id
        reply.copy(question.leader)
        if key and not request.regenerate:
            self._registry.count(CACHE_ANSWERS, "hit" if question.leader else "miss")
        self.live[reply.id] = reply
        self._journal.streams = len(self.live)
        try:
            background(self._generate, reply, question, name=f"reply-{reply.id}")
        except RuntimeError:
            log.exception("no thread can be started for reply %s", reply.id)
            self._finish_turn(reply, None, errors.InternalError(), question)
        return replace(turn, reply=reply)

    def _repeat(self, reply: LiveReply, answer: Answer) -> bool:
        """Fill a reply with a remembered answer; return False where the one it came from is not stored any more.

        The turn is stored already, so that this waits for a database that is away, as its text would.
        """
        final = repeated(reply.message, answer)
        usage_record = self._limiter.usage_record(reply.lease, final, reply.quotas)

        def fill(connection: Connection) -> bool:
            if not is_kept(connection, reply.lease.owner, answer):
                return False
            connection.append([Append(reply.id, 0, Delta(answer.text, answer.reasoning))])
            stored = end_reply(connection, reply.lease, final, self._quota)
            if stored is final:
                connection.ledger.charge(usage_record.subjects, now_us(), tokens=usage_record.tokens)
            # Completed it is also if an earlier try was stored and did not say so.
            return stored is not None and stored.status is Status.COMPLETED

        subjects = usage_record.subjects + self._quota.subjects(reply.lease.owner)
        try:
            filled = self._journal.write(fill, retry_until_up=True, inline=True, subjects=subjects)
        except DatabaseRefused as error:
            log.error("a remembered answer cannot be stored: %s", error)  # noqa: TRY400 - the database's fault
            return False
        if filled:
            self._limiter.charge(usage_record)
        return filled

    def _count_repeated(self) -> None:
        self._registry.count(CACHE_ANSWERS, "hit")
        self._registry.count(TURNS, Status.COMPLETED)

    def _generate(self, reply: LiveReply, question: Question) -> None:
        """Stream a reply into the journal, whoever listens."""
        finish: Finish | None = None
        problem: Problem | None = None
        try:
            finish = self._answer(reply, question)
        except ProviderError as error:
            problem = without_frames(error)
            log.warning("reply %s failed at the provider: %s", reply.id, named(error))
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
        return self._ask(reply, question.prompt)

    def _ask(self, reply: LiveReply, prompt: Prompt) -> Finish | None:
        """Ask the provider, with ever fewer messages while it refuses the prompt for what may be one of them."""
        shorter = shorter_prompts(prompt)
        while True:
            reply.prompt = prompt
            try:
                return self._receive(reply, self._provider.stream_reply(alternating(prompt)))
            except ProviderRefused as error:
                fewer = None if reply.received else _fewer(prompt, error, shorter)
                if fewer is None:
                    raise
                # The one that the reply ends with is counted by the turn.
                self._registry.count(PROVIDER_ERRORS, error.code)
                prompt = fewer

    def _copy_of(self, leader: Lease) -> FollowerCall:
        return FollowerCall(partial(self.follow_turn, leader.conversation_id, leader.reply_id, 0))

    def _lead(self, reply: LiveReply, question: Question) -> Lease | None:
        """Let a reply answer its question for all; return the lease of the reply that does so already, if any."""
        key, lease = question.key or b"", reply.lease
        return self._journal.write(
            lambda connection: leases.ask(connection, lease.conversation_id, lease.reply_id, key), retry_until_up=True
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
                self._registry.observe(FIRST_TOKEN_SECONDS, time.monotonic() - reply.begun)
            reply.receive(piece)
            if reply.received > self._settings.max_reply:
                reply.end(StopReason.TOO_LONG)
            else:
                self._journal.append(reply, piece)

        reply.attach(call)
        call.deliver(receive)
        return finish

    def _finish_turn(
        self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question
    ) -> None:
        """Store how a reply ended, and tell its followers, whatever goes wrong."""
        end = End(None, errors.InternalError())
        try:
            end = self._ended(reply, finish, problem, question)
        except Problem as error:
            log.error("the end of reply %s cannot be stored: %s", reply.id, error)  # noqa: TRY400 - the database's fault
            end = End(None, without_frames(error))
        except Exception:
            log.exception("ending reply %s failed", reply.id)
            with contextlib.suppress(Exception):  # what is not stored now the watch ends soon
                end = self._failed(reply)
        finally:
            reply.close(end)
            self.live.pop(reply.id, None)
            self._journal.streams = len(self.live)

    def _ended(self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question) -> End:
        """Store how a reply ended and what it used, and learn it if it is whole; return what its followers are told."""
        with stored_in_part("The end of this reply could not be stored; what was shown is kept."):
            final, problem, stored = self._end(reply, finish, problem, question)
        if stored is final:
            self._count(final, problem, time.monotonic() - reply.begun)
        key = question.key
        if key and stored and _is_worth_remembering(stored) and reply.is_new_here:
            self._cache.put(key, reply.answer(stored))
        return _told(reply, final, problem, stored)

    def _failed(self, reply: LiveReply) -> End:
        """Store that a reply ended by a fault of ours, unless its end is stored; return what its followers are told."""
        final, problem = outcome(reply, None, errors.InternalError())
        stored = self._journal.write(
            lambda connection: end_reply(connection, reply.lease, final, self._quota), retry_until_up=True, inline=True
        )
        return _told(reply, final, problem, stored)

    def _end(
        self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question
    ) -> tuple[Message, Problem | None, Message | None]:
        """Store how a reply ended and charge what it used.

        Returns its end, the problem that it ended with, and the reply as it is stored, None where it is gone.
        """

        def end(connection: Connection) -> tuple[Message, Problem | None, Message | None, UsageRecord]:
            # Not before all text is stored: the database may refuse the last of it.
            final, told = outcome(reply, finish, problem)
            said = final if final.usage else _said(connection, reply, final)
            usage_record = self._limiter.usage_record(reply.lease, said, reply.quotas, reply.prompt or question.prompt)
            stored = end_reply(connection, reply.lease, final, self._quota)
            if stored is not None and stored.status is Status.GENERATING:
                stored = None  # nobody ended it: it goes with its conversation, which waits for the sweep
            if stored is None or stored is final:  # what was deleted meanwhile was used, too
                connection.ledger.charge(usage_record.subjects, now_us(), tokens=usage_record.tokens)
            return final, told, stored, usage_record

        subjects = self._limiter.charged(reply.quotas) + self._quota.subjects(reply.lease.owner)
        final, told, stored, usage_record = self._journal.write(
            end, retry_until_up=True, inline=True, subjects=subjects
        )
        self._limiter.charge(usage_record)
        return final, told, stored

    def _count(self, ended: Message, problem: Problem | None, seconds: float) -> None:
        """Count a reply that this process has ended; one that copied another cost nothing."""
        self._registry.count(TURNS, ended.status)
        self._registry.observe(TURN_SECONDS, seconds)
        if isinstance(problem, ProviderError) and not ended.cached:
            self._registry.count(PROVIDER_ERRORS, problem.code)
        if ended.usage and not ended.cached:
            self._registry.count(TOKENS, "input", by=ended.usage.input_tokens)
            self._registry.count(TOKENS, "output", by=ended.usage.output_tokens)

    def follow_begun(self, turn: Turn, events: Events | None = None) -> Iterator[Event]:
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
        self.stop_here(lease.reply_id)
        return lease.reply_id

    def stop_here(self, reply_id: UUID) -> None:
        """Stop a reply, if this process is generating it."""
        reply = self.live.get(reply_id)
        if reply is not None:
            reply.end(StopReason.STOPPED)

    def forget_answers(self) -> None:
        """Forget every answer that this process remembers."""
        self._cache.clear()


def _fewer(prompt: Prompt, error: ProviderRefused, shorter: Iterator[Prompt]) -> Prompt | None:
    """Return what is left of a prompt after the provider refused it; None if leaving messages out can't help."""
    if isinstance(error, ContextTooLong):
        return next(shorter, None)
    if error.upstream_status in _NOT_THE_PROMPT or isinstance(error, ProviderQuotaExceeded):
        return None
    return answered_prompt(prompt)


def _live(request: TurnRequest, turn: Turn, question: Question) -> LiveReply:
    row = Message(
        id=turn.reply_id, conversation_id=turn.conversation_id, parent_id=None, position=0, role=Role.ASSISTANT,
        content="", timestamp=turn.created_at, status=Status.GENERATING, model=turn.model,
    )  # fmt: skip
    return LiveReply(question.lease, row, request.quotas)


def _told(reply: LiveReply, final: Message, problem: Problem | None, stored: Message | None) -> End:
    """Return what followers are told of a reply that was to end as ``final``, and is ``stored`` so or otherwise."""
    if stored is None:
        return End(None, NotFound("The conversation was deleted while its reply was generated."))
    whole = replace(stored, content=reply.text, reasoning=reply.reasoning)
    return End(whole, problem if stored.status == final.status else problem_of(stored))


def _is_worth_remembering(stored: Message) -> bool:
    """Return whether a reply is whole and an answer: no refusal, and nothing whose end we do not understand."""
    return stored.status is Status.COMPLETED and stored.finish_reason == STOP


def _said(connection: Connection, reply: LiveReply, final: Message) -> Message:
    """Return how a reply ends with all its text, the last of which this transaction has stored."""
    row = messages.get(connection, reply.lease.conversation_id, reply.id)
    text, reasoning = (row.content, row.reasoning) if row else (reply.text, reply.reasoning)
    return replace(final, content=text, reasoning=reasoning)
