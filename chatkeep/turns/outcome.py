"""How a reply ends: its status, its error, and the row that stores both."""

from __future__ import annotations

from msgspec.structs import replace

from chatkeep.domain.conversation import CONTENT_FILTER, CUT, LENGTH, TOOL_CALLS, Finish, Message, Status, now_us
from chatkeep.errors import (
    EmptyReply,
    Problem,
    ProviderBroke,
    ProviderError,
    ProviderTimeout,
    ReplyInterrupted,
    problem_of_code,
)
from chatkeep.i18n import Text, _
from chatkeep.limiting.storage import StorageQuota
from chatkeep.store import conversations, leases, messages
from chatkeep.store.leases import Lease
from chatkeep.store.transaction import Transaction
from chatkeep.turns.live import LiveReply, StopReason


def outcome(reply: LiveReply, finish: Finish | None, problem: Problem | None) -> tuple[Message, Problem | None]:
    """Return how a reply ends: its row's final values, and the problem for its followers.

    Only the provider's finish reason makes a reply completed, and it wins over a stop at the same moment. It does not
    if the database has refused a part of the text, or if there is no text.
    """
    if reply.refusal is not None:
        return _ended(reply, Status.TRUNCATED if reply.written else Status.FAILED, reply.refusal)
    if finish is not None:
        return _finished(reply, finish)
    if reply.ending is StopReason.STOPPED:
        return replace(reply.message, status=Status.STOPPED), None
    if reply.ending is StopReason.TOO_LONG:
        return replace(reply.message, status=Status.TRUNCATED, finish_reason=LENGTH), None
    if reply.ending in {StopReason.LOST, StopReason.SHUTDOWN}:
        gone = ReplyInterrupted(_("What was shown is kept; ask again to get a whole reply."))
        return _ended(reply, Status.INTERRUPTED, gone)
    if reply.ending is not None:
        problem = ProviderTimeout(_("The provider was given up: {reason}.", reason=reply.ending.value))
    problem = problem or ProviderBroke(_("The provider ended the reply without a finish reason."))
    told = problem.finish if isinstance(problem, ProviderError) else None
    return _ended(reply, _cut_status(reply), problem, told)


def _finished(reply: LiveReply, finish: Finish) -> tuple[Message, Problem | None]:
    """Return the final values of a reply that the provider has ended; without text it has a problem."""
    if not (reply.has_text or finish.screened):
        return _ended(reply, _cut_status(reply), EmptyReply(_why_empty(reply, finish)), finish)
    is_cut = finish.screened or finish.reason in CUT
    return _told(reply, Status.TRUNCATED if is_cut else Status.COMPLETED, finish), None


def _why_empty(reply: LiveReply, finish: Finish) -> Text:
    """Return why a reply has no text, and what to do about it."""
    if finish.tool is not None or finish.reason == TOOL_CALLS:
        if not finish.tool:
            return _("The model called a tool instead of answering. This server offers no tools to models.")
        return _(
            "The model called the tool {name} instead of answering. This server offers no tools to models.",
            name=finish.tool,
        )
    if finish.reason == LENGTH:
        return _("The token limit was reached before the answer began. Raise max_tokens, or choose another model.")
    if finish.reason == CONTENT_FILTER:
        return _("The provider's content filter withheld the answer.")
    if reply.has_reasoned:
        return _("The model ended its reply after the reasoning, before the answer began.")
    return _(
        "The provider ended the reply without any text. The usual cause is a prompt that is too long for the model."
    )


def _cut_status(reply: LiveReply) -> Status:
    return Status.TRUNCATED if reply.received else Status.FAILED


def _ended(reply: LiveReply, status: Status, problem: Problem, finish: Finish | None = None) -> tuple[Message, Problem]:
    """Return the final values of a reply that ended with a problem, and the problem."""
    detail = None if problem.detail == problem.title else str(problem.detail)
    row = _told(reply, status, finish) if finish else replace(reply.message, status=status)
    return replace(row, error=problem.code, error_detail=detail), problem


def _told(reply: LiveReply, status: Status, finish: Finish) -> Message:
    """Return the final values of a reply with the provider's finish."""
    row = replace(reply.message, status=status, finish_reason=finish.reason, usage=finish.usage)
    return replace(row, model=finish.model or row.model)


def problem_of(message: Message) -> Problem | None:
    """Return the problem that a stored reply ended with."""
    return problem_of_code(message.error, message.error_detail) if message.error else None


def end_reply(transaction: Transaction, lease: Lease, final: Message, quota: StorageQuota) -> Message | None:
    """Store how a reply ended, unless it has already ended; return it as stored, None if it was deleted.

    Several may end a reply: its process, another one's watchdog. The one that releases the lease has ended it.
    """
    if leases.release(transaction, lease):
        messages.finish(transaction, final)
        conversations.touch(transaction, lease.conversation_id, now_us())
        quota.add_reply(transaction, lease)
        return final
    return messages.get(transaction, lease.conversation_id, lease.reply_id)
