"""What a provider refuses of a request's form never reaches who asked: streamed or not, with the cache and without."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.api import Api, asked, unique
from tests.upstream import Request, Upstream, generate

REFUSED = "#n=3,refuse=limit-renamed+usage-extra+system-value+temperature-default#"
FIELDS: dict[str, Any] = {"system": "Be brief.", "max_tokens": 9, "temperature": 0.5}


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
def test_a_caller_gets_the_reply_of_a_provider_that_wants_other_fields(
    embedded: Api, upstream: Upstream, *, streamed: bool, cache: bool
) -> None:
    model = unique("model")
    for requests in (5, 1, 1):  # four refusals, and then what was learnt of them
        message = unique(REFUSED)
        assert said(embedded, message, streamed=streamed, model=model, cache=cache) == "".join(generate(3))
        assert len(seen(upstream, message)) == requests
        again = said(embedded, message, streamed=streamed, model=model, cache=cache)
        assert again == "".join(generate(3))
        assert len(seen(upstream, message)) == requests + (not cache)


def test_a_refusal_that_teaches_nothing_is_told_in_the_providers_words(embedded: Api, upstream: Upstream) -> None:
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
    """Return the requests with a message, behind the system prompt or in one message with it."""
    return [request for request in upstream.requests if request.message.endswith(message)]
