"""Routes of turns: chat, follow, stop, regenerate, edit."""

from __future__ import annotations

import hashlib
import queue
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from flask import Blueprint, Response, g, request

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.conversations.service import require_message
from chatkeep.errors import FieldError, InvalidFields, Problem, RateLimited
from chatkeep.i18n import _
from chatkeep.turns.begin import Turn, TurnRequest
from chatkeep.turns.live import End, Events, FinalOnly
from chatkeep.web import direct, ratelimit, sse
from chatkeep.web.openapi import Routes
from chatkeep.web.problems import language
from chatkeep.web.requests import body_as, given, query_as, require_small_metadata
from chatkeep.web.responses import RawResponse, rendered
from chatkeep.web.schemas import chat as schemas
from chatkeep.web.schemas.common import time_text
from chatkeep.web.services import caller, owner, services

routes = Routes(Blueprint("chat", __name__))
routes.blueprint.after_request(ratelimit.tell)
MOST_DIGITS = 18
_COUNT = re.compile(r"\d+", re.ASCII)
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_PROVIDER = (
    errors.ProviderRefused,
    errors.ContextTooLong,
    errors.ProviderBroke,
    errors.ProviderBusy,
    errors.ProviderQuotaExceeded,
    errors.ProviderTimeout,
)
_BODY = (errors.BodyTooLarge, errors.UnsupportedMediaType, errors.MalformedJson, errors.InvalidFields)


_KEY_HEADER = {"Idempotency-Key": "Retries with the same key get the first request's reply for 24 hours."}
_TURN = (
    *_BODY,
    *_PROVIDER,
    errors.NotFound,
    errors.TurnRunning,
    errors.IdempotencyKeyReused,
    errors.RateLimited,
    errors.QuotaExceeded,
    errors.SensitiveContent,
    errors.RequestTimeout,
    errors.ReplyInterrupted,
    errors.StoreUnavailable,
    errors.ServerStopping,
)
_MESSAGE = "/api/conversations/<uuid:conversation_id>/messages/<uuid:message_id>"


@routes.route(
    "POST",
    "/api/chat",
    tag="chat",
    scopes={Scope.CHAT},
    body=schemas.ChatRequest,
    answers={200: schemas.ChatAnswer},
    streams=True,
    headers=_KEY_HEADER,
    raises=_TURN,
    examples={
        "json": {"message": "What is a haiku?"},
        "stream": {"message": "用一句话介绍一下你自己", "stream": True},
    },
)
def chat() -> Response:
    """Send a message and get the model's reply.

    Without `conversation_id` the server creates a conversation. The answer is one JSON object, or a stream of events
    with `"stream": true` or `Accept: text/event-stream`. The deltas, joined, are the stored reply.
    """
    body = body_as(schemas.ChatRequest)
    require_small_metadata(body.metadata)
    changes = {name: given(getattr(body, name)) for name in ("system", "ttl", "metadata")}
    return _take(body, conversation_id=body.conversation_id, message=_said(body.message), cache=body.cache, **changes)


@routes.route(
    "GET",
    f"{_MESSAGE}/stream",
    tag="chat",
    scopes={Scope.CHAT, Scope.READ},
    query=schemas.FollowQuery,
    answers={200: None, 204: None},
    streams=True,
    headers={"Last-Event-ID": "The id of the last event, as EventSource sends it; an alternative to `after`."},
    raises=(errors.NotFound, errors.InvalidFields, errors.StoreUnavailable),
)
def follow_reply(conversation_id: UUID, message_id: UUID) -> Response:
    """Follow or resume a reply as a stream.

    The events are those of `POST /api/chat`, from character `after` of the text. A finished reply comes at once. After
    `Last-Event-ID: end` the answer is 204, so that an EventSource doesn't reconnect.
    """
    query = query_as(schemas.FollowQuery)
    last = request.headers.get("Last-Event-ID")
    message = require_message(services().database, owner(), conversation_id, message_id)
    if last == sse.END_ID:
        return RawResponse((), 204, ())
    after = query.after if query.after is not None else _characters(last)
    start = schemas.Start(conversation_id, message_id, message.model, message.cached)
    frames = sse.SSEEncoder(start, request_id=g.request_id, language=language(), after=after)
    events, leave = _events(direct.events(frames), caller().until)
    response = sse.response(frames.stream(services().turns.follow_turn(conversation_id, message_id, after, events)))
    response.call_on_close(leave)
    return response


@routes.route(
    "POST",
    "/api/conversations/<uuid:conversation_id>/stop",
    tag="chat",
    scopes={Scope.CHAT},
    answers={200: schemas.Stopped},
    raises=(errors.NotFound, errors.StoreUnavailable),
)
def stop_reply(conversation_id: UUID) -> Response:
    """Stop the running reply.

    The text so far is kept, with the status `stopped`. Without a running reply nothing happens.
    """
    reply_id = services().turns.stop_turn(owner(), conversation_id)
    return rendered(schemas.Stopped(conversation_id, reply_id, stopped=reply_id is not None))


