"""Replies can be followed, resumed and stopped through any process, and continue without a client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import ON_EVERY_PAIR
from tests.http.api import Api, eventually, unique
from tests.upstream import Upstream, reply_to

pytestmark = [ON_EVERY_PAIR, pytest.mark.everywhere]

MESSAGE = "Tell me #n=20,r=40,seed=4#"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same", "another process"])
def test_running_reply_is_followed_from_its_beginning(api: Api, beside: Api, *, elsewhere: bool) -> None:
    with api.running(MESSAGE) as reply:
        followed = (beside if elsewhere else api).followed(reply.start)
    assert followed.events[0].data == reply.start
    assert followed.text == reply_to(MESSAGE)
    assert (followed.events[-1].event, followed.events[-1].id) == ("done", "end")
    assert len(followed.events) > 4


def test_followers_of_all_workers_get_the_same_events(api: Api) -> None:
    with api.running(MESSAGE) as reply, ThreadPoolExecutor(12) as pool:
        followed = list(pool.map(lambda _: api.followed(reply.start), range(12)))
    assert {one.text for one in followed} == {reply_to(MESSAGE)}
    assert len({str(one.events[-1].data) for one in followed}) == 1


@pytest.mark.parametrize("by", ["after", "Last-Event-ID"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same", "another process"])
def test_broken_stream_resumes_where_it_broke(api: Api, beside: Api, by: str, *, elsewhere: bool) -> None:
    with api.running(MESSAGE) as reply:
        seen = reply.until(20)
    known = {"after": seen.id} if by == "after" else {}
    headers = {"Last-Event-ID": str(seen.id)} if by == "Last-Event-ID" else {}
    rest = (beside if elsewhere else api).followed(reply.start, headers=headers, **known)
    assert reply.text + rest.text == reply_to(MESSAGE)
    deltas = [event for event in rest.events if event.event == "delta"]
    assert int(str(deltas[0].id)) == len(reply.text) + len(deltas[0].data["text"])
    assert deltas[-1].id == str(len(reply_to(MESSAGE)))


@pytest.mark.parametrize("after", range(0, 26, 5))
def test_finished_reply_is_sent_from_any_offset(api: Api, after: int) -> None:
    message = "😀👩‍👩‍👧 你好 #think=1#"
    answer = api.chat(message)
    followed = api.followed(answer, after=after)
    assert followed.text == reply_to(message)[after:]
    assert ("thought" in str(followed.raw)) == (after == 0)
    assert followed.events[-1].data["created_at"] == answer["created_at"]
    assert followed.events[-1].data["usage"] == answer["usage"]


@pytest.mark.parametrize("after", [10**6, 10**18])
def test_offset_past_the_end_gets_only_the_final_event(api: Api, after: int) -> None:
    followed = api.followed(api.chat("Hello"), after=after)
    assert [event.event for event in followed.events] == ["start", "done"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same", "another process"])
def test_offset_past_the_current_text_skips_later_characters(api: Api, beside: Api, *, elsewhere: bool) -> None:
    with api.running(MESSAGE) as reply:
        followed = (beside if elsewhere else api).followed(reply.start, after=60)
    assert followed.text == reply_to(MESSAGE)[60:]


@pytest.mark.parametrize("last", ["x", "-1", "", "1.5", "٣", "9" * 5000], ids=lambda last: last[:5])
def test_unknown_last_event_id_counts_as_none_or_all(api: Api, last: str) -> None:
    answer = api.chat("Hello")
    followed = api.followed(answer, headers={"Last-Event-ID": last.encode().decode("latin-1")})
    assert followed.status == 200
    assert followed.text == ("" if last.startswith("9") else answer["reply"])


def test_resume_returns_204_after_end(api: Api) -> None:
    with api.follow(api.chat("Hello"), headers={"Last-Event-ID": "end"}) as stream:
        assert (stream.status, stream.read()) == (204, b"")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "before=1", "after=1&after=2"])
def test_invalid_offset_is_422(api: Api, query: str) -> None:
    answer = api.chat("Hello")
    path = f"/api/conversations/{answer['conversation_id']}/messages/{answer['message_id']}/stream"
    assert api.request("GET", f"{path}?{query}").status == 422


def test_failed_reply_is_followed_to_its_error(api: Api) -> None:
    stream = api.streamed("one two three #fault=cut_after:3#")
    followed = api.followed(stream.events[0].data)
    assert followed.text == stream.text
    assert (followed.events[-1].event, followed.events[-1].data["code"]) == ("error", "provider_broke")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same", "another process"])
def test_stop_keeps_the_shown_text_and_closes_the_call(
    api: Api, beside: Api, upstream: Upstream, *, elsewhere: bool
) -> None:
    reply = api.running("Endless #fault=endless,r=50#")
    aborted = len(upstream.aborted)
    begun = time.monotonic()
    stopped = (beside if elsewhere else api).stop(reply.id)
    assert stopped == {"conversation_id": reply.id, "message_id": reply.start["message_id"], "stopped": True}
    assert upstream.wait_for(lambda seen: len(seen.aborted) > aborted)
    assert upstream.aborted[-1] - begun < 1
    last = reply.rest()
    assert (last.event, last.data["status"], last.data["finish_reason"]) == ("done", "stopped", None)
    stored = api.last(reply.id)
    assert (stored["status"], stored["content"], stored["error"]) == ("stopped", reply.text, None)


def test_json_turn_can_be_stopped(api: Api) -> None:
    conversation = api.chat("Hello")["conversation_id"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.chat, "Endless #fault=endless,r=50#", conversation_id=conversation)
        assert eventually(lambda: api.last(conversation)["content"].count("more") > 2)
        api.stop(conversation)
        result = answer.result()
    assert (result["status"], result["finish_reason"]) == ("stopped", None)
    assert result["reply"] == api.last(conversation)["content"]


def test_reply_can_be_stopped_before_its_first_token(api: Api) -> None:
    conversation = api.chat("Hello")["conversation_id"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.streamed, "Never #fault=hang_first#", conversation_id=conversation)
        assert eventually(lambda: api.last(conversation)["status"] == "generating")
        api.stop(conversation)
        stream = answer.result()
    assert [event.event for event in stream.events] == ["start", "done"]
    assert (stream.events[-1].data["status"], api.last(conversation)["content"]) == ("stopped", "")


def test_stop_without_a_running_reply_changes_nothing(api: Api) -> None:
    conversation = api.chat("Hello")["conversation_id"]
    before = api.read(conversation)
    assert api.stop(conversation) == {"conversation_id": conversation, "message_id": None, "stopped": False}
    assert api.read(conversation) == before


@pytest.mark.parametrize("policy", [{}, {"on_disconnect": "continue"}], ids=["default", "continue"])
def test_reply_continues_after_its_client_disconnects(api: Api, policy: dict[str, str]) -> None:
    with api.running(MESSAGE, **policy) as reply:
        pass
    stored = api.ended(reply.id)
    assert (stored["status"], stored["content"]) == ("completed", reply_to(MESSAGE))


def test_on_disconnect_stop_ends_the_reply(api: Api, upstream: Upstream) -> None:
    """Waits until the server detects the disconnect."""
    with api.running("Endless #fault=endless,r=50#", on_disconnect="stop") as reply:
        aborted = len(upstream.aborted)
    stored = api.ended(reply.id, seconds=10)
    assert (stored["status"], stored["content"].startswith(reply.text)) == ("stopped", True)
    assert upstream.wait_for(lambda seen: len(seen.aborted) > aborted)


def test_silent_stream_has_keepalive_comments(api: Api) -> None:
    """Waits for the first comment, after five seconds of silence."""
    reply = api.running("Silent #fault=hang_after:1#")
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(reply.rest)
        assert eventually(lambda: reply.stream.comments == ["ping"], 7)
        api.stop(reply.id)
        assert last.result().data["status"] == "stopped"


def test_concurrent_stop_and_finish_have_one_winner(api: Api) -> None:
    for number in range(10):
        message = unique(f"#n=10,r=200,seed={number}#")
        reply = api.running(message)
        time.sleep(number * 0.005)
        api.stop(reply.id)
        last, stored = reply.rest(), api.last(reply.id)
        assert (stored["status"], stored["content"]) == (last.data["status"], reply.text)
        assert stored["status"] in {"completed", "stopped"}
        assert stored["status"] == "stopped" or reply.text == reply_to(message)
