"""Import ChatGPT's exports as of 2026: tools, canvas, citations, pictures, bad nodes, and skipped content."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatkeep.domain.conversation import Status
from chatkeep.imports import UnknownFile
from tests.imports.stores import Store
from tests.imports.taken import only, take, taken
from tests.imports.test_sources import AT, chatgpt, node

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


def chain(*messages: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping in which each node is a child of the previous one."""
    found: dict[str, Any] = {"root": {"message": None, "parent": None}}
    for number, one in enumerate(messages):
        found[f"n{number}"] = one | {"parent": f"n{number - 1}" if number else "root"}
    return found


def asked(text: str = "Well?", **fields: Any) -> dict[str, Any]:
    return node(None, "user", text, **fields)


def reply(text: str = "Yes.", **fields: Any) -> dict[str, Any]:
    return node(None, "assistant", text, **fields)


def content(kind: str | None, role: str = "assistant", to: str = "all", **members: Any) -> dict[str, Any]:
    """Return a node with a content of some type."""
    made = members if kind is None else {"content_type": kind} | members
    return node(None, role, content=made, recipient=to)


def result(kind: str = "execution_output", **members: Any) -> dict[str, Any]:
    return node(None, "tool", content={"content_type": kind, **members})


CITED = "It leaves at 6.\ue200cite\ue202turn0search0\ue202turn0search3\ue201 Daily."
LINK = "([Ferries](https://ferry.example))"


def refer(mark: str, **members: Any) -> dict[str, Any]:
    return {"metadata": {"content_references": [{"matched_text": mark, **members}]}}


def test_a_search_becomes_one_reply_with_its_reasoning_and_model(store: Store) -> None:
    mapping = chain(
        asked("When?"),
        content("thoughts", thoughts=[{"summary": "Timetable", "content": "I look it up."}]),
        content("code", to="web.run", text='{"search_query": []}'),
        result("tether_browsing_display", result="", summary=""),
        content("reasoning_recap", content="Thought for 4s"),
        reply(CITED, **refer(CITED[15:-7], alt=LINK)),
    )
    report = take(store, chatgpt(mapping, "n5", default_model_slug="gpt-5-2-thinking"))
    found = only(store)
    assert found.said == [("user", "When?"), ("reply", f"It leaves at 6.{LINK} Daily.")]
    assert (found.messages[1].reasoning, found.messages[1].model) == ("Timetable\n\nI look it up.", "gpt-5-2-thinking")
    assert report.left_out == {"tool_call": 1, "tool_result": 1, "reasoning_recap": 1}


@pytest.mark.parametrize(
    ("text", "fields", "shown"),
    [
        (CITED, {}, "It leaves at 6. Daily."),
        (CITED, refer(CITED[15:-7], alt="", items=[{"title": "A", "url": "https://a.example"}]),
         "It leaves at 6.([A](https://a.example)) Daily."),
        ('In \ue200entity\ue202["city","Bergen","a city"]\ue201 it rains.', {}, "In Bergen it rains."),
        ("See \ue200url\ue202the docs\ue202https://docs.example\ue201.", {}, "See [the docs](https://docs.example)."),
        ('\ue200image_group\ue202{"query": ["cats"]}\ue201Cats.', {}, "Cats."),
        ("Cut \ue200cite\ue202turn0", {}, "Cut "),
        ("Left open \ue200cite\ue202turn0 are words.\n\nMore.", {}, "Left open citeturn0 are words.\n\nMore."),
        ("Old【4†source】.", refer("【4†source】", alt=LINK), f"Old{LINK}."),
        ("Old【4†source】.", {}, "Old【4†source】."),
        ("Old【4†source】.", {"metadata": {"citations": [
            {"start_ix": 3, "end_ix": 13, "metadata": {"title": "A", "url": "https://a.example"}}]}},
         "Old([A](https://a.example))."),
        ("A space stays.", refer(" ", type="sources_footnote", alt=""), "A space stays."),
    ],
)  # fmt: skip
def test_citation_marks_become_links_or_words(store: Store, text: str, fields: Any, shown: str) -> None:
    take(store, chatgpt(chain(asked(), reply(text, **fields))))
    assert only(store).said[1:] == [("reply", shown)]