@routes.route(
    "POST",
    f"{_MESSAGE}/regenerate",
    tag="chat",
    scopes={Scope.CHAT},
    body=schemas.RegenerateRequest,
    answers={200: schemas.ChatAnswer},
    streams=True,
    headers=_KEY_HEADER,
    raises=_TURN,
    examples={"stream": {"stream": True}},
)
def regenerate_reply(conversation_id: UUID, message_id: UUID) -> Response:
    """Regenerate a reply.

    The new reply becomes a sibling of the old one, and the end of the current branch.
    """
    body = body_as(schemas.RegenerateRequest)
    return _take(body, conversation_id=conversation_id, message="", regenerate=message_id)


@routes.route(
    "POST",
    f"{_MESSAGE}/edit",
    tag="chat",
    scopes={Scope.CHAT},
    body=schemas.EditRequest,
    answers={200: schemas.ChatAnswer},
    streams=True,
    headers=_KEY_HEADER,
    raises=_TURN,
    examples={"json": {"message": "What is a tanka?"}},
)
def edit_message(conversation_id: UUID, message_id: UUID) -> Response:
    """Replace a user message and get a new reply.

    The new message becomes a sibling of the old one, and the current branch continues from it.
    """
    body = body_as(schemas.EditRequest)
    return _take(body, conversation_id=conversation_id, message=_said(body.message), cache=body.cache, edit=message_id)


def _take(body: schemas.ChatRequest | schemas.RegenerateRequest, **what: Any) -> Response:
    """Begin a turn and answer with its reply, streamed or whole."""
    key, by = _idempotency_key(), caller()
    asked = TurnRequest(
        owner=by.owner,
        key_id=by.key_id,
        counts_for=by.counts_for,
        quotas=services().limiter.quotas(by),
        model=body.model,
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        idempotency_key=key,
        fingerprint=_fingerprint(body) if key else b"",
        **what,
    )
    try:
        turn = services().turns.begin_turn(asked)
    except RateLimited as problem:
        ratelimit.note(problem.quota_status)
        raise
    ratelimit.note(turn.quota_status)
    streamed = body.stream or sse.is_preferred(request)
    return _answer(turn, streamed=streamed, on_disconnect=body.on_disconnect)


def _fingerprint(body: msgspec.Struct) -> bytes:
    path = request.path.rstrip("/").lower()  # the router accepts other spellings of a path and its ids
    return hashlib.sha256(path.encode() + msgspec.json.encode(body, order="sorted")).digest()


def _said(message: str) -> str:
    if not message.strip():
        raise InvalidFields.of([FieldError("message", _("is blank"))])
    return message


def _idempotency_key() -> str | None:
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _KEY.fullmatch(key):
        wrong = FieldError("Idempotency-Key", _("must be 1 to 255 printable ASCII characters without spaces"))
        raise InvalidFields.of([wrong])
    return key


def _answer(turn: Turn, *, streamed: bool, on_disconnect: str) -> Response:
    """Answer with a reply as a stream or as a whole."""
    try:
        return _stream(turn, on_disconnect) if streamed else _whole(turn)
    except Problem as problem:
        raise problem.about(turn.conversation_id, turn.reply_id) from problem.__cause__


def _whole(turn: Turn) -> Response:
    events, leave = _events(FinalOnly())
    try:
        row = sse.answer(services().turns.follow_begun(turn, events))
    finally:
        leave()
    return rendered(
        schemas.ChatAnswer(
            conversation_id=turn.conversation_id,
            message_id=turn.reply_id,
            reply=row.content,
            model=row.model,
            finish_reason=row.finish_reason,
            status=row.status,
            cached=row.cached,
            usage=schemas.usage_of(row.usage),
            created_at=time_text(row.timestamp),
            reasoning=row.reasoning or msgspec.UNSET,
        )
    )


def _stream(turn: Turn, on_disconnect: str) -> Response:
    """Answer with a stream once the first event is there, so that an early error becomes a status."""
    turns = services().turns
    start = schemas.Start(turn.conversation_id, turn.reply_id, turn.model, turn.cached)
    frames = sse.SSEEncoder(start, request_id=g.request_id, language=language())
    taken, leave = _events(direct.events(frames), caller().until)
    events = turns.follow_begun(turn, taken)
    try:
        first = sse.first_event(events)
    except BaseException:
        leave()
        raise
    # If a single-flight follower's leader ended without text, the follower called the provider itself.
    start.cached = turn.cached
    response = sse.response(frames.stream(events, first))
    response.call_on_close(leave)
    if on_disconnect == "stop":
        # Harmless after a whole reply: there is nothing left to stop.
        response.call_on_close(lambda: turns.stop_here(turn.reply_id))
    return response


def _events(events: Events | None, until: int | None = None) -> tuple[Events, Callable[[], None]]:
    """Return the queue of a follower's events, and a function to call after the last one in any case.

    The events end when the caller's key does, and at ``until`` (µs since 1970).
    """
    waiting: Events = queue.SimpleQueue() if events is None else events
    return waiting, services().access.on_revoked(caller(), lambda problem: waiting.put(End(None, problem)), until=until)


def _characters(last_event_id: str | None) -> int:
    """Return the number of characters that a Last-Event-ID stands for, 0 for an unknown one."""
    return int(last_event_id[:MOST_DIGITS]) if last_event_id and _COUNT.fullmatch(last_event_id) else 0
