from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.errors import ProviderBroke
from chatkeep.provider.sse import BUFFER_LIMIT, Event, EventReader

LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12)
EVENTS = st.lists(
    st.tuples(st.lists(LINES, min_size=1, max_size=3), st.sampled_from(["", "error", "ping"])), max_size=6
)


def read(chunks: list[bytes]) -> list[Event]:
    reader = EventReader()
    return [event for chunk in chunks for event in reader.feed(chunk)] + reader.close()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def encode(lines: list[str], name: str, end: str) -> str:
    head = [f"event: {name}"] if name else []
    return end.join([": comment", *head, *(f"data: {line}" for line in lines), "id: 1", "", ""])


@given(
    EVENTS,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.integers(0, 10_000), max_size=30),
)
def test_events_do_not_depend_on_splits(
    events: list[tuple[list[str], str]], end: str, bom: str, places: list[int]
) -> None:
    body = (bom + "".join(encode(*event, end) for event in events)).encode()
    expected = [Event("\n".join(lines).encode(), name.encode()) for lines, name in events]
    assert read(cut(body, places)) == read([bytes([byte]) for byte in body]) == expected


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data\n\n", [b""]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b": only a comment\n\n", []),
        (b"event: ping\n\n", []),
        (b"databases: a\n\n", [b"databases: a"]),
        (b"databases: a\ndata: b\n\n", [b"b"]),
        (b'{"error": "a"}\n\n', [b'{"error": "a"}']),
        (b"error: a\n\n", [b"a"]),
        (b"id: 1\nretry: 2\n\n", []),
        (b"data: a\r\rdata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: [DONE]", [b"[DONE]"]),
        (b"data: [DONE]\r", [b"[DONE]"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb", [b"\xef\xbb"]),
        (b"", []),
    ],
)
def test_format_rules_are_followed(body: bytes, data: list[bytes]) -> None:
    assert [event.data for event in read([body])] == data


def test_event_is_returned_with_its_blank_line() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a\r\n\r") == [Event(b"a")]
    assert reader.feed(b"\ndata: b\n\n") == [Event(b"b")]
    assert reader.feed(b"data: c\n\n") == [Event(b"c")]


@pytest.mark.parametrize("line", [b"data: " + b"x" * 65_530, b": " + b"x" * 65_534, b"data: x\n" * 8192])
def test_endless_event_is_refused_at_limit(line: bytes) -> None:
    reader = EventReader()
    for _ in range(BUFFER_LIMIT // len(line) - 1):
        assert reader.feed(line) == []
    with pytest.raises(ProviderBroke, match=re.escape(str(BUFFER_LIMIT))):
        [reader.feed(line) for _ in range(2)]