@pytest.mark.parametrize(
    ("function", "call", "text"),
    [
        ("create_textdoc", {"name": "l", "type": "document", "content": "Dear Sir,\n\nit is cold."},
         "Dear Sir,\n\nit is cold."),
        ("create_textdoc", {"name": "c", "type": "code/python", "content": "print(1)"}, "```python\nprint(1)\n```"),
        ("update_textdoc", {"updates": [{"pattern": ".*", "multiple": False, "replacement": "Dear all"}]}, "Dear all"),
        ("comment_textdoc", {"comments": [{"pattern": "x", "comment": "Shorter."}]}, "Shorter."),
        ("create_textdoc", "no JSON", '"no JSON"'),
    ],
)  # fmt: skip
def test_canvas_document_is_text_and_memory_is_skipped(store: Store, function: str, call: Any, text: str) -> None:
    mapping = chain(
        asked(),
        reply("Prefers letters.", recipient="bio"),
        node(None, "tool", "Model set context updated."),
        content("code", to=f"canmore.{function}", text=json.dumps(call)),
        node(None, "tool", "Successfully created text document"),
        reply("It is in the canvas."),
    )
    report = take(store, chatgpt(mapping))
    assert only(store).said[1:] == [("reply", text), ("reply", "It is in the canvas.")]
    assert report.left_out == {"memory": 1, "tool_result": 2}


@pytest.mark.parametrize("tool", ["python", "python_user_visible"])
def test_interpreter_code_becomes_reasoning_of_next_reply(store: Store, tool: str) -> None:
    mapping = chain(
        asked("The mean?"),
        reply("I will compute it."),
        content("code", to=tool, text="sum(v) / 3"),
        result(text="6.0"),
        reply("It is 6."),
    )
    report = take(store, chatgpt(mapping))
    found = only(store)
    assert found.said[1:] == [("reply", "I will compute it."), ("reply", "It is 6.")]
    assert [one.reasoning for one in found.messages] == ["", "", "```python\nsum(v) / 3\n```"]
    assert report.left_out == {"tool_result": 1}


def test_reasoning_without_reply_is_counted(store: Store) -> None:
    thought = content("thoughts", thoughts=[{"summary": "Hm", "content": ""}])
    report = take(store, chatgpt(chain(asked(), thought, asked("Again?"), reply())))
    assert [one.reasoning for one in only(store).messages] == ["", "", ""]
    assert report.left_out == {"reasoning": 1}


def test_a_reply_and_its_continuation_are_both_kept(store: Store) -> None:
    cut = reply("January,", metadata={"finish_details": {"type": "max_tokens"}})
    take(store, chatgpt(chain(asked(), cut, reply(" February."))))
    found = only(store)
    assert found.said[1:] == [("reply", "January,"), ("reply", " February.")]
    assert [one.status for one in found.messages[1:]] == [Status.TRUNCATED, Status.COMPLETED]


PICTURE = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://a"}


def test_pictures_and_files_are_counted_and_marked_if_alone(store: Store) -> None:
    named = {"attachments": [{"name": "a.png", "mime_type": "image/png"}, {"name": "b.pdf", "mime_type": "x/pdf"}]}
    mapping = chain(
        content("multimodal_text", "user", parts=[PICTURE]),
        reply("A cat."),
        content("multimodal_text", "user", parts=[PICTURE, "And this?"]),
        content("multimodal_text", "tool", parts=[PICTURE]),
        asked("", metadata=named),
    )
    report = take(store, chatgpt(mapping))
    assert only(store).said == [
        ("user", "[picture]"), ("reply", "A cat."), ("user", "And this?"), ("reply", "[picture]"),
        ("user", "[picture: a.png]\n[file: b.pdf]"),
    ]  # fmt: skip
    assert report.left_out == {"picture": 4, "file": 1}


