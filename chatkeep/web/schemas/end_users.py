"""The JSON of the receipt for erasing an end user."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.retention.erasure import Receipt
from chatkeep.web.schemas.common import Id, Time, time_text


class Erasure(Struct, kw_only=True):
    """The receipt for erasing an end user: how much was deleted."""

    object: Literal["erasure"] = "erasure"
    id: Id
    account: str
    end_user: Annotated[str, Meta(description="The digest of the end user's name.")]
    erased_at: Time
    conversations: int
    messages: int
    exports: Annotated[int, Meta(description="Export jobs with their files.")]
    idempotency_keys: int
    keys: Annotated[int, Meta(description="API keys bound to the end user.")]


def erasure_of(receipt: Receipt) -> Erasure:
    """Return the JSON of a receipt."""
    erased = receipt.erased
    return Erasure(
        id=receipt.id,
        account=receipt.account,
        end_user=receipt.end_user,
        erased_at=time_text(receipt.erased_at),
        conversations=erased.conversations,
        messages=erased.messages,
        exports=erased.exports,
        idempotency_keys=erased.idempotency_keys,
        keys=erased.keys,
    )
