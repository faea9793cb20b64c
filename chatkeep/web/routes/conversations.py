"""Routes of conversations: list, get, change, delete."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.conversations import service
from chatkeep.conversations.service import Changes, ListPage, Page
from chatkeep.runtime.concurrency import unless_gone
from chatkeep.web.openapi import Routes
from chatkeep.web.problems import language
from chatkeep.web.requests import body_as, client_socket, given, query_as, require_small_metadata
from chatkeep.web.responses import rendered
from chatkeep.web.schemas import conversations as schemas
from chatkeep.web.schemas.common import Deleted
from chatkeep.web.services import actor, owner, services

routes = Routes(Blueprint("conversations", __name__))
_ONE = "/api/conversations/<uuid:conversation_id>"


@routes.route(
    "GET",
    "/api/conversations",
    tag="conversations",
    scopes={Scope.READ},
    query=schemas.ListQuery,
    answers={200: schemas.ConversationList},
    raises=(errors.InvalidFields, errors.StoreUnavailable, errors.DatabaseBusy),
)
def list_conversations() -> Response:
    """List conversations, by last activity or by creation.

    `last_id` is the `after` of the next page.

    Paging is stable: conversations that become active or are deleted meanwhile neither repeat nor hide others. By
    activity, one that becomes active before its page was read moves to the top, where a new list begins; with
    `order=asc` the list ends where it ended when its first page was read. With `sort=created` nothing moves.
    """
    query = query_as(schemas.ListQuery)
    page = ListPage(query.limit, schemas.position_of(query.after), ascending=query.order == "asc", sort=query.sort)
    database = services().database
    with unless_gone(client_socket() if query.q else None):
        found = service.list_conversations(database, owner(), page, query.q, pinned=query.pinned)
    return rendered(schemas.conversations_of(found))


@routes.route(
    "GET",
    _ONE,
    tag="conversations",
    scopes={Scope.READ},
    query=schemas.MessagesQuery,
    answers={200: schemas.ConversationWithMessages},
    raises=(errors.NotFound, errors.InvalidFields, errors.StoreUnavailable),
)
def read_conversation(conversation_id: UUID) -> Response:
    """Get a conversation with a page of its messages.

    `limit`, `after` and `order` select the messages of the current branch.
    """
    query = query_as(schemas.MessagesQuery)
    page = Page(query.limit, query.after, ascending=query.order == "asc")
    found = service.read_conversation(services().database, owner(), conversation_id, page)
    shown = schemas.messages_of(found.messages, found.siblings, language(), has_more=found.has_more)
    return rendered(schemas.ConversationWithMessages(**schemas.conversation_fields(found.conversation), messages=shown))


@routes.route(
    "PATCH",
    _ONE,
    tag="conversations",
    scopes={Scope.CHAT},
    body=schemas.ConversationChanges,
    answers={200: schemas.Conversation},
    raises=(
        errors.NotFound,
        errors.InvalidFields,
        errors.StoreUnavailable,
        errors.BodyTooLarge,
        errors.MalformedJson,
        errors.UnsupportedMediaType,
        errors.TurnRunning,
        errors.SensitiveContent,
    ),
    examples={"rename": {"title": "Haiku"}, "keep": {"pinned": True}},
)
def change_conversation(conversation_id: UUID) -> Response:
    """Change a conversation's title, system prompt, time to live, pin, metadata or current branch."""
    body = body_as(schemas.ConversationChanges)
    require_small_metadata(body.metadata)
    changes = Changes(**{name: given(getattr(body, name)) for name in Changes.__struct_fields__})
    if policy := services().redaction.input:
        changes = policy.apply_to_record(changes)
    changed = service.change_conversation(services().database, services().journal, owner(), conversation_id, changes)
    return rendered(schemas.Conversation(**schemas.conversation_fields(changed)))


@routes.route(
    "DELETE",
    _ONE,
    tag="conversations",
    scopes={Scope.CHAT},
    answers={200: Deleted},
    raises=(errors.NotFound, errors.StoreUnavailable),
)
def delete_conversation(conversation_id: UUID) -> Response:
    """Delete a conversation with its messages, and stop its running reply."""
    service.delete_conversation(services().journal, owner(), conversation_id, actor())
    return rendered(Deleted(conversation_id))
