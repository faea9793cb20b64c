"""Routes of links by which conversations are read without a key."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response, url_for

from chatkeep import errors
from chatkeep.auth.access import Scope
from chatkeep.conversations import sharing
from chatkeep.web.auth import PUBLIC
from chatkeep.web.openapi import Routes
from chatkeep.web.requests import public_url, query_as
from chatkeep.web.responses import rendered, unlisted
from chatkeep.web.schemas import sharing as schemas
from chatkeep.web.services import actor, owner, services

routes = Routes(Blueprint("sharing", __name__))
_ONE = "/api/conversations/<uuid:conversation_id>/share"


@routes.route(
    "POST",
    _ONE,
    tag="sharing",
    scopes={Scope.CHAT},
    answers={201: schemas.NewShare},
    raises=(errors.NotFound,),
)
def share_conversation(conversation_id: UUID) -> Response:
    """Share a conversation by link, for reading.

    Whoever has the link reads the title and the messages that are there now, a running reply to its end; what is said
    later is not shown. The answer is the only place where the token ever stands: only its hash is stored. A link that
    there was before ends, so sharing again shows what came meanwhile under a new link.
    """
    made = sharing.share_conversation(services().journal, owner(), conversation_id, actor())
    path = url_for("web.shared_page", token=made.token)
    return rendered(schemas.new_share_of(made, path, public_url(path)), 201)


@routes.route(
    "GET",
    _ONE,
    tag="sharing",
    scopes={Scope.CHAT, Scope.READ},
    answers={200: schemas.Share},
    raises=(errors.NotFound,),
)
def read_share(conversation_id: UUID) -> Response:
    """Tell whether a conversation is shared, and since when."""
    since = sharing.shared_since(services().database, owner(), conversation_id)
    return rendered(schemas.share_of(conversation_id, since))


@routes.route(
    "DELETE",
    _ONE,
    tag="sharing",
    scopes={Scope.CHAT},
    answers={200: schemas.Share},
    raises=(errors.NotFound,),
)
def stop_sharing(conversation_id: UUID) -> Response:
    """Stop sharing a conversation: its link leads nowhere from now on. Doing so again does no harm."""
    sharing.stop_sharing(services().journal, owner(), conversation_id, actor())
    return rendered(schemas.share_of(conversation_id, None))


@routes.route(
    "GET",
    "/api/shared/<token>",
    tag="sharing",
    scopes=PUBLIC,
    query=schemas.SharedQuery,
    answers={200: schemas.SharedConversation},
    raises=(errors.NotFound, errors.InvalidFields, errors.StoreUnavailable),
)
def read_shared(token: str) -> Response:
    """Read a shared conversation; its token is all that is needed.

    The messages come oldest first. A link that never was, has ended, or leads to a conversation that is deleted or has
    expired answers the same 404.
    """
    query = query_as(schemas.SharedQuery)
    found = sharing.read_shared(services().database, token, query.limit, query.after)
    return unlisted(rendered(schemas.shared_of(found)))
