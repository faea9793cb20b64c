"""Greenlets whose reads are ended or killed. Argument: a database URL. Prints the longest pause of the event loop."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import itertools  # noqa: E402 - gevent patches what is imported after it
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402

from chatkeep.errors import DatabaseTimeout  # noqa: E402
from chatkeep.store.engine import Database  # noqa: E402
from tests.store.test_reads import HURRIED, UNHURRIED, endless, one, running  # noqa: E402


def main(url: str) -> None:
    database, ticks = Database(url), list[float]()

    def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.01)

    gevent.spawn(tick)
    try:
        database.read_as(HURRIED, endless)
    except DatabaseTimeout:
        print("ended")  # noqa: T201 - a program
    killed = gevent.spawn(database.read_as, UNHURRIED, endless)
    gevent.sleep(0.2)
    assert database.read(one, long=True) == 1
    killed.kill(timeout=5)
    assert killed.dead
    assert database.read_as(UNHURRIED, one) == 1
    gevent.sleep(1)
    assert not running(database)
    print("killed")  # noqa: T201
    print(max(later - sooner for sooner, later in itertools.pairwise(ticks)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
