"""Generate a reply: stream it from the provider into the journal, and store how it ended.

A background thread of the process does so. The reply belongs to the process, not to the request that asked for it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID

from msgspec.structs import replace

from chatkeep import errors
from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import STOP, Delta, Finish, Message, Prompt, Status, now_us
from chatkeep.errors import (
    ContextTooLong,
    NotFound,
    Problem,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRefused,
    StoreUnavailable,
    stored_in_part,
    without_frames,
)
from chatkeep.i18n import _
from chatkeep.limiting.storage import StorageQuota
from chatkeep.provider import Call, Provider
from chatkeep.runtime.concurrency import background
from chatkeep.runtime.logs import named
from chatkeep.runtime.metrics import FIRST_TOKEN_SECONDS, PROVIDER_ERRORS, TOKENS, TURN_SECONDS, TURNS, Registry
from chatkeep.store import conversations, leases, messages
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from chatkeep.store.leases import Lease
from chatkeep.store.transaction import Transaction
from chatkeep.turns.begin import Question
from chatkeep.turns.cache import Cache
from chatkeep.turns.live import End, Event, Events, FollowerCall, LiveReply, StopReason
from chatkeep.turns.outcome import end_reply, outcome, problem_of
from chatkeep.turns.prompt import alternating, answered_prompt, shorter_prompts

log = logging.getLogger(__name__)
# With these statuses the provider refuses every prompt: the key, the model or the address is wrong.
_NOT_THE_PROMPT = {401, 404, 405}
_END_NOT_STORED = _("The end of this reply could not be stored; what was shown is kept.")
Follow = Callable[[UUID, UUID, int, Events], Iterator[Event]]


class ReplyGenerator:
    """Generates the replies of one process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        journal: Journal,
        provider: Provider,
        cache: Cache,
        registry: Registry,
        follow: Follow,
    ) -> None:
        """``follow`` yields the events of a reply of any process, for replies that copy another one."""
        self.live: dict[UUID, LiveReply] = {}
        """The replies that are being generated."""
        self._settings = settings
        self._database = database
        self._journal = journal
        self._provider = provider
        self._cache = cache
        self._registry = registry
        self._follow = follow
        self._quota = StorageQuota.of(settings)
        self._is_shared = settings.redis_url is not None
        self._erasures = 0
        """How many erasures this process has noticed."""

    def start(self, reply: LiveReply, question: Question) -> None:
        """Start a thread that generates a reply."""
        self.live[reply.id] = reply
        self._journal.streams = len(self.live)
        try:
            background(self._generate, reply, question, name=f"reply-{reply.id}")
        except RuntimeError:
            log.exception("no thread can be started for reply %s", reply.id)
            self._finish(reply, None, errors.InternalError(), question)

    def forget_answers(self) -> None:
        """Clear this process's cache of answers, because an end user was erased."""
        self._erasures += 1
        self._cache.clear()

    def _generate(self, reply: LiveReply, question: Question) -> None:
        """Stream a reply into the journal, whether anything follows it or not."""
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
        self._finish(reply, finish, problem, question)

    def _answer(self, reply: LiveReply, question: Question) -> Finish | None:
        """Copy the running reply to the same question, or ask the provider if there is none.

        If the leader ends without text, one of its followers becomes the new leader.
        """
        while reply.leader is not None:
            finish = self._receive(reply, self._copy_of(reply.leader))
            if finish is not None or reply.received or reply.ending is not None:
                return finish
            reply.copy(self._lead(reply, question))
        return self._ask(reply, question.prompt)

    def _ask(self, reply: LiveReply, prompt: Prompt) -> Finish | None:
        """Ask the provider, again with fewer messages while one of them may be why it refuses the prompt."""
        shorter = shorter_prompts(prompt)
        while True:
            reply.prompt = prompt
            try:
                return self._receive(reply, self._provider.stream_reply(alternating(prompt)))
            except ProviderRefused as error:
                fewer = None if reply.received else _fewer(prompt, error, shorter)
                if fewer is None:
                    raise
                # The error that ends the reply is counted at its end.
                self._registry.count(PROVIDER_ERRORS, error.code)
                prompt = fewer

    def _copy_of(self, leader: Lease) -> FollowerCall:
        return FollowerCall(partial(self._follow, leader.conversation_id, leader.reply_id, 0))

    def _lead(self, reply: LiveReply, question: Question) -> Lease | None:
        """Make a reply the leader of its question; return the lease of the leader that there is already, if any."""
        key, lease = question.key or b"", reply.lease
        return self._journal.write(
            lambda transaction: leases.ask(transaction, lease.conversation_id, lease.reply_id, key), retry_until_up=True
        )

    def _receive(self, reply: LiveReply, call: Call) -> Finish | None:
        """Append every delta; return the provider's finish, if it sent one."""
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

    def _finish(self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question) -> None:
        """Store how a reply ended and notify its followers, whatever fails."""
        end = End(None, errors.InternalError())
        try:
            end = self._ended(reply, finish, problem, question)
        except Problem as error:
            log.error("the end of reply %s cannot be stored: %s", reply.id, error)  # noqa: TRY400 - the database's fault
            end = End(None, without_frames(error))
        except Exception:
            log.exception("ending reply %s failed", reply.id)
            with contextlib.suppress(Exception):  # the watchdog soon ends what is not stored now
                end = self._failed(reply)
        finally:
            reply.close(end)
            self.live.pop(reply.id, None)
            self._journal.streams = len(self.live)

    def _ended(self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question) -> End:
        """Store how a reply ended, and cache it if it is whole; return its followers' last event."""
        erasures = self._erasures
        with stored_in_part(_END_NOT_STORED):
            final, problem, stored = self._end(reply, finish, problem, question)
        if stored is final:
            self._count(final, problem, time.monotonic() - reply.begun)
        key = question.key
        if key and stored and _is_worth_remembering(stored) and reply.is_new_here:
            self._cache.put(key, reply.answer(stored))
            if self._is_shared or erasures != self._erasures:
                self._forget_if_erased(reply)
        return _told(reply, final, problem, stored)

    def _forget_if_erased(self, reply: LiveReply) -> None:
        """Take an answer out of the caches if an erasure has cleared them before the answer was put there."""
        with contextlib.suppress(StoreUnavailable):
            if self._database.read(lambda connection: messages.progress(connection, reply.id)) is None:
                self._cache.forget(reply.lease.owner)

    def _failed(self, reply: LiveReply) -> End:
        """Store that a reply ended by an internal error, unless its end is stored; return its followers' last event."""
        final, problem = outcome(reply, None, errors.InternalError())
        stored = self._journal.write(
            lambda transaction: end_reply(transaction, reply.lease, final, self._quota),
            retry_until_up=True,
            inline=True,
        )
        return _told(reply, final, problem, stored)

    def _end(
        self, reply: LiveReply, finish: Finish | None, problem: Problem | None, question: Question
    ) -> tuple[Message, Problem | None, Message | None]:
        """Store how a reply ended and charge its tokens.

        Returns how it was to end, the problem that it ended with, and the reply as stored; None if it was deleted.
        """

        def end(transaction: Transaction) -> tuple[Message, Problem | None, Message | None]:
            # Evaluated here, after the last text is stored: the database may refuse it.
            final, told = outcome(reply, finish, problem)
            said = final if final.usage else _said(transaction, reply, final)
            stored = end_reply(transaction, reply.lease, final, self._quota)
            if stored is not None and stored.status is Status.GENERATING:
                stored = None  # its conversation was deleted, and the sweeper has not reached it yet
            ends = stored is None or stored is final  # a deleted reply has used its tokens as well
            admission.charge(transaction, said, reply.prompt or question.prompt, ends=ends)
            if stored and admission.erased:  # the erasure has not reached it yet or, on a cluster, has missed it
                stored = None
                conversations.expire(transaction, reply.lease.owner, reply.lease.conversation_id, now_us())
            return final, told, stored

        admission = question.admission
        result = self._journal.write(end, retry_until_up=True, inline=True, subjects=admission.charged_subjects)
        admission.settle()
        return result

    def _count(self, ended: Message, problem: Problem | None, seconds: float) -> None:
        """Count a reply that this process has ended; a copied one cost nothing."""
        self._registry.count(TURNS, ended.status)
        self._registry.observe(TURN_SECONDS, seconds)
        if isinstance(problem, ProviderError) and not ended.cached:
            self._registry.count(PROVIDER_ERRORS, problem.code)
        if ended.usage and not ended.cached:
            self._registry.count(TOKENS, "input", by=ended.usage.input_tokens)
            self._registry.count(TOKENS, "output", by=ended.usage.output_tokens)


