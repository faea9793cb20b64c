"""Every format keeps any text, and marks what a model wrote."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.domain.conversation import new_id
from chatkeep.exports import dates
from chatkeep.exports.formats import FORMATS, Document, Format, make
from chatkeep.exports.formats.documents import Json, Seal
from chatkeep.exports.formats.text import json_text, time_text, uuid_text
from chatkeep.store.exports import ConversationRow, Kind, MessageRow, RecordRow
from chatkeep.store.tombstones import TombstoneRow
from chatkeep.web.routes.exports import disposition, file_name

NOW = 1_795_339_800_000_001  # 2026-11-22T09:30:00.000001Z
LINE_ENDS = "\x85\u2028\u2029"
# What breaks writers: quotes, separators, line ends, controls, formulas, other planes.
AWKWARD = st.sampled_from(
    ["=1+1", "\uff1d1", "-", "@", "+", "\t", "\r\n", '"', '""', ",", "\\", "\0", "\x1b", "你好", "🙂", "```", "]}"]
)
TEXT = st.lists(AWKWARD | st.text(), max_size=6).map("".join)


def a_conversation(**fields: Any) -> ConversationRow:
    row = ConversationRow(new_id(NOW).bytes, "Title", None, "{}", NOW, NOW, None, None, 0, 2, None, 1)
    return row._replace(**fields)


def a_message(content: str = "", reasoning: str = "", role: str = "user", **kind: Any) -> MessageRow:
    made = Kind(1, role, "completed", "m" if role == "assistant" else None, None, None, 0)._replace(**kind)
    return MessageRow(
        b"c" * 16, new_id(NOW).bytes, None, 1, NOW, content.encode(), reasoning.encode(), None, 0, json.dumps(made)
    )


def a_record(content: str = "") -> RecordRow:
    """Return a message's row."""
    return RecordRow(b"c" * 16, new_id(NOW).bytes, None, NOW, f',"content":{json.dumps(content)}'.encode())


def written(
    name: str, *rows: MessageRow | RecordRow, conversation: ConversationRow | None = None, bom: bool = False
) -> str:
    """Return a whole export of one conversation as text."""
    form = make(name, bom=bom)
    parts = [form.begin(), form.conversation(conversation or a_conversation()), form.messages(rows), form.finish()]
    return b"".join([*parts, sealed(form, Seal(1, len(rows), ""))]).decode()


def sealed(form: Format, seal: Seal) -> bytes:
    """Return the last line of a format that has one."""
    return form.seal(seal) if isinstance(form, Document) else b""


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@given(TEXT, TEXT)
def test_json_keeps_any_text(content: str, title: str) -> None:
    text = written("json", a_record(content), a_record(content), conversation=a_conversation(title=title))
    (conversation,) = json.loads(text)["conversations"]
    assert [conversation["title"], *(one["content"] for one in conversation["messages"])] == [title, content, content]


@given(TEXT, TEXT)
def test_ndjson_keeps_any_text_on_one_line_per_message(content: str, title: str) -> None:
    text = written("ndjson", a_record(content), a_record(content), conversation=a_conversation(title=title))
    head, conversation, *messages, end, rest = text.split("\n")
    assert [json.loads(line)["object"] for line in (head, end)] == ["export", "export.end"]
    assert json.loads(conversation)["title"] == title
    assert [json.loads(line)["content"] for line in messages] == [content, content]
    assert rest == ""


def test_csv_marks_replies_as_ai_generated() -> None:
    rows = cells(written("csv", a_message("Hi"), a_message("Hello", role="assistant")))
    assert [row["ai_generated"] for row in rows] == ["false", "true"]


def test_csv_has_byte_order_mark_on_request() -> None:
    assert written("csv", bom=True) == "\ufeff" + written("csv")


@pytest.mark.parametrize("name", FORMATS)
def test_empty_export_is_readable(name: str) -> None:
    form = make(name)
    text = (form.begin() + form.finish() + sealed(form, Seal(0, 0, ""))).decode()
    lines = {"json": 3, "ndjson": 2, "csv": 1}
    assert len(text.splitlines()) == lines.get(name, 0)
    assert name != "json" or json.loads(text)["conversations"] == []


@given(st.text())
def test_json_text_equals_standard_library(text: str) -> None:
    expected = json.dumps(text, ensure_ascii=False)
    for sign in LINE_ENDS:
        expected = expected.replace(sign, f"\\u{ord(sign):04x}")
    assert f'"{json_text(text.encode()).decode()}"' == expected


@pytest.mark.parametrize("name", ["json", "ndjson", "openai"])
def test_json_lines_end_only_at_newlines(name: str) -> None:
    """Readers that split lines like Python get the original lines."""
    text = f"a{'b'.join(LINE_ENDS)}\v\f\x1c\x1d\x1ec"
    conversation = a_conversation(title=text, system=text, metadata=json.dumps({text: text}, ensure_ascii=False))
    said = a_record(text), a_record(text)
    rows = said if name != "openai" else (a_message(text), a_message(text, role="assistant"))
    whole = written(name, *rows, conversation=conversation)
    assert whole.splitlines() == whole.split("\n")[:-1]
    read = json.loads(whole) if name == "json" else [json.loads(line) for line in whole.splitlines()]
    assert json.dumps(read).count(json.dumps(text)) >= len(rows) + 1


def test_ids_and_times_are_readable() -> None:
    id = new_id(NOW)  # noqa: A001 - as everywhere
    assert uuid_text(id.bytes).decode() == str(id)
    assert time_text(NOW) == b"2026-11-22T09:30:00.000001Z"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("1970-01-02", 86_400_000_000, 172_800_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000, 1_000_001),
        ("1970-01-01T08:00:00.5+08:00", 500_000, 500_001),
    ],
)
def test_bounds_are_inclusive(text: str, start: int, end: int) -> None:
    assert (dates.start_us(text), dates.end_us(text)) == (start, end)


@pytest.mark.parametrize(
    "text", ["", "today", "2026-02-30", "2026-1-1", "2026-11-22T10:00", "2026-11-22T10:00:00", "20261122"]
)
def test_invalid_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a date such as"):
        dates.start_us(text)


@given(st.text())
def test_title_cannot_leave_the_folder(title: str) -> None:
    name = file_name(title)
    assert name
    assert not set(name) & set('/\\:*?"<>|\r\n\0')
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("../../etc/passwd", "etc passwd"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("a\r\nSet-Cookie: b", "a Set-Cookie b"),
        ("gpj\u202e.exe", "gpj .exe"),
        ("...", "conversation"),
    ],
)
def test_file_name_is_safe(title: str, name: str) -> None:
    assert file_name(title) == name


def test_download_name_works_for_old_and_new_clients() -> None:
    header = disposition('俳句 "Haiku"', "json")
    assert header == "attachment; filename=\"Haiku.json\"; filename*=UTF-8''%E4%BF%B3%E5%8F%A5%20Haiku.json"


@pytest.mark.parametrize("pages", [[], [1], [2, 1]])
def test_document_lists_tombstones_of_all_pages(pages: list[int]) -> None:
    form, gone = Json(), TombstoneRow(new_id(NOW).bytes, 7, "deleted", NOW)
    parts = [form.begin("6"), form.finish(), *form.tombstones([gone] * length for length in pages)]
    found = json.loads(b"".join([*parts, form.seal(Seal(0, 0, "", sum(pages), "8"))]))
    assert (found["since"], found["end"]["tombstones"], found["end"]["cursor"]) == ("6", sum(pages), "8")
    assert [one["deleted_at"] for one in found["tombstones"]] == ["2026-11-22T09:30:00.000001Z"] * sum(pages)
