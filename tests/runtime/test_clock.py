"""A wrong wall clock expires nothing."""

from __future__ import annotations

import pytest

from chatkeep.runtime.clock import SLACK_US, SteadyClock

DAY_US = 24 * 3600 * 1_000_000
BEGAN_US = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("jump", "believed"),
    [(0, 0), (SLACK_US, SLACK_US), (DAY_US, SLACK_US), (-DAY_US, -DAY_US)],
    ids=["none", "a correction", "a day forward", "a day back"],
)
def test_forward_jump_of_the_wall_clock_is_ignored(jump: int, believed: int) -> None:
    wall, passed = [BEGAN_US], [5.0]
    clock = SteadyClock(lambda: wall[0], lambda: passed[0])
    wall[0] += 60_000_000 + jump
    passed[0] += 60
    assert clock.now() == BEGAN_US + 60_000_000 + believed