def _fewer(prompt: Prompt, error: ProviderRefused, shorter: Iterator[Prompt]) -> Prompt | None:
    """Return a shorter prompt after the provider refused one; None if a shorter one cannot help."""
    if isinstance(error, ContextTooLong):
        return next(shorter, None)
    if error.upstream_status in _NOT_THE_PROMPT or isinstance(error, ProviderQuotaExceeded):
        return None
    return answered_prompt(prompt)


def _told(reply: LiveReply, final: Message, problem: Problem | None, stored: Message | None) -> End:
    """Return the last event of a reply that was to end as ``final`` and is ``stored``, perhaps with another end."""
    if stored is None:
        return End(None, NotFound(_("The conversation was deleted while its reply was generated.")))
    whole = replace(stored, content=reply.text, reasoning=reply.reasoning)
    return End(whole, problem if stored.status == final.status else problem_of(stored))


def _is_worth_remembering(stored: Message) -> bool:
    """Return whether a reply is whole: no refusal, and no unknown finish reason."""
    return stored.status is Status.COMPLETED and stored.finish_reason == STOP


def _said(transaction: Transaction, reply: LiveReply, final: Message) -> Message:
    """Return how a reply ends with all its text, including the deltas that this transaction has just stored."""
    row = messages.get(transaction, reply.lease.conversation_id, reply.id)
    text, reasoning = (row.content, row.reasoning) if row else (reply.text, reply.reasoning)
    return replace(final, content=text, reasoning=reasoning)
