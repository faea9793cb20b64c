"""The first start on an empty database survives kills, and eight processes can start at once."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Record
from tests.faults.scale import Scale
from tests.faults.starting import Place, begin, is_sound, killed, start, succeeded

PROCESSES = 8
pytestmark = [pytest.mark.promise(9), pytest.mark.everywhere]


@pytest.fixture
def database_url(place: Place) -> str:
    return place.new()


def test_killed_first_migration_is_completed_by_the_next_start(
    place: Place, database_url: str, scale: Scale, figures: Record
) -> None:
    """Starts processes, some tenths of a second each."""
    lasts = seconds_of_a_start(database_url)
    dice, kills, amid, failures = scale.random("first"), scale.of(2, 50), 0, 0
    for _ in range(kills):
        url = place.new()
        [process] = begin(start, url)
        time.sleep(dice.uniform(0, lasts))
        amid += killed(process)
        [process] = begin(start, url)
        failures += not (succeeded(process) and is_sound(url))
        place.drop(url)
    figures("kill -9 of the first migration", kills=kills, amid_it=amid, failures=failures)
    assert failures == 0
    assert amid or not scale.is_long


def test_processes_can_start_concurrently(place: Place, database_url: str, scale: Scale, figures: Record) -> None:
    """Starts eight processes at once, some tenths of a second each time, also while the database hangs: six seconds."""
    lasts = seconds_of_a_start(database_url)
    dice, rounds, slow_rounds, failures = scale.random("starts"), scale.of(1, 250), scale.of(1, 25), 0
    for number in range(rounds + slow_rounds):
        url = place.new()
        processes = begin(start, url, processes=PROCESSES)
        if number >= rounds:
            time.sleep(scale.of(0, dice.uniform(0, lasts)))
            with place.held(url):
                time.sleep(scale.of(5.5, 8.0))
        failures += sum(not succeeded(process) for process in processes) + (not is_sound(url))
        place.drop(url)
    starts, slow = rounds * PROCESSES, slow_rounds * PROCESSES
    figures(
        "8 first starts at once, also with the database held or stopped for 8 s",
        starts=starts, starts_amid_a_stop=slow, failures=failures,
    )  # fmt: skip
    assert failures == 0


def seconds_of_a_start(url: str) -> float:
    """Return how long an undisturbed first start takes."""
    [process] = begin(start, url)
    began = time.monotonic()
    assert succeeded(process)
    return time.monotonic() - began
