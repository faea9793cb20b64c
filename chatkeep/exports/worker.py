"""Make the files of export jobs, in one thread per process.

One statement claims a job, so any number of processes can work. The job of a killed process is made again by another.
Each attempt has its own file, and the row says which one is valid.
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

# After this many attempts a job fails: it probably kills its worker.
ATTEMPTS = 3
POLL_S = 1.0
# How often progress is stored and the owner's quota checked, by time and by bytes.
NOTE_S = 1.0
NOTE_BYTES = 8 * 1024 * 1024
CLOSE_S = 5.0
FAILED = "export_failed"
DISK_FULL = "export_disk_full"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ExportWorker:
    """Makes one job after another in a background thread, and keeps the folder tidy.

    With ``makes`` off it only tidies.
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
        self._threads = [background(self._repeat, settings.sweep_interval, self._tidy, name="export folder")]
        if makes:
            self._threads.append(background(self._repeat, POLL_S, self._make_all, name="exports"))

    def close(self) -> None:
        """Stop within a page, and return the running job to the queue."""
        self._closed.set()
        deadline = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _repeat(self, seconds: float, work: Callable[[], None]) -> None:
        """Repeat ``work`` with jitter until closed."""
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
        """Claim a job and return it, or None if another process was faster. Fails it after `ATTEMPTS`."""
        taken = self._started(found) if found.attempts < ATTEMPTS else self._failed(found, FAILED)

        def write(connection: Connection) -> bool:
            # Without a heartbeat, this process would look dead to others.
            leases.heartbeat(connection, self._worker_id)
            return jobs.claim(connection, found, taken, self._worker_id)

        if not self._journal.write(write):
            return None
        if taken.status is JobStatus.FAILED:
            log.error("export %s failed: it was begun %d times", taken.id, taken.attempts)
            return None
        return taken

    def _started(self, job: Job) -> Job:
        plain = Job(job.id, job.owner, job.request, job.created_at, JobStatus.RUNNING, self._worker_id)
        return replace(plain, attempts=job.attempts + 1, started_at=now_us())

    def _make(self, job: Job) -> None:
        """Make the file and store the job's outcome. Keeps the file only if the job is completed."""
        file = ExportFile(path_of(self._folder, job), spec_of(job).compression)
        became = self._outcome(job, file)
        if became.status is not JobStatus.COMPLETED:
            # Before the job is returned: the next worker may write to the same path.
            UPKEEP.run(file.discard)
        if not self._journal.write(lambda connection: jobs.update(connection, job, became), retry_until_up=True):
            log.info("export %s was cancelled or taken over", job.id)
            UPKEEP.run(file.discard)

    def _outcome(self, job: Job, file: ExportFile) -> Job:
        """Make the file. Return the job's new state."""
        try:
            return self._complete(job, file)
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

    def _complete(self, job: Job, file: ExportFile) -> Job:
        """Write and keep the file. Return the job as completed, or as queued if this process is closing."""
        wanted = spec_of(job)
        selection = _selection(self._database, job.owner, wanted)
        file.begin()
        export = Export(self._database, selection, make(wanted.format, bom=wanted.bom), self._redaction)
        if not self._write(replace(job, total=self._expected_total(selection)), export, file):
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

    def _expected_total(self, selection: Selection) -> int | None:
        if selection.conversation_id is not None:
            return 1
        if selection.ranged or selection.since is not None:
            return None  # counting would take as long as the export
        return self._database.read(lambda connection: exports.count(connection, selection.owner, now_us()), long=True)

    def _write(self, job: Job, export: Export, file: ExportFile) -> bool:
        """Write an export. Return False if this process is closing, or the job was cancelled or lost."""
        noted, seen, began = 0.0, 0, time.monotonic()
        for chunk in export:
            UPKEEP.run(file.write, chunk)
            took = time.monotonic() - began
            if began + took - noted >= NOTE_S or file.size - seen >= NOTE_BYTES:
                seen = file.size
                noted = began + took
                if not self._store_progress(job, export, file):
                    return False
            # Running replies of this process get at least half of its time.
            time.sleep(took if self._journal.streams else 0)
            if self._closed.is_set():
                return False
            began = time.monotonic()
        return True

    def _store_progress(self, job: Job, export: Export, file: ExportFile) -> bool:
        """Store the progress. Return whether this process still holds the job. Raises `QuotaExceeded`."""
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
