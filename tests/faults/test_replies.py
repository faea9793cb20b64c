"""Many concurrent failing replies end with their own error, and affect no other stream."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults import processes, rows
from tests.faults.checker import compare
from tests.faults.conftest import ON_SQLITE, Record, Serve
from tests.faults.crowd import Crowd
from tests.faults.log import Seen
from tests.faults.processes import allow_files
from tests.faults.scale import Scale
from tests.http.api import eventually
from tests.upstream import reply_to

pytestmark = pytest.mark.promise(2, 7)
BROKE = ("truncated", "provider_broke")
FAULTS = {
    "cut_after:3": BROKE,
    "reset_after:3": BROKE,
    "end_after:3": BROKE,
    "finish_error:3": BROKE,
    "bad_utf8:3": BROKE,
    "malformed:3": BROKE,
    "nested:3": BROKE,
    "long_line:3": BROKE,
    "bad_chunk:3": BROKE,
    "error_after:3": BROKE,
    "error_event:3": BROKE,
    "detail_after:3": BROKE,
    "error_after:3:429": ("truncated", "provider_busy"),
    "hang_after:3": ("truncated", "provider_timeout"),
    "endless,r=20": ("truncated", "provider_timeout"),
    "no_done": ("completed", None),
    "no_reason:3": ("completed", None),
    "hang_done": ("completed", None),
}


def test_failing_replies_end_with_their_own_error_and_leave_others_alone(
    serve: Serve, database_url: str, scale: Scale, figures: Record
) -> None:
    """Streams for eight seconds. Twenty lines of 10 MB at once arrive in more than three."""
    server = serve(CHATKEEP_GAP_TIMEOUT=f"{scale.of(3, 8)}s", CHATKEEP_REPLY_TIMEOUT=f"{scale.of(8, 14)}s")
    each = scale.of(2, 20)
    with Crowd(server.port) as crowd:
        for number in range(each * len(FAULTS)):
            crowd.ask(f"sound {number} #n=40,r=20,seed={number}#")
            crowd.ask(f"faulty {number} one two three four #fault={list(FAULTS)[number % len(FAULTS)]}#")
        assert crowd.wait_for_end(30), "a stream has no end"
        log = [listener.parsed()[0] for listener in crowd.listeners]
    found = rows.read(database_url)
    verdict, stored = compare(found, log), {message.id: message for message in found.messages}
    sound, faulty = log[::2], log[1::2]
    harmed = [seen for seen in sound if (seen.text, seen.status) != (reply_to(seen.message), "completed")]
    ended = {(fault_of(seen), stored[seen.reply_id].status, stored[seen.reply_id].error) for seen in faulty}
    counts = {
        "faulty replies": len(faulty),
        "kinds": len(FAULTS),
        "sound ones": len(sound),
        "of them harmed": len(harmed),
    }
    figures("replies that go wrong, in every known way at once", **counts, **verdict.figures())
    verdict.check()
    assert harmed == []
    assert ended == {(fault, *end) for fault, end in FAULTS.items()}
    assert all(seen.code == FAULTS[fault_of(seen)][1] for seen in faulty)


def fault_of(seen: Seen) -> str:
    return seen.message.partition("fault=")[2].rstrip("#")


@ON_SQLITE
@pytest.mark.promise(6)
@pytest.mark.parametrize(("fault", "code", "kept"), [("long_line:3", "provider_broke", 1), ("endless", None, 3)])
def test_endless_reply_uses_bounded_memory(
    serve: Serve, scale: Scale, figures: Record, database_url: str, fault: str, code: str | None, kept: float
) -> None:
    """Sends lines of 10 MB, or replies that never end, to one worker: a few seconds."""
    allow_files()
    server, concurrency, rounds = (
        serve(WEB_CONCURRENCY="1", CHATKEEP_MAX_REPLY="64KiB"),
        scale.of(20, 100),
        scale.of(5, 10),
    )
    (worker,) = server.worker_pids()
    with Crowd(server.port) as crowd:
        crowd.ask("The first one loads what is loaded late.")
        assert crowd.wait_for_end()
        before, low = processes.anonymous(worker), processes.forget_peak(worker)
        for number in range(rounds * concurrency):
            crowd.ask(f"{number} one two three four #fault={fault}#")
            if (number + 1) % concurrency == 0:
                assert crowd.wait_for_end(120), "a stream has no end"
        log = [listener.parsed()[0] for listener in crowd.listeners[1:]]
        eventually(lambda: processes.anonymous(worker) - before <= kept * concurrency * 1024)  # it may still be busy
    grown, left = (processes.peak(worker) - low) / 1024, (processes.anonymous(worker) - before) / 1024
    compare(rows.read(database_url), log).check()
    found = {
        "replies at once": concurrency,
        "rounds": rounds,
        "MiB more at the peak": grown,
        "MiB more afterwards": left,
    }
    figures(f"`{fault}` on one worker", **found)
    assert Counter(seen.code for seen in log) == {code: rounds * concurrency}
    assert max(len(seen.text) for seen in log) <= 64 * 1024
    assert grown / concurrency <= 3
    assert left / concurrency <= kept, "what a reply that failed held was not let go"
