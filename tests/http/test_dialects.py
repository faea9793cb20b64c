"""Callers never see that a provider refused a field: with JSON or streams, with or without the cache."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.api import Api, asked, unique
from tests.upstream import Request, Upstream, generate

REFUSED = "#n=3,refuse=limit-renamed+usage-extra+system-value+temperature-default#"
FIELDS: dict[str, Any] = {"system": "Be brief.", "max_tokens": 9, "temperature": 0.5}


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
def test_caller_gets_the_reply_of_a_provider_with_another_dialect(
    embedded: Api, upstream: Upstream, *, streamed: bool, cache: bool
) -> None:
    model = unique("model")
    for requests in (5, 1, 1):  # four refusals, then the learnt dialect
        message = unique(REFUSED)
        assert said(embedded, message, streamed=streamed, model=model, cache=cache) == "".join(generate(3))
        assert len(seen(upstream, message)) == requests
        again = said(embedded, message, streamed=streamed, model=model, cache=cache)
        assert again == "".join(generate(3))
        assert len(seen(upstream, message)) == requests + (not cache)


def test_refusal_without_a_known_dialect_keeps_the_providers_message(embedded: Api, upstream: Upstream) -> None:
    message = unique("flagged #refuse=flagged#")
    refused = embedded.post(message, **FIELDS)
    assert (refused.status, refused.json["code"]) == (502, "provider_refused")
    assert "The prompt was flagged" in refused.json["detail"]
    assert len(asked(upstream, message)) == 1


def said(api: Api, message: str, *, streamed: bool, **fields: Any) -> str:
    """Return the reply to a message in a new conversation."""
    if streamed:
        stream = api.streamed(message, **FIELDS, **fields)
        assert stream.events[-1].data["status"] == "completed"
        return stream.text
    answer = api.chat(message, **FIELDS, **fields)
    assert answer["status"] == "completed"
    return str(answer["reply"])


def seen(upstream: Upstream, message: str) -> list[Request]:
    """Return the requests with a message, after the system prompt or merged with it."""
    return [request for request in upstream.requests if request.message.endswith(message)]
