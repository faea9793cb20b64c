"""A call of every function of the store, for tests of the statements' plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from chatkeep.domain.audit import COMMAND_LINE, Action, AuditEvent
from chatkeep.domain.conversation import Conversation, Message, new_id, now_us
from chatkeep.domain.quota import WindowUsage
from chatkeep.domain.usage import UsageKey, UsageTotals
from chatkeep.store import (
    audit,
    conversations,
    counters,
    epochs,
    exports,
    fences,
    holdings,
    idempotency,
    imports,
    jobs,
    keys,
    leadership,
    leases,
    messages,
    metrics,
    shares,
    tombstones,
    usage,
    windows,
)
from tests.store.examples import a_conversation, a_message
from tests.store.rows import CONVERSATIONS, NOW

CONVERSATION: Conversation = a_conversation(owner="owner 1")


POSITION = conversations.Position(NOW, CONVERSATION.id, NOW * 2)


MESSAGE: Message = a_message(CONVERSATION)


LEASE = leases.Lease(CONVERSATION.id, MESSAGE.id, new_id(), stop=False)


KNOWN = idempotency.IdempotencyRecord(bytes(32), CONVERSATION.id, MESSAGE.id)


JOB = jobs.Job(new_id(), "me", "{}", NOW)


KEY = keys.Key(new_id(), "12345678", bytes(32), "name", "local", ("chat", "read"), NOW)


SHARE = shares.Share(CONVERSATION.id, "owner 1", bytes(32), MESSAGE.id, NOW)


SPAN = {"names": ["chatkeep_sample_1", "chatkeep_sample_2"], "first": 100, "last": 160, "step": 10}


FILTERS = [
    conversations.Filter(query, pinned) for query in (None, "text", "text 中文") for pinned in (None, True, False)
]


SPENDER = UsageKey("account 1", 7, "owner 1", bytes(16), "a model")


CALLS: dict[Callable[..., Any], list[dict[str, Any]]] = {
    conversations.get: [{"owner": "owner 1", "id": CONVERSATION.id, "now": NOW}],
    conversations.lock: [{"owner": "owner 1", "id": CONVERSATION.id, "now": NOW}],
    conversations.insert: [{"conversation": CONVERSATION}],
    conversations.update: [{"conversation": CONVERSATION}],
    conversations.touch: [{"id": CONVERSATION.id, "now": NOW}],
    conversations.delete: [{"owner": "owner 1", "id": new_id(), "now": NOW}],
    conversations.expire: [{"owner": "owner 1", "id": new_id(), "now": NOW}],
    conversations.expired: [{"now": NOW, "limit": 20}],
    conversations.count_expired: [{"now": NOW}],
    conversations.remove: [{"owner": "owner 1", "id": new_id(), "now": NOW}],
    conversations.lock_some: [{"owner": "owner 1", "limit": 20}],
    conversations.end_reply: [{"id": new_id()}],
    conversations.by_activity: [
        {"owner": "owner 1", "now": NOW, "limit": 20, "after": after, "ascending": ascending, "only": only}
        for after in (None, POSITION)
        for ascending in (True, False)
        for only in FILTERS
    ],
    conversations.by_creation: [
        {"owner": "owner 1", "now": NOW, "limit": 20, "after": after, "ascending": ascending, "only": only}
        for after in (None, CONVERSATION.id)
        for ascending in (True, False)
        for only in FILTERS
    ],
    conversations.latest: [{"owner": "owner 1"}],
    messages.insert: [{"message": MESSAGE}],
    messages.get: [{"conversation_id": CONVERSATION.id, "id": MESSAGE.id}],
    messages.latest: [{"conversation_id": CONVERSATION.id, "until": now_us(), "limit": 10}],
    messages.page: [
        {"conversation_id": CONVERSATION.id, "limit": 20, "after": after, "ascending": ascending}
        for after in (None, MESSAGE.id)
        for ascending in (True, False)
    ],
    messages.last_up_to: [{"conversation_id": CONVERSATION.id, "tip": MESSAGE.id, "limit": 10}],
    messages.ancestors: [{"conversation_id": CONVERSATION.id, "id": MESSAGE.id}],
    messages.newer: [{"conversation_id": CONVERSATION.id, "after": 0, "limit": 20}],
    messages.timestamp_of: [{"conversation_id": CONVERSATION.id, "id": MESSAGE.id}],
    messages.span: [
        {"conversation_id": CONVERSATION.id, "until": NOW * 2, "skip": 0, "limit": 20, "forked": forked}
        for forked in (False, True)
    ],
    messages.count_until: [{"conversation_id": CONVERSATION.id, "until": NOW}],
    messages.get_many: [{"ids": [MESSAGE.id]}],
    messages.finish: [{"reply": MESSAGE}],
    messages.count: [{"conversation_id": CONVERSATION.id}],
    messages.is_long: [{"conversation_id": CONVERSATION.id}],
    messages.progress: [{"id": MESSAGE.id}],
    messages.progress_of: [{"ids": [MESSAGE.id, new_id()]}],
    messages.leave_branch: [{"conversation_id": CONVERSATION.id, "after": 0}],
    messages.join_branch: [{"ids": [MESSAGE.id, new_id()]}],
    messages.forks: [{"conversation_id": CONVERSATION.id}],
    messages.siblings: [
        {"conversation_id": CONVERSATION.id, "shown": [MESSAGE, replace(MESSAGE, parent_id=parent)]}
        for parent in (None, MESSAGE.id)
    ],
    holdings.remove_unused: [{"owner": "owner 1"}],
    holdings.hold: [{"owners": ["owner 1", "new owner"]}],
    holdings.get: [{"owner": "owner 1"}],
    holdings.add: [{"owner": "owner 1", "more": holdings.Stored(1, 1)}],
    holdings.add_reply: [{"owner": "owner 1", "reply_id": MESSAGE.id}],
    holdings.subtract: [{"owner": "owner 1", "conversation_id": CONVERSATION.id}],
    holdings.subtract_some: [{"owner": "owner 1", "ids": [MESSAGE.id, new_id()]}],
    holdings.drift: [{"owner": "owner 1"}],
    holdings.next_owner: [{"after": "owner 1"}],
    idempotency.get: [{"owner": "owner 1", "key": "key 1", "now": NOW}],
    idempotency.insert: [{"owner": "owner 1", "key": "new", "known": KNOWN, "now": NOW}],
    idempotency.of_owner: [{"owner": "owner 1", "after": "", "limit": 20}],
    idempotency.forget: [{"owner": "owner 1", "limit": 20}],
    idempotency.expire: [{"now": NOW, "limit": 20}],
    tombstones.bury: [{"owner": "owner 1", "id": new_id(), "reason": "deleted", "now": NOW}],
    tombstones.unbury: [{"id": new_id()}],
    tombstones.owner_of: [{"id": new_id()}],
    tombstones.page: [{"owner": "owner 1", "epoch": 3, "after": new_id().bytes, "limit": 20}],
    tombstones.forget: [{"before": NOW, "limit": 20}],
    jobs.insert: [{"job": JOB}],
    jobs.get: [{"owner": "owner 1", "id": JOB.id, "now": NOW}],
    jobs.newest: [
        {"owner": "me", "now": NOW, "limit": 20, "after": after, "ascending": ascending}
        for after in (None, JOB.id)
        for ascending in (True, False)
    ],
    jobs.room: [{"owner": "owner 1", "but": JOB.id}],
    jobs.unfinished: [{"owner": "owner 1"}],
    jobs.claimable: [{"worker_id": LEASE.worker_id}],
    jobs.claim: [{"found": JOB, "taken": JOB, "worker_id": LEASE.worker_id}],
    jobs.update: [{"held": JOB, "became": JOB}],
    jobs.cancel: [{"owner": "owner 1", "id": JOB.id, "now": NOW, "expires_at": NOW}],
    jobs.delete: [{"owner": "owner 1", "id": new_id()}],
    jobs.of_owner: [{"owner": "owner 1", "after": b"", "limit": 20}],
    jobs.remove: [{"owner": "owner 1", "limit": 20}],
    jobs.expire: [{"now": NOW, "limit": 20}],
    jobs.with_files: [{"ids": [JOB.id, new_id()]}],
    imports.owner_of: [{"id": CONVERSATION.id}],
    imports.positions: [{"ids": [MESSAGE.id, new_id()]}],
    imports.remove: [{"conversation_id": CONVERSATION.id, "ids": [new_id()]}],
    imports.add: [{"messages": [replace(MESSAGE, id=new_id(), timestamp=NOW)], "branch": []}],
    metrics.add: [{"minute": 7, "counted": {"a": 1.0, "b": 2.0}}],
    metrics.put: [{"minute": 7, "measured": {"a": 1.0, "b": 2.0}}],
    metrics.totals: [{}],
    metrics.summed: [SPAN],
    metrics.highest: [SPAN],
    metrics.forget: [{"before": CONVERSATIONS // 2}],
    metrics.running: [{}],
    metrics.conversations: [{}],
    metrics.storage: [{}],
    epochs.hold: [{}],
    fences.raise_fence: [{"owner": "me/1", "now": NOW}],
    fences.touch: [{"owner": "me/1", "now": NOW}],
    fences.erased: [{"owners": ["me/1", "me/2"], "since": 3}],
    epochs.current: [{}],
    keys.insert: [{"key": KEY}],
    keys.get: [{"id": KEY.id}],
    keys.lock: [{"id": KEY.id}],
    keys.named: [{"prefix": KEY.prefix}],
    keys.page: [{"limit": 20, "after": after, "ascending": up} for after in (None, KEY.id) for up in (True, False)],
    keys.live: [{"ids": [KEY.id, new_id()], "now": NOW}],
    keys.count_live: [{"now": NOW, "soon": NOW + 1}],
    keys.change: [{"key": KEY}],
    keys.revoke: [{"id": KEY.id, "now": NOW}],
    keys.expire: [{"id": KEY.id, "at": NOW}],
    keys.forget_children: [{"id": KEY.id, "before": NOW, "limit": 20}],
    keys.of_end_user: [{"account": "local", "end_user": "0" * 32, "after": b"", "limit": 20}],
    keys.remove: [{"account": "local", "end_user": "0" * 32, "limit": 20}],
    keys.use: [{"id": KEY.id, "at": NOW}],
    keys.changes: [{}],
    shares.put: [{"share": SHARE}],
    shares.since: [{"owner": "owner 1", "conversation_id": CONVERSATION.id}],
    shares.find: [{"digest": bytes(32)}],
    shares.of_owner: [{"owner": "owner 1", "after": b"", "limit": 20}],
    shares.delete: [{"owner": "owner 1", "conversation_id": CONVERSATION.id}],
    counters.count: [{"name": "a mark"}],
    counters.get: [{"name": "a mark"}],
    counters.put: [{"name": "a mark", "value": 1}],
    counters.try_out: [{}],
    leadership.acquire: [{"name": "a duty", "worker_id": LEASE.worker_id}],
    leases.acquire: [{"lease": LEASE, "question": bytes(32)}],
    leases.ask: [{"conversation_id": CONVERSATION.id, "reply_id": MESSAGE.id, "question": bytes(32)}],
    leases.answering: [{"reply_id": MESSAGE.id, "question": bytes(32)}],
    leases.of_conversation: [{"conversation_id": CONVERSATION.id}],
    leases.ask_to_stop: [{"lease": LEASE}],
    leases.to_stop: [{"worker_id": LEASE.worker_id}],
    leases.every: [{}],
    leases.release: [{"lease": LEASE}],
    leases.running: [{"owner": "owner 1", "key_id": LEASE.worker_id}],
    windows.hold: [{"subjects": ["owner 1", "new owner"]}],
    windows.remove_unused: [{"subject": "owner 1"}],
    windows.put: [
        {"spent": {"owner 1": WindowUsage(), "owner 2": WindowUsage()}, "begins_days": begins_days}
        for begins_days in (False, True)
    ],
    windows.remove: [{"subject": "owner 1"}],
    windows.forget: [{"before": NOW, "limit": 20}],
    usage.add: [{"used": {SPENDER: UsageTotals(1), SPENDER._replace(day=8): UsageTotals(1)}}],
    usage.summed: [
        {"account": account, "owner": owner, "days": (100, 130), "groups": groups, "limit": 20, "skip": 2}
        for account, owner in ((None, None), ("account 1", None), ("account 1", "owner 1"))
        for groups in ((), ("day",))
    ],
    usage.of_owner: [{"owner": "owner 1", "after": usage.UsageRowKey(), "limit": 20}],
    usage.reassign: [{"account": "account 1", "owner": "owner 1", "limit": 20}],
    usage.forget: [{"before": 100, "limit": 20}],
    audit.add: [
        {"notes": [AuditEvent(COMMAND_LINE, Action.KEY_CREATED), AuditEvent(COMMAND_LINE, Action.KEY_REVOKED)]}
    ],
    audit.newest_id: [{}],
    audit.page: [
        {"only": audit.Filter(account, verb, start), "after": after, "limit": 20, "ascending": ascending}
        for account in (None, "account 1")
        for verb in (None, "key.created")
        for start in (None, NOW)
        for after in (None, CONVERSATIONS // 2)
        for ascending in (True, False)
    ],
    audit.forget: [{"before": NOW, "limit": 20}],
    leases.heartbeat: [{"worker_id": LEASE.worker_id}],
    leases.heartbeats: [{}],
    leases.forget: [{"worker_id": LEASE.worker_id}],
    messages.delete_some: [{"owner": "owner 1", "conversation_id": CONVERSATION.id, "limit": 2}],
    holdings.remove: [{"owner": "owner 1"}],
}


SELECTIONS = [
    exports.Selection("owner 1", one, start, NOW * 2, since, branch_only=narrow, records=narrow)
    for one in (None, CONVERSATION.id)
    for start in (None, NOW)
    for since in (None, 3)
    for narrow in (False, True)
]
