"""Claiming and changing rows of ``export_jobs``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import new_id, now_us
from chatkeep.exports.jobs import ExportSpec, enqueue, read_job
from chatkeep.exports.worker import ExportWorker
from chatkeep.redaction.policies import OFF
from chatkeep.store import jobs, leases
from chatkeep.store.engine import Database
from chatkeep.store.jobs import Job, JobStatus
from chatkeep.store.journal import Journal
from tests.http.api import eventually


@pytest.fixture
def queued(journal: Journal) -> Job:
    return enqueue(journal, "me", ExportSpec("csv"))


def claimed(journal: Journal, job: Job, worker: UUID) -> Job:
    """Claim a job for a worker, which must succeed."""
    taken = begun(job, worker)
    assert journal.write(lambda connection: jobs.claim(connection, job, taken, worker))
    return taken


def begun(job: Job, worker: UUID) -> Job:
    return replace(job, status=JobStatus.RUNNING, worker_id=worker, attempts=job.attempts + 1)


def beat(journal: Journal, worker: UUID) -> None:
    journal.write(lambda connection: leases.heartbeat(connection, worker))


def test_job_is_claimed_once(database: Database, journal: Journal, queued: Job) -> None:
    mine, other = new_id(), new_id()
    beat(journal, mine)
    claimed(journal, queued, mine)
    assert not journal.write(lambda connection: jobs.claim(connection, queued, begun(queued, other), other))
    assert database.read(lambda connection: jobs.claimable(connection, other)) is None


def test_job_of_live_worker_is_not_claimed(journal: Journal, queued: Job) -> None:
    mine, other = new_id(), new_id()
    beat(journal, mine)
    held = claimed(journal, queued, mine)
    assert not journal.write(lambda connection: jobs.claim(connection, held, begun(held, other), other))


def test_job_of_dead_worker_is_claimed(database: Database, journal: Journal, queued: Job) -> None:
    mine, other = new_id(), new_id()
    held = claimed(journal, queued, mine)
    assert database.read(lambda connection: jobs.claimable(connection, other)) == held
    now_others = claimed(journal, held, other)
    done = replace(held, status=JobStatus.COMPLETED)
    assert not journal.write(lambda connection: jobs.update(connection, held, done))
    assert read_job(database, "me", queued.id) == now_others


def test_job_lost_by_its_own_worker_is_claimed_again(database: Database, journal: Journal, queued: Job) -> None:
    mine = new_id()
    beat(journal, mine)
    held = claimed(journal, queued, mine)
    assert database.read(lambda connection: jobs.claimable(connection, mine)) == held
    assert claimed(journal, held, mine).attempts == 2


def test_finishing_a_job_is_idempotent(journal: Journal, queued: Job) -> None:
    """A commit with an unknown outcome is repeated."""
    held = claimed(journal, queued, new_id())
    done = replace(held, status=JobStatus.COMPLETED, size=7)
    assert [journal.write(lambda connection: jobs.update(connection, held, done)) for _ in range(2)] == [True, True]


def test_cancelled_job_cannot_be_finished(database: Database, journal: Journal, queued: Job) -> None:
    held = claimed(journal, queued, new_id())
    now = now_us()
    assert journal.write(lambda connection: jobs.cancel(connection, "me", queued.id, now, now + 60_000_000))
    done = replace(held, status=JobStatus.COMPLETED)
    assert not journal.write(lambda connection: jobs.update(connection, held, done))
    assert read_job(database, "me", queued.id).status is JobStatus.CANCELLED


def test_export_worker_has_a_heartbeat(database: Database, journal: Journal, queued: Job, tmp_path: Path) -> None:
    """Waits for a poll of the queue. The process's watchdog may have no heartbeat yet."""
    worker = new_id()
    maker = ExportWorker(database, journal, worker, Settings(data_dir=tmp_path), OFF, makes=True)
    assert eventually(lambda: read_job(database, "me", queued.id).status is JobStatus.COMPLETED)
    maker.close()
    assert worker in database.read(leases.heartbeats)