def test_speech_is_text_and_its_recording_is_counted(store: Store) -> None:
    sound = {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://b"}
    spoken = {"content_type": "audio_transcription", "text": "Which bird?", "direction": "in"}
    live = {"content_type": "real_time_user_audio_video_asset_pointer", "audio_asset_pointer": sound}
    mapping = chain(
        content("multimodal_text", "user", parts=[live, spoken]),
        content("multimodal_text", parts=[spoken | {"text": "A blackcap."}, sound]),
    )
    report = take(store, chatgpt(mapping))
    assert only(store).said == [("user", "Which bird?"), ("reply", "A blackcap.")]
    assert report.left_out == {"recording": 2}


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"parts": ["One.", "Two."]}, "One.\nTwo."),
        ({"content_type": "canvas_note", "parts": ["Noted."]}, "Noted."),
        ({"content_type": "canvas_note", "text": "Noted."}, "Noted."),
        ({"content_type": "canvas_note", "content": "Noted."}, "Noted."),
        ({"content_type": "text", "parts": [{"text": "In an object."}]}, "In an object."),
        ({"content_type": "text", "parts": [{"text": {"value": "In two."}}]}, "In two."),
        ({"content_type": "text", "parts": [{"type": "text", "content": "In another."}]}, "In another."),
        ({"content_type": "text", "parts": [{"content_type": "text", "parts": ["In its parts."]}]}, "In its parts."),
        ({"content_type": "text", "parts": "No list."}, "No list."),
        ({"content_type": "text", "text": "Beside the parts."}, "Beside the parts."),
        ({"content_type": "code", "language": "go", "parts": ["fmt.Println()"]}, "```go\nfmt.Println()\n```"),
        ({"content_type": "code", "language": "unknown", "text": "print()"}, "print()"),
        ("Just a string.", "Just a string."),
    ],
)  # fmt: skip
def test_text_of_unknown_types_is_kept(store: Store, members: Any, text: str) -> None:
    report = take(store, chatgpt(chain(asked(), node(None, "assistant", content=members))))
    assert only(store).said[1:] == [("reply", text)]
    assert (report.left_out, report.problem_count) == ({}, 0)


def test_content_without_text_is_counted_by_its_type(store: Store) -> None:
    mapping = chain(
        asked(),
        content("super_widget", widgets={"a": 1}),
        content("multimodal_text", parts=[{"content_type": "hologram", "pointer": "x"}, {"pointer": "y"}]),
        reply(),
        node(None, "critic", "Too short."),
    )
    report = take(store, chatgpt(mapping))
    assert only(store).said[1:] == [("reply", "Yes.")]
    assert report.left_out == {"super_widget": 1, "hologram": 1, "other": 1, "critic": 1}


ODD = {
    "no content": (node(None, "assistant", content=None), "it has no content"),
    "no author": (node(None, "assistant", "x", author=None), "it has no author"),
    "parts that are null": (content("text", parts=None), "it has no text"),
    "a number as message": ({"message": 7}, "it is not an object"),
}


@pytest.mark.parametrize(("odd", "reason"), ODD.values(), ids=ODD)
def test_bad_node_is_skipped_and_reported(store: Store, odd: Any, reason: str) -> None:
    report = take(store, chatgpt(chain(asked("One?"), odd, reply("One."), asked("Two?"), reply("Two.")), "n4"))
    assert only(store).said == [("user", "One?"), ("reply", "One."), ("user", "Two?"), ("reply", "Two.")]
    assert [problem.reason for problem in report.problems] == [f"its message n1 is left out: {reason}"]
    assert report.left_out == {"unreadable_message": 1}


def test_null_node_does_not_split_branch(store: Store) -> None:
    mapping = chain(asked(), reply(), asked("More?"), reply("No."))
    mapping["n0"]["children"], mapping["n1"] = ["n1"], None
    mapping["n2"]["parent"] = "n1"
    report = take(store, chatgpt(mapping, "n3"))
    assert only(store).said == [("user", "Well?"), ("user", "More?"), ("reply", "No.")]
    assert report.problem_count == 0


