"""Pages of results are limited in bytes and have at least one item."""

from __future__ import annotations

import msgspec
import pytest

from chatkeep.conversations.service import Listed
from chatkeep.domain.conversation import Conversation, new_id, now_us
from chatkeep.store.conversations import Position
from chatkeep.web.schemas import common, conversations

MIB = 1024**2


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [([], 0), ([1] * 100, 100), ([MIB] * 3, 3), ([MIB] * 5, 3), ([5 * MIB], 1), ([5 * MIB, 1], 1), ([1, 5 * MIB], 1)],
)
def test_page_ends_at_its_size_limit(sizes: list[int], shown: int) -> None:
    items = [common.ProblemField("x" * size, "") for size in sizes]
    data, is_cut = common.fitting(items)
    assert (data, is_cut) == (items[:shown], shown < len(items))


def test_limit_counts_bytes_of_json() -> None:
    """A control character takes six bytes in JSON, and a Chinese one three."""
    for text, shown in (("\x01" * 100_000, 6), ("\u5b57" * 100_000, 13), ("x" * 100_000, 41)):
        data, _ = common.fitting([common.ProblemField(text, "")] * 100)
        assert len(data) == shown
        assert len(msgspec.json.encode(data)) < 4 * MIB + 100


def test_truncated_page_of_conversations_returns_its_cursor() -> None:
    found = [Conversation(new_id(), "local", "title", now_us(), now_us(), system="x" * 100_000) for _ in range(60)]
    page = conversations.conversations_of(Listed(found, has_more=False, until=7))
    assert (len(page.data), page.has_more) == (41, True)
    assert conversations.position_of(page.last_id) == Position(found[40].last_active, found[40].id, 7)
