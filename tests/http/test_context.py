"""A conversation that is longer than the model's context window, and what is kept of replies that failed."""

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
    """Return a message of this many characters that a model with room for 160 is asked."""
    return unique("#window=160#").ljust(size, ".")


def prompts(upstream: Upstream, message: str) -> list[list[str]]:
    """Return the prompts that ended with a message."""
    return [[one["content"] for one in request.messages] for request in asked(upstream, message)]


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
def test_a_conversation_past_the_window_goes_on_without_its_oldest_turns(
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


def test_a_question_that_is_too_long_by_itself_fails_and_is_left_out_of_the_next_prompts(
    api: Api, upstream: Upstream
) -> None:
    first = unique("one")
    id = api.chat(first)["conversation_id"]  # noqa: A001
    long = question(170)
    refused = api.post(long, conversation_id=id)
    assert (refused.status, refused.json["code"], refused.json["detail"]) == (422, "context_length_exceeded", TOO_LONG)
    assert prompts(upstream, long) == [[first, reply_to(first), long], [long]]
    after = question(50)
    assert api.chat(after, conversation_id=id)["reply"] == reply_to(after)
    assert prompts(upstream, after) == [[first, reply_to(first), after]]


def test_the_reason_of_a_failed_reply_is_read_again_in_both_languages(api: Api) -> None:
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


def test_a_reply_that_is_followed_later_ends_with_the_same_reason(api: Api) -> None:
    refused = api.post("#status=404#").json
    (event,) = [event for event in api.followed(refused).events if event.event == "error"]
    assert (event.data["code"], event.data["detail"]) == (refused["code"], refused["detail"])
    assert "CHATKEEP_MODEL" in event.data["detail"]


def test_a_question_that_failed_otherwise_is_sent_with_the_next_one(api: Api, upstream: Upstream) -> None:
    failed = unique("#status=404#")
    id = api.post(failed).json["conversation_id"]  # noqa: A001
    after = unique("#n=2#")
    api.chat(after, conversation_id=id)
    both = f"{failed}\n\n{after}"
    assert prompts(upstream, both) == [[both]]


@pytest.mark.parametrize("forked", [False, True], ids=["unforked", "forked"])
def test_turns_that_failed_push_nothing_out_of_the_context(api: Api, upstream: Upstream, *, forked: bool) -> None:
    """More failures than messages are sent, ten by default. A fork is read in another way."""
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


def test_a_question_that_the_provider_refuses_is_left_out_of_the_next_prompts(api: Api, upstream: Upstream) -> None:
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


def test_a_question_whose_answer_was_filtered_is_left_out_of_the_next_prompts(api: Api, upstream: Upstream) -> None:
    first = unique("one")
    id = api.chat(first)["conversation_id"]  # noqa: A001
    api.post(unique("#n=0,finish=content_filter#"), conversation_id=id)
    after = unique("#n=2#")
    api.chat(after, conversation_id=id)
    assert prompts(upstream, after) == [[first, reply_to(first), after]]


def test_a_longer_window_answers_when_the_question_is_asked_again(api: Api, upstream: Upstream) -> None:
    failed = api.post(question(170)).json
    path = f"/api/conversations/{failed['conversation_id']}/messages/{failed['message_id']}/regenerate"
    upstream.script("n=3")
    assert api.request("POST", path, json={}).json["status"] == "completed"