def test_tree_may_name_only_children(store: Store) -> None:
    mapping = chain(asked(), reply(), asked("More?"))
    for number, one in enumerate(mapping.values()):
        one["children"] = [f"n{number}"] if number < 3 else []
        one.pop("parent")
    take(store, chatgpt(mapping, "n2"))
    assert [text for _, text in only(store).said] == ["Well?", "Yes.", "More?"]


def test_cycle_is_cut(store: Store) -> None:
    mapping = {"a": node("b", "user", "One?"), "b": node("a", "assistant", "One."), "c": node("c", "user", "Two?")}
    report = take(store, chatgpt(mapping))
    assert (report.messages, report.problem_count) == (3, 0)


def test_too_large_message_is_skipped(store: Store) -> None:
    """Reads a message of eight megabytes: half a second."""
    report = take(store, chatgpt(chain(asked(), reply("x" * (7 * 1024 * 1024 + 1)), reply("Short."))))
    assert only(store).said[1:] == [("reply", "Short.")]
    assert [problem.reason[-24:] for problem in report.problems] == [" it is larger than 7 MiB"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"\\ud83d", "\ufffd"), (b"\\ude00 \\uD83D", "\ufffd \ufffd"), (b"\\ud83d\\ude00", "😀"),
        (b"\\\\ud83d", "\\ud83d"), (b"\\ud83d\\ud83d\\ude00", "\ufffd😀"), (b"\xff", "\ufffd"), (b"\x01", "\x01"),
    ],
)  # fmt: skip
def test_damaged_text_is_repaired(store: Store, written: bytes, text: str) -> None:
    file = json.dumps([chatgpt(chain(asked("HERE"))), chatgpt(chain(asked()), conversation_id="c-2")]).encode()
    report = store.take(file.replace(b"HERE", written))
    assert report.conversations == {"added": 2}
    assert report.left_out == ({"damaged_character": text.count("\ufffd")} if "\ufffd" in text else {})
    assert {one.said[0][1] for one in taken(store)} == {text, "Well?"}


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-18T11:06:40Z", "2026-11-18 19:06:40+08:00", "2026/11/18 11:06:40", "Wed, 18 Nov 2026 11:06:40 GMT",
        {"$date": "2026-11-18T11:06:40Z"}, {"$date": 1795000000000}, {"$date": {"$numberLong": "1795000000000"}},
        1795000000000, "1795000000",
    ],
)  # fmt: skip
def test_times_are_read_in_all_notations(store: Store, value: Any) -> None:
    take(store, chatgpt(chain(asked(at=value)), create_time=value))
    assert (only(store).conversation.created_at, only(store).messages[0].timestamp) == (AT * 10**6, AT * 10**6)


def test_tree_without_links_is_a_list(store: Store) -> None:
    mapping = {name: one | {"parent": None} for name, one in chain(asked(), reply(), asked("Why?")).items()}
    take(store, chatgpt(mapping))
    assert [text for _, text in only(store).said] == ["Well?", "Yes.", "Why?"]


def test_missing_node_does_not_split_branch(store: Store) -> None:
    mapping = chain(asked(), reply(), asked("Why?"), reply("So."))
    del mapping["n1"]
    mapping["n0"]["children"] = ["n1"]
    take(store, chatgpt(mapping, "n3"))
    assert [text for _, text in only(store).said] == ["Well?", "Why?", "So."]


@pytest.mark.parametrize("author", [{"author": "user"}, {"author": None, "role": "user"}, {"author": {"role": "User"}}])
def test_author_may_be_a_string(store: Store, author: Any) -> None:
    take(store, chatgpt(chain(asked() | {"message": asked()["message"] | author}, reply())))
    assert only(store).said == [("user", "Well?"), ("reply", "Yes.")]


