"""Rows that fill a database for tests of query plans."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chatkeep.domain.conversation import new_id
from chatkeep.store import (
    audit,
    counters,
    schema,
)
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql

OWNERS, CONVERSATIONS, MESSAGES, SAMPLES = 4, 400, 20, 20


NOW = 2_000_000_000_000_000


def fill(database: Database) -> None:
    ids = [new_id(NOW + number) for number in range(CONVERSATIONS)]
    rows = [conversation_row(number, made) for number, made in enumerate(ids)]
    spoken = [message_row(number, ids[number % CONVERSATIONS]) for number in range(CONVERSATIONS * MESSAGES)]
    keys = [key_row(number) for number in range(CONVERSATIONS)]
    exported = [job_row(number) for number in range(CONVERSATIONS)]
    made = [api_key_row(number) for number in range(CONVERSATIONS)]
    samples = [sample_row(minute, name) for minute in range(CONVERSATIONS) for name in range(SAMPLES)]
    with database.engine.begin() as connection:
        for table, values in [
            (schema.conversations, rows), (schema.messages, spoken), (schema.idempotency_keys, keys),
            (schema.export_jobs, exported), (schema.metrics, samples), (schema.api_keys, made),
            (schema.audit, [audit_row(number) for number in range(1, CONVERSATIONS + 1)]),
            (schema.windows, [window_row(number) for number in range(CONVERSATIONS)]),
            (schema.usage, [usage_row(number, day) for number in range(OWNERS) for day in range(CONVERSATIONS)]),
        ]:  # fmt: skip
            connection.execute(table.insert(), values)
    tables = "conversations, messages, idempotency_keys, export_jobs, metrics, api_keys, windows, `usage`, audit"
    analyze = "ANALYZE" if database.embedded else f"ANALYZE TABLE {tables}"
    with database.connection() as connection:
        connection.rows(Sql(analyze))
        counters.put(connection, audit.MARK, CONVERSATIONS)


def conversation_row(number: int, id: UUID) -> dict[str, Any]:
    at = NOW + number * 1000
    return {
        "id": id.bytes, "owner": f"owner {number % OWNERS}", "title": f"title {number}", "metadata": "{}",
        "created_at": at, "last_active": at, "expires_at": NOW * 2 if number % 2 else None,
        "pinned": int(number % 40 == 0), "message_count": MESSAGES, "forks": 0,
    }  # fmt: skip


def message_row(number: int, conversation_id: UUID) -> dict[str, Any]:
    return {
        "message_id": new_id(NOW + number).bytes, "conversation_id": conversation_id.bytes, "position": number,
        "on_branch": 1, "role": "user", "content": f"text {number} " * 5, "reasoning": "", "written": 9,
        "timestamp": NOW + number, "status": "completed", "cached": 0,
    }  # fmt: skip


def key_row(number: int) -> dict[str, Any]:
    return {
        "owner": f"owner {number % OWNERS}", "key": f"key {number}", "request_hash": bytes(32),
        "conversation_id": bytes(16), "reply_id": bytes(16), "created_at": NOW + number * 1000,
    }  # fmt: skip


def api_key_row(number: int) -> dict[str, Any]:
    return {
        "id": new_id(NOW + number).bytes, "prefix": f"{number:08}", "digest": bytes(32), "name": "name",
        "account": "local", "scopes": "chat,read", "created_at": NOW, "expires_at": NOW + number,
        "parent_id": new_id(number % 20).bytes if number % 2 else None,
    }  # fmt: skip


def job_row(number: int) -> dict[str, Any]:
    status = "completed" if number % 20 else "running" if number % 40 else "queued"
    return {
        "id": new_id(NOW + number).bytes, "owner": f"owner {number % OWNERS}", "status": status, "request": "{}",
        "worker_id": bytes(16), "attempts": 1, "created_at": NOW, "expires_at": NOW + number * 1000,
        "conversations": 0, "messages": 0, "size": 0,
    }  # fmt: skip


def window_row(number: int) -> dict[str, Any]:
    counted = dict.fromkeys(("minute_requests", "minute_tokens", "day_requests", "day_tokens"), 1)
    return {"subject": f"owner {number}", "minute_began": NOW, "day_began": NOW + number * 1000} | counted


def audit_row(number: int) -> dict[str, Any]:
    return {
        "id": number, "at": NOW + number * 1000, "account": f"account {number % OWNERS}", "verb": "key.created",
        "what": "{}", "outcome": "done", "hash": bytes(32),
    }  # fmt: skip


def usage_row(number: int, day: int) -> dict[str, Any]:
    return {
        "account": f"account {number}", "day": day, "owner": f"owner {number}", "key_id": bytes(16), "model": "a model",
        "requests": 1, "input_tokens": 1, "output_tokens": 1, "cost": 1,
    }  # fmt: skip


def sample_row(minute: int, name: int) -> dict[str, Any]:
    return {"minute": minute, "name": f"chatkeep_sample_{name}", "value": 1.0}
