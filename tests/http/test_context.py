"""Conversations longer than the model's context window, and the context after failed replies."""

from __future__ import annotations

import pytest

from chatkeep.i18n import Text, translated
from tests.http.api import Api, asked, unique
from tests.http.test_languages import CHINESE
from tests.upstream import Upstream, generate, reply_to

TOO_LONG = (
    "The provider says that the prompt is longer than the model's context window. It said: Only 160 characters fit."
)


def question(size: int) -> str:
    """Return a message of this many characters for a model with a window of 160."""
    return unique("#window=160#").ljust(size, ".")


def prompts(upstream: Upstream, message: str) -> list[list[str]]:
    """Return the prompts that end with a message."""
    return [[one["content"] for one in request.messages] for request in asked(upstream, message)]


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
def test_conversation_past_the_window_continues_without_its_oldest_turns(
    api: Api, upstream: Upstream, *, streamed: bool
) -> None:
    first = unique("one")
    id = api.chat(first, system="Be brief.")["conversation_id"]  # noqa: A001
    second = question(50)
    api.chat(second, conversation_id=id)
    third = question(50)
    text = api.streamed(third, conversation_id=id).text if streamed else api.chat(third, conversation_id=id)["reply"]
    assert text == reply_to(third)
    whole = ["Be brief.", first, reply_to(first), second, reply_to(second), third]
    assert prompts(upstream, third) == [whole, ["Be brief.", third]]
    assert (api.last(id)["status"], api.last(id)["error"]) == ("completed", None)


def test_question_longer_than_the_window_fails_and_is_omitted_from_later_prompts(api: Api, upstream: Upstream) -> None:
    first = unique("one")
    id = api.chat(first)["conversation_id"]  # noqa: A001
    long = question(170)
    refused = api.post(long, conversation_id=id)
    assert (refused.status, refused.json["code"], refused.json["detail"]) == (422, "context_length_exceeded", TOO_LONG)
    assert prompts(upstream, long) == [[first, reply_to(first), long], [long]]
    after = question(50)
    assert api.chat(after, conversation_id=id)["reply"] == reply_to(after)
    assert prompts(upstream, after) == [[first, reply_to(first), after]]


def test_reason_of_a_failed_reply_can_be_read_in_both_languages(api: Api) -> None:
    refused = api.post(question(170))
    stored = api.last(refused.json["conversation_id"])
    assert (stored["status"], stored["error"], stored["error_detail"]) == (
        "failed",
        "context_length_exceeded",
        TOO_LONG,
    )
    chinese = api.request("GET", f"/api/conversations/{refused.json['conversation_id']}", headers=CHINESE).json
    told = chinese["messages"]["data"][-1]["error_detail"]
    assert told.startswith(translated(Text(TOO_LONG.partition(".")[0]), "zh"))
    assert "Only 160 characters fit" in told


def test_reply_followed_later_ends_with_the_same_reason(api: Api) -> None:
    refused = api.post("#status=404#").json
    (event,) = [event for event in api.followed(refused).events if event.event == "error"]
    assert (event.data["code"], event.data["detail"]) == (refused["code"], refused["detail"])
    assert "CHATKEEP_MODEL" in event.data["detail"]


def test_question_that_failed_otherwise_stays_in_the_context(api: Api, upstream: Upstream) -> None:
    failed = unique("#status=404#")
    id = api.post(failed).json["conversation_id"]  # noqa: A001
    after = unique("#n=2#")
    api.chat(after, conversation_id=id)
    both = f"{failed}\n\n{after}"
    assert prompts(upstream, both) == [[both]]


@pytest.mark.parametrize("forked", [False, True], ids=["unforked", "forked"])
def test_failed_turns_do_not_shorten_the_context(api: Api, upstream: Upstream, *, forked: bool) -> None:
    """Fails more often than there are messages in a prompt, ten by default. A fork uses another query."""
    first = unique("one")
    begun = api.chat(first)
    id = begun["conversation_id"]  # noqa: A001
    if forked:
        path = f"/api/conversations/{id}/messages/{begun['message_id']}/regenerate"
        assert api.request("POST", path, json={}).status == 200
    failed = [unique("#status=404#") for _ in range(6)]
    for message in failed:
        assert api.post(message, conversation_id=id).status == 502
    after = unique("#n=2#")
    api.chat(after, conversation_id=id)
    both = "\n\n".join([*failed, after])
    assert prompts(upstream, both) == [[first, reply_to(first), both]]


def test_refused_question_is_omitted_from_later_prompts(api: Api, upstream: Upstream) -> None:
    refused = unique("flagged #refuse=flagged#")
    response = api.post(refused)
    assert (response.status, response.json["code"]) == (502, "provider_refused")
    assert "The prompt was flagged" in response.json["detail"]
    id, after = response.json["conversation_id"], unique("#n=2,refuse=flagged#")  # noqa: A001
    assert api.chat(after, conversation_id=id)["status"] == "completed"
    assert prompts(upstream, after) == [[after]]
    later = unique("#n=2,refuse=flagged#")
    assert api.streamed(later, conversation_id=id).events[-1].data["status"] == "completed"
    assert prompts(upstream, later)[-1] == [after, "".join(generate(2)), later]


def test_question_with_a_filtered_answer_is_omitted_from_later_prompts(api: Api, upstream: Upstream) -> None:
    first = unique("one")
    id = api.chat(first)["conversation_id"]  # noqa: A001
    api.post(unique("#n=0,finish=content_filter#"), conversation_id=id)
    after = unique("#n=2#")
    api.chat(after, conversation_id=id)
    assert prompts(upstream, after) == [[first, reply_to(first), after]]


def test_repeated_question_is_answered_by_a_longer_window(api: Api, upstream: Upstream) -> None:
    failed = api.post(question(170)).json
    path = f"/api/conversations/{failed['conversation_id']}/messages/{failed['message_id']}/regenerate"
    upstream.script("n=3")
    assert api.request("POST", path, json={}).json["status"] == "completed"
