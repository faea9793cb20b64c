"""Making the files of export jobs, in a thread of every process that does so.

A job is claimed by one statement, so any number of processes may make them. One that a killed process left behind is
made anew by another: each attempt has a file of its own, and the row tells which one counts.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import now_us
from chatkeep.errors import Problem, StoreUnavailable
from chatkeep.exports import Export, cursor_epoch, dates, files
from chatkeep.exports.files import ExportFile
from chatkeep.exports.formats import make
from chatkeep.exports.jobs import ExportSpec, expires_at, path_of, require_room, spec_of
from chatkeep.redaction.policies import Redaction
from chatkeep.runtime.concurrency import UPKEEP, background
from chatkeep.runtime.logs import named
from chatkeep.store import exports, jobs, leases
from chatkeep.store.engine import Database
from chatkeep.store.exports import Selection
from chatkeep.store.jobs import Job, JobStatus
from chatkeep.store.journal import Journal
from chatkeep.store.sql import Connection

log = logging.getLogger(__name__)

# So often a job is begun; then the fault is taken to be its own.
ATTEMPTS = 3
POLL_S = 1.0
# How far a job is gets noted so often, and its owner's quota looked at.
NOTE_S = 1.0
NOTE_BYTES = 8 * 1024 * 1024
CLOSE_S = 5.0
FAILED = "export_failed"
DISK_FULL = "export_disk_full"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ExportWorker:
    """Makes the files of one job after the other, in a thread that no request waits for, and keeps the folder tidy.

    With ``makes`` off it only does the latter.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        worker_id: UUID,
        settings: Settings,
        redaction: Redaction,
        *,
        makes: bool,
    ) -> None:
        self._database = database
        self._journal = journal
        self._worker_id = worker_id
        self._redaction = redaction
        self._folder = settings.exports_dir
        self._ttl = settings.export_ttl
        self._quota = settings.quota_export_bytes
        self._closed = threading.Event()
        self._threads = [background(self._again, settings.sweep_interval, self._tidy, name="export folder")]
        if makes:
            self._threads.append(background(self._again, POLL_S, self._make_all, name="exports"))

    def close(self) -> None:
        """Stop within a page, and give the job that is under way back to the queue."""
        self._closed.set()
        deadline = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _again(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something again and again, and not at the same moments as other processes."""
        while not self._closed.wait(seconds * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter
            try:
                work()
            except Problem as error:
                log.warning("could not look after exports: %s", named(error))
            except Exception:
                log.exception("could not look after exports")

    def _tidy(self) -> None:
        removed = files.tidy(self._database, self._folder)
        if removed:
            log.info("removed %d files that belong to no export", removed)

    def _make_all(self) -> None:
        while not self._closed.is_set():
            found = self._database.read(lambda connection: jobs.claimable(connection, self._worker_id))
            if found is None:
                return
            job = self._claim(found)
            if job is not None:
                self._make(job)

    def _claim(self, found: Job) -> Job | None:
        """Return the job if it is this process's now; one that was begun often enough fails."""
        taken = self._begun(found) if found.attempts < ATTEMPTS else self._failed(found, FAILED)

        def write(connection: Connection) -> bool:
            # Before the first beat of its watch this process would look dead to others.
            leases.heartbeat(connection, self._worker_id)
            return jobs.claim(connection, found, taken, self._worker_id)

        if not self._journal.write(write):
            return None
        if taken.status is JobStatus.FAILED:
            log.error("export %s failed: it was begun %d times", taken.id, taken.attempts)
            return None
        return taken

    def _begun(self, job: Job) -> Job:
        plain = Job(job.id, job.owner, job.request, job.created_at, JobStatus.RUNNING, self._worker_id)
        return replace(plain, attempts=job.attempts + 1, started_at=now_us())

    def _make(self, job: Job) -> None:
        """Make the file, and store what becomes of the job; the file stays only where that is its completion."""
        file = ExportFile(path_of(self._folder, job), spec_of(job).compression)
        became = self._outcome(job, file)
        if became.status is not JobStatus.COMPLETED:
            # Before the job is given back: whoever takes it may write to the same place.
            UPKEEP.run(file.discard)
        if not self._journal.write(lambda connection: jobs.update(connection, job, became), retry_until_up=True):
            log.info("export %s was cancelled or taken over", job.id)
            UPKEEP.run(file.discard)

    def _outcome(self, job: Job, file: ExportFile) -> Job:
        """Make the file; return what the job becomes."""
        try:
            return self._made(job, file)
        except StoreUnavailable as error:
            log.warning("export %s is tried again: %s", job.id, named(error))
            return replace(job, status=JobStatus.QUEUED, worker_id=None)
        except Problem as error:
            log.warning("export %s failed: %s", job.id, error.code)
            return self._failed(job, error.code)
        except OSError as error:
            log.error("export %s failed: %s", job.id, error.strerror)  # noqa: TRY400 - the disk's fault, not the code's
            return self._failed(job, DISK_FULL if error.errno in _FULL else FAILED)
        except Exception:
            log.exception("export %s failed", job.id)
            return self._failed(job, FAILED)

    def _failed(self, job: Job, code: str) -> Job:
        now = now_us()
        return replace(
            job, status=JobStatus.FAILED, error=code, size=0, finished_at=now, expires_at=expires_at(now, self._ttl)
        )

    def _made(self, job: Job, file: ExportFile) -> Job:
        """Write and keep the file; return the job as completed, or for the queue where this process ends."""
        wanted = spec_of(job)
        selection = _selection(self._database, job.owner, wanted)
        file.begin()
        export = Export(self._database, selection, make(wanted.format, bom=wanted.bom), self._redaction)
        if not self._write(replace(job, total=self._total(selection)), export, file):
            return replace(job, status=JobStatus.QUEUED, worker_id=None, attempts=job.attempts - 1)
        UPKEEP.run(file.keep)
        self._database.read(lambda connection: require_room(connection, job.owner, job.id, file.size, self._quota))
        now = now_us()
        return replace(
            job,
            status=JobStatus.COMPLETED,
            total=export.conversations,
            conversations=export.conversations,
            messages=export.messages,
            size=file.size,
            sha256=file.sha256,
            cursor=export.cursor,
            finished_at=now,
            expires_at=expires_at(now, self._ttl),
        )

    def _total(self, selection: Selection) -> int | None:
        if selection.conversation_id is not None:
            return 1
        if selection.ranged or selection.since is not None:
            return None  # finding out would take as long as the export
        return self._database.read(lambda connection: exports.count(connection, selection.owner, now_us()), long=True)

    def _write(self, job: Job, export: Export, file: ExportFile) -> bool:
        """Write an export; return False where this process ends, or the job is cancelled or another's by now."""
        noted, seen, began = 0.0, 0, time.monotonic()
        for chunk in export:
            UPKEEP.run(file.write, chunk)
            took = time.monotonic() - began
            if began + took - noted >= NOTE_S or file.size - seen >= NOTE_BYTES:
                seen = file.size
                noted = began + took
                if not self._note(job, export, file):
                    return False
            # Replies that are being generated in this process get at least half of its time.
            time.sleep(took if self._journal.streams else 0)
            if self._closed.is_set():
                return False
            began = time.monotonic()
        return True

    def _note(self, job: Job, export: Export, file: ExportFile) -> bool:
        """Store how far it is; return whether the job is still this process's. Raises `QuotaUsedUp`."""
        seen = replace(job, conversations=export.conversations, messages=export.messages, size=file.size)

        def write(connection: Connection) -> bool:
            require_room(connection, job.owner, job.id, file.size, self._quota)
            return jobs.update(connection, job, seen)

        return self._journal.write(write)


def _selection(database: Database, owner: str, wanted: ExportSpec) -> Selection:
    start = None if wanted.start_date is None else dates.start_us(wanted.start_date)
    end = None if wanted.end_date is None else dates.end_us(wanted.end_date)
    since = None if wanted.since is None else cursor_epoch(database, wanted.since)
    return Selection(owner, wanted.conversation_id, start, end, since)
