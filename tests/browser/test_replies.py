"""Replies on the page equal the stored ones, also after failures and reloads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.chat import Chat, bare
from tests.browser.conftest import Visit
from tests.http.api import Api, asked, unique
from tests.servers import Server
from tests.upstream import Upstream, reply_to


def expect_as_stored(chat: Chat, api: Api, message: str) -> None:
    """Stop the running reply to a message. The shown text is stored, and a prefix of the whole reply."""
    api.stop(chat.conversation_id)
    chat.expect_status("stopped")
    assert chat.text == bare(api.last(chat.conversation_id)["content"])
    assert bare(reply_to(message)).startswith(chat.text)


def test_reply_is_shown_while_it_is_generated(chat: Chat, api: Api) -> None:
    chat.send("Slowly #n=3000,r=40,seed=1#")
    chat.wait_for_more(chat.wait_for_text())
    expect_as_stored(chat, api, "#n=3000,seed=1#")


def test_reply_looks_the_same_after_a_reload(chat: Chat, api: Api) -> None:
    chat.ask("Every kind of text #n=300,seed=2,split,halves#")
    shown = chat.text
    chat.page.reload()
    chat.expect_status("completed")
    assert chat.text == shown == bare(api.last(chat.conversation_id)["content"])


def test_code_is_shown_as_written(chat: Chat) -> None:
    chat.ask("look:\n```python\nif a < b:\n\n    print('<b>')\n```\nthat is all")
    assert chat.reply.locator("figcaption").text_content() == "python"
    assert chat.reply.locator("pre").text_content() == "if a < b:\n\n    print('<b>')"
    assert chat.reply.locator(".body > p").all_text_contents() == ["You said: look:", "that is all"]


def test_reasoning_is_collapsed_and_separate(chat: Chat) -> None:
    chat.ask("Think first #think=3,n=3#")
    expect(chat.reply.locator(".reasoning")).not_to_be_visible()
    chat.reply.get_by_text("Reasoning").click()
    expect(chat.reply.locator(".reasoning")).to_have_text("thought 0 thought 1 thought 2")


def test_running_reply_continues_after_a_reload(chat: Chat, api: Api) -> None:
    chat.send("Go on #n=3000,r=40,seed=3#")
    before = chat.wait_for_text()
    chat.page.reload()
    chat.expect_status("generating")
    chat.wait_for_more(before)
    chat.wait_for_more(chat.text)
    expect_as_stored(chat, api, "#n=3000,seed=3#")


def test_running_reply_continues_after_visiting_another_conversation(chat: Chat, api: Api) -> None:
    elsewhere = unique("Elsewhere")
    chat.ask(elsewhere)
    chat.page.get_by_role("link", name="New conversation").click()
    chat.send("Go on #n=3000,r=40,seed=4#")
    before = chat.wait_for_text()
    chat.page.get_by_role("link", name=elsewhere).click()
    expect(chat.reply).to_contain_text(elsewhere)
    chat.page.go_back()
    chat.expect_status("generating")
    chat.wait_for_more(before)
    chat.wait_for_more(chat.text)
    expect_as_stored(chat, api, "#n=3000,seed=4#")


def test_leaving_immediately_loses_neither_message_nor_reply(chat: Chat, api: Api) -> None:
    """Delays the request like a slow network."""
    message = unique("Sent in passing #n=5#")
    chat.ask("First")
    held: list[Route] = []
    chat.page.route("**/api/chat", lambda route: held.append(route))  # noqa: PLW0108 - it takes no method of a list
    chat.send(message)
    chat.page.get_by_role("link", name="New conversation").click()
    expect(chat.messages).to_have_count(0)
    chat.page.go_back()
    expect(chat.messages).to_have_count(2)
    held[0].continue_()
    expect(chat.messages).to_have_count(4)
    chat.expect_status("completed")
    expect(chat.box).to_have_value("")
    assert api.read(chat.conversation_id)["messages"]["data"][2]["content"] == message


def click_stop(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Stop").click(delay=50)


def press_escape(chat: Chat) -> None:
    chat.page.keyboard.press("Escape")


@pytest.mark.every_engine
@pytest.mark.parametrize("stop", [click_stop, press_escape])
def test_stop_ends_a_reply_and_keeps_its_text(
    chat: Chat, api: Api, upstream: Upstream, stop: Callable[[Chat], None]
) -> None:
    """Waits half a second, because the page ignores a double click on "send" that hits "stop"."""
    chat.send("Never mind #n=500,r=20#")
    chat.wait_for(reply_to("#n=12#"))
    aborted = len(upstream.aborted)
    stop(chat)
    chat.expect_status("stopped")
    stored = api.ended(chat.conversation_id)
    assert stored["status"] == "stopped"
    assert chat.text == bare(stored["content"])
    assert upstream.wait_for(lambda provider: len(provider.aborted) > aborted)
    expect(chat.reply.get_by_role("button", name="Try again")).to_have_count(0)
    expect(chat.box).to_be_focused()


# Ends of replies in the API, and their texts on the page.
ENDS: list[tuple[dict[str, Any], str, str]] = [
    ({"status": "completed", "finish_reason": "stop"}, "", ""),
    ({"status": "completed", "finish_reason": "eos_of_theirs"}, "", ""),
    ({"status": "completed", "finish_reason": "refusal"}, "declined to answer", "模型拒绝回答"),
    ({"status": "truncated", "finish_reason": "length"}, "length limit", "达到长度上限"),
    ({"status": "truncated", "finish_reason": "content_filter"}, "by a content filter", "内容过滤"),
    ({"status": "truncated", "finish_reason": "tool_calls"}, "called a tool", "模型调用了工具"),
    ({"status": "truncated", "finish_reason": None}, "Cut off before its end", "回复未完整结束"),
    (
        {
            "status": "truncated", "finish_reason": "network_error", "error": "provider_broke",
            "error_detail": "It said: network_error",
        },
        "Cut off before its end|provider failed. It said: network_error.", "回复未完整结束|模型服务出错。",
    ),
    (
        {"status": "failed", "finish_reason": "length", "error": "empty_reply", "error_detail": "It thought too long."},
        "No reply|The model gave no answer. It thought too long.", "没有回复|模型没有给出回答。",
    ),
    (
        {"status": "failed", "error": "provider_refused", "error_detail": "It says “no”"},
        "No reply|refused the request. It says “no”.", "没有回复|模型服务拒绝了请求。",
    ),
    ({"status": "stopped"}, "Stopped", "已停止"),
    ({"status": "interrupted", "error": "reply_interrupted"}, "Interrupted", "已中断"),
]  # fmt: skip
SHOW_ENDS = """async (messages) => {
    const page = document.querySelector('script[src$="/chat.js"]').src;
    const { MessageView } = await import(new URL('message.js', page));
    return messages.map((message) => {
        const view = new MessageView({ role: 'assistant', content: 'x', ...message }, {});
        return [...view.foot.querySelectorAll('.status, .error')].map((node) => node.textContent).join('|');
    });
}"""


@pytest.mark.parametrize(("locale", "column"), [("en-GB", 0), ("zh-CN", 1)])
def test_reply_shows_why_it_ended(visit: Visit, locale: str, column: int) -> None:
    chat = visit(locale=locale)
    told = chat.page.evaluate(SHOW_ENDS, [end for end, *_ in ENDS])
    for (end, *words), shown in zip(ENDS, told, strict=True):
        expected = words[column].split("|")
        assert len(shown.split("|")) == len(expected), end
        assert all(word in part for word, part in zip(expected, shown.split("|"), strict=True)), (end, shown)


@pytest.mark.parametrize(
    ("finish", "words"), [("length", "length limit"), ("content_filter", "content filter"), ("tool_calls", "a tool")]
)
def test_truncated_reply_shows_its_reason_after_a_reload(chat: Chat, finish: str, words: str) -> None:
    chat.send(unique(f"How long? #finish={finish}#"))
    status = chat.reply.locator(".status")
    expect(status).to_contain_text(words)
    expect(chat.page.get_by_role("status")).to_contain_text(words)
    chat.page.reload()
    expect(status).to_contain_text(words)


@pytest.mark.parametrize(
    ("spec", "words"), [("n=0", "gave no answer"), ("n=0,think=3,finish=length", "gave no answer")]
)
def test_empty_reply_shows_its_reason_after_a_reload(chat: Chat, spec: str, words: str) -> None:
    chat.send(unique(f"Nothing? #{spec}#"))
    error = chat.reply.locator(".error")
    expect(error).to_contain_text(words)
    told = str(error.text_content())
    status = chat.reply.locator(".status").text_content()
    chat.page.reload()
    expect(error).to_have_text(told)
    expect(chat.reply.locator(".status")).to_have_text(str(status))


@pytest.mark.parametrize(
    ("locale", "words"), [("en-GB", "The message is too long. Shorten it"), ("zh-CN", "消息太长。请缩短内容")]
)
@pytest.mark.parametrize("characters", [1_000_001, 1_100_000], ids=["field", "body"])
def test_too_long_message_gets_a_plain_error(visit: Visit, locale: str, words: str, characters: int) -> None:
    """Renders a message of a megabyte: a second or two."""
    chat = visit(locale=locale)
    chat.send("x" * characters)
    expect(chat.notice).to_contain_text(words)
    assert not re.search(r"must be|bytes|字节|字符", chat.notice.inner_text())
    expect(chat.action).to_be_enabled()
    chat.box.fill("")


def test_cached_reply_is_marked_and_can_be_regenerated(chat: Chat, api: Api, upstream: Upstream) -> None:
    message = unique("The same again?")
    api.chat(message)
    chat.ask(message)
    assert len(asked(upstream, message)) == 2
    expect(chat.reply).not_to_contain_text("From the cache")
    chat.open(api.chat(message)["conversation_id"])
    expect(chat.reply.locator("footer")).to_contain_text("From the cache")
    chat.page.get_by_role("button", name="Switch to Chinese").click()
    expect(chat.reply.locator("footer")).to_contain_text("来自缓存")
    api.chat(other := unique("Another"))
    chat.messages.first.get_by_role("button", name="编辑").click()
    chat.messages.first.get_by_role("textbox").fill(other)
    chat.messages.first.get_by_role("textbox").press("Enter")
    expect(chat.reply).to_contain_text(other)
    assert len(asked(upstream, other)) == 2


@pytest.mark.parametrize(("locale", "advice"), [("en-GB", "check that the key"), ("zh-CN", "请检查密钥")])
def test_failed_reply_shows_its_reason_after_a_reload(visit: Visit, locale: str, advice: str) -> None:
    chat = visit(locale=locale)
    chat.send("#status=403#")
    chat.expect_status("failed")
    reason = chat.reply.locator(".error")
    expect(reason).to_contain_text(advice)
    told = str(reason.text_content())
    chat.page.reload()
    expect(reason).to_have_text(told)


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [("status=500,first=3", "failed", "No reply"), ("fault=cut_after:3,first=1", "truncated", "Cut off")],
)
def test_retry_replaces_a_broken_reply(
    chat: Chat, api: Api, upstream: Upstream, fault: str, status: str, words: str
) -> None:
    message = unique(f"Is it broken? #{fault},seed=5#")
    chat.send(message)
    chat.expect_status(status)
    expect(chat.reply).to_contain_text(words)
    expect(chat.reply.get_by_role("button", name="Regenerate")).to_be_hidden()  # it would give the same reply
    expect(chat.reply.get_by_role("button", name="Copy")).to_have_count(0 if status == "failed" else 1)
    chat.reply.get_by_role("button", name="Try again").click()
    chat.expect_status("completed")
    expect(chat.messages).to_have_count(2)
    assert chat.text == bare(reply_to(message))
    question, reply = api.read(chat.conversation_id)["messages"]["data"]
    assert (question["content"], reply["content"], len(reply["siblings"])) == (message, reply_to(message), 2)
    assert asked(upstream, message)[-1].messages == [{"role": "user", "content": message}]


def test_failed_retry_keeps_the_broken_reply(chat: Chat, api: Api) -> None:
    chat.send(unique("Is it broken? #fault=cut_after:3,first=1,seed=6#"))
    chat.expect_status("truncated")
    shown = chat.text
    chat.page.context.set_offline(offline=True)
    chat.reply.get_by_role("button", name="Try again").click()
    expect(chat.notice).to_contain_text("cannot be reached")
    assert chat.text == shown
    chat.page.context.set_offline(offline=False)
    chat.expect_status("completed")
    assert len(api.last(chat.conversation_id)["siblings"]) == 2


def test_interrupted_reply_can_be_regenerated(visit: Visit, upstream: Upstream, tmp_path: Path) -> None:
    """Starts a server twice: some seconds."""
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server("gunicorn", tmp_path, env) as server:
        chat = visit(server)
        chat.send("Go on #n=900,r=20,seed=7#")
        before = chat.wait_for_text()
        server.kill()
        expect(chat.reply).to_contain_text("Reconnecting")
        server.start()
        chat.expect_status("interrupted")
        stored = Api(server).last(chat.conversation_id)
        assert stored["status"] == "interrupted"
        assert chat.text.startswith(before)
        assert chat.text == bare(stored["content"])
        upstream.script("n=5")
        chat.reply.get_by_role("button", name="Try again").click()
        chat.expect_status("completed")
        assert chat.text == bare(Api(server).last(chat.conversation_id)["content"]) == bare(reply_to("#n=5#"))
        expect(chat.messages).to_have_count(2)
