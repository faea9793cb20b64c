"""Routes of read-only links to conversations."""

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
    """Share a conversation by a read-only link.

    The link shows the title and the messages up to now. Sharing again replaces the link. The token is shown only once.

    A running reply is shown to its end; later messages are not. The server keeps only the token's hash.
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
    """Get whether a conversation is shared."""
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
    """Revoke a conversation's link. Revoking it again has no effect."""
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
    """Get a shared conversation by the token of its link.

    Messages are in order, oldest first. An unknown or revoked token and a deleted or expired conversation get the same
    404.
    """
    query = query_as(schemas.SharedQuery)
    found = sharing.read_shared(services().database, token, query.limit, query.after)
    return unlisted(rendered(schemas.shared_of(found)))
