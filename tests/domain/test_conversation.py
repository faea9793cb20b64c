"""Ids that sort by time, and expiry of conversations."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

import pytest
from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, expiry, moment, new_id, now_us

KEPT = Conversation(id=UUID(int=1), owner="me", title="", created_at=0, last_active=5_000_000)


def test_id_is_a_uuid_of_version_7() -> None:
    made = new_id()
    assert (made.version, made.variant) == (7, RFC_4122)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (-1, "1969-12-31T23:59:59.999999+00:00"),
        (32_535_216_000_000_001, "3001-01-01T00:00:00.000001+00:00"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_moment_accepts_any_year(at: int, text: str) -> None:
    """On Windows `datetime.fromtimestamp`, which the linter bans, ends with the year 3000."""
    assert moment(at).isoformat() == text


@pytest.mark.parametrize("at", [0, 1, 1_700_000_000_123_456, (1 << 48) * 1000 - 1])
def test_id_starts_with_its_milliseconds(at: int) -> None:
    assert new_id(at).int >> 80 == at // 1000


def test_ids_sort_by_the_microsecond() -> None:
    times = [1_700_000_000_000_000 + step for step in (0, 1, 999, 1000, 1001, 2_000_000)]
    made = [new_id(at) for at in times]
    assert sorted(made, key=lambda made_id: made_id.bytes) == sorted(made) == made


def test_ids_of_one_microsecond_differ() -> None:
    assert len({new_id(1) for _ in range(10_000)}) == 10_000


def test_clock_counts_microseconds() -> None:
    assert abs(now_us() / 1e6 - time.time()) < 1


@pytest.mark.parametrize(
    ("ttl", "pinned", "expires"), [(3, False, 8_000_000), (None, False, None), (3, True, None), (None, True, None)]
)
def test_conversation_expires_a_ttl_after_its_last_activity(
    ttl: int | None, expires: int | None, *, pinned: bool
) -> None:
    assert expiry(replace(KEPT, ttl=ttl, pinned=pinned)) == expires