@pytest.mark.parametrize("encoding", ["gbk", "big5", "shift_jis", "euc_kr", "cp1252"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_file_in_other_encoding_is_reported(store: Store, encoding: str, *, wrapped: bool) -> None:
    text = {"euc_kr": "오늘 날씨", "cp1252": "déjà"}.get(encoding, "今日天下")
    chats = [chatgpt(chain(asked(text), reply(text)))]
    file = json.dumps({"conversations": chats} if wrapped else chats, ensure_ascii=False).replace("俳句", "x")
    with pytest.raises(UnknownFile, match="it is not written in UTF-8"):
        store.take(file.encode(encoding))


def test_damaged_characters_in_a_document_are_counted(store: Store) -> None:
    file = json.dumps({"conversations": [chatgpt(chain(asked("HERE 俳句")))]}, ensure_ascii=False).encode()
    report = store.take(file.replace(b"HERE", b"\xe4\xbf"))
    assert (only(store).said, report.left_out) == ([("user", "\ufffd 俳句")], {"damaged_character": 1})


@pytest.mark.parametrize(
    "value", [b"NaN", b"Infinity", b"-1", b'"2026-11-18T00:00:00Z"', b'"soon"', b"true", b"1e400", b'"1795000000"']
)
def test_invalid_times_are_ignored(store: Store, value: bytes) -> None:
    file = json.dumps([chatgpt(chain(asked(at=AT), reply(at=AT)), create_time=AT, update_time=AT)]).encode()
    assert store.take(file.replace(str(AT).encode(), value)).messages == 2


def test_without_times_a_second_import_adds_nothing(store: Store) -> None:
    file = chatgpt(chain(asked(), reply()), create_time=None, update_time=None)
    reports = [take(store, file) for _ in range(3)]
    assert [report.conversations for report in reports] == [{"added": 1}, {"present": 1}, {"present": 1}]
    grown = chatgpt(chain(asked(), reply(), asked("More?")), create_time=None, update_time=None)
    assert take(store, grown).conversations == {"updated": 1}
    assert [text for _, text in only(store).said] == ["Well?", "Yes.", "More?"]


def test_conversations_without_ids_are_distinguished(store: Store) -> None:
    files = [chatgpt(chain(asked("Hi"), reply(text)), conversation_id=None) for text in ("Hi.", "Hello.")]
    assert take(store, *files).conversations == {"added": 2}
    assert take(store, *files).conversations == {"present": 2}


def test_conversation_without_importable_messages_is_reported(store: Store) -> None:
    report = take(store, chatgpt(chain(content("code", to="web.run", text="{}"), result())))
    assert [problem.reason for problem in report.problems] == ["none of its messages can be imported"]
    assert (report.left_out, report.conversations) == ({"tool_call": 1, "tool_result": 1}, {})


@pytest.mark.parametrize("mapping", [{}, chain(), chain(reply(""))])
def test_empty_conversation_is_counted(store: Store, mapping: Any) -> None:
    report = take(store, chatgpt(mapping))
    assert (report.left_out, report.conversations, report.problem_count) == ({"empty_conversation": 1}, {}, 0)


def test_hidden_messages_are_counted_and_system_prompt_kept(store: Store) -> None:
    hidden: dict[str, Any] = {"metadata": {"is_visually_hidden_from_conversation": True}}
    profile = {"content_type": "user_editable_context", "user_profile": "I am a cook."}
    mapping = chain(
        node(None, "system", "", **hidden),
        node(None, "user", content=profile, **hidden),
        node(None, "system", "Be brief."),
        node(None, "user", "Original instructions", **hidden),
        asked(),
        reply(),
    )
    report = take(store, chatgpt(mapping))
    found = only(store)
    assert (found.conversation.system, len(found.messages)) == ("Be brief.", 2)
    assert report.left_out == {"custom_instructions": 1, "hidden_message": 1}


def test_first_unknown_types_are_counted_separately(store: Store) -> None:
    mapping = chain(asked(), *(content(f"odd-{number}", x=1) for number in range(150)))
    report = take(store, chatgpt(mapping))
    assert (len(report.left_out), report.left_out.total(), report.left_out["other"]) == (101, 150, 50)
