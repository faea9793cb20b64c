"""Export jobs: exports that are made into files, beside the requests and by any process.

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
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import UUID

import msgspec

from chatkeep import exports
from chatkeep.concurrency import background, off_loop
from chatkeep.errors import (
    NO_CONVERSATION,
    NO_EXPORT,
    ExportFileMissing,
    ExportFinished,
    ExportNotReady,
    FieldError,
    InvalidFields,
    NotFound,
    Problem,
    StoreUnavailable,
    TooManyExports,
)
from chatkeep.exports import Export, dates, files
from chatkeep.exports.files import File
from chatkeep.exports.formats import make
from chatkeep.exports.redacting import Redacting
from chatkeep.logs import named
from chatkeep.model import new_id, now_us
from chatkeep.redaction.policies import OFF, Redaction
from chatkeep.settings import Settings
from chatkeep.store import conversations, jobs, leases
from chatkeep.store import exports as tables
from chatkeep.store.engine import Database
from chatkeep.store.exports import Selection
from chatkeep.store.jobs import Job, JobStatus
from chatkeep.store.journal import Journal
from chatkeep.store.notes import COMMAND_LINE, Actor, Note, Verb
from chatkeep.store.sql import Connection

log = logging.getLogger(__name__)

# What an owner may have waiting; processes that are asked at the same moment may each let one more in.
UNFINISHED = 10
# So often a job is begun; then the fault is taken to be its own.
ATTEMPTS = 3
POLL_S = 1.0
NOTE_S = 1.0
CLOSE_S = 5.0
FAILED = "export_failed"
DISK_FULL = "export_disk_full"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_NO_FILE = {
    JobStatus.QUEUED: "It waits for its turn; ask again until its status is completed.",
    JobStatus.RUNNING: "It is being made; ask again until its status is completed.",
    JobStatus.FAILED: "It failed, as its error says; ask for a new export.",
    JobStatus.CANCELLED: "It was cancelled; ask for a new export.",
}


FormatName = Literal["json", "csv", "ndjson", "md", "openai"]
Compression = Literal["none", "gzip", "zstd"]


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an export job is asked for; ``name`` is that of the download, and the dates are as the caller wrote them."""

    format: FormatName
    compression: Compression = "none"
    conversation_id: UUID | None = None
    start_date: str | None = None
    end_date: str | None = None
    since: str | None = None
    """The cursor of the export whose increment this is."""
    bom: bool = False
    name: str = ""

    @property
    def suffix(self) -> str:
        """What the names of its files end with, behind the dot."""
        return make(self.format).suffix + _SUFFIXES[self.compression]


def wanted_of(job: Job) -> Wanted:
    """Return what a job is asked for."""
    return msgspec.json.decode(job.request, type=Wanted)


def enqueue(journal: Journal, owner: str, wanted: Wanted, redaction: Redaction = OFF, by: Actor = COMMAND_LINE) -> Job:
    """Store a job, which is made as soon as a process has time.

    Raises `NotFound`, `TooManyExports`, `StoreUnavailable`.
    """
    now = now_us()
    job_id = new_id(now)

    def write(connection: Connection) -> Job:
        if jobs.unfinished(connection, owner) >= UNFINISHED:
            words = f"There are {UNFINISHED} that are not finished; wait until one is, or cancel one."
            raise TooManyExports(words, retry_after=10)
        named = msgspec.structs.replace(wanted, name=_name(connection, owner, wanted, now, redaction))
        job = Job(job_id, owner, msgspec.json.encode(named).decode(), now)
        jobs.insert(connection, job)
        what = {"export_id": job_id, "format": wanted.format, "conversation_id": wanted.conversation_id}
        connection.notes.append(Note(by, Verb.EXPORT_MADE, what))
        return job

    return journal.write(write)


def _name(connection: Connection, owner: str, wanted: Wanted, now: int, redaction: Redaction) -> str:
    if wanted.conversation_id is None:
        return f"chatkeep-{datetime.fromtimestamp(now // 1_000_000, UTC):%Y-%m-%d}"
    found = conversations.get(connection, owner, wanted.conversation_id, now)
    if found is None:
        raise NotFound(NO_CONVERSATION)
    return Redacting(redaction.export, records=False).text(found.title) if redaction.export else found.title


def list_jobs(
    database: Database, owner: str, limit: int, after: UUID | None, *, ascending: bool
) -> tuple[list[Job], bool]:
    """Return a page of the owner's jobs by creation, and whether more follow.

    Raises `InvalidFields`, `StoreUnavailable`.
    """
    now = now_us()
    found = database.read(
        lambda connection: jobs.newest(connection, owner, now, limit=limit + 1, after=after, ascending=ascending)
    )
    if found is None:
        raise InvalidFields("Begin the list again.", errors=[FieldError("after", "there is no item with this id")])
    return found[:limit], len(found) > limit


def read_job(database: Database, owner: str, id: UUID) -> Job:
    """Return the owner's job. Raises `NotFound`, `StoreUnavailable`."""
    now = now_us()
    return _found(database.read(lambda connection: jobs.get(connection, owner, id, now)))


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound(NO_EXPORT)
    return job


def cancel_job(journal: Journal, owner: str, id: UUID, ttl: float) -> Job:
    """Cancel a job that is not finished, and return it; its file goes away with the next page that is written.

    Raises `NotFound`, `ExportFinished`, `StoreUnavailable`.
    """
    now = now_us()

    def write(connection: Connection) -> Job:
        jobs.cancel(connection, owner, id, now, _later(now, ttl))
        job = _found(jobs.get(connection, owner, id, now))
        if job.status is not JobStatus.CANCELLED:
            raise ExportFinished(f"It is {job.status} already; DELETE removes it.")
        return job

    return journal.write(write)


def delete_job(journal: Journal, folder: Path, owner: str, id: UUID, by: Actor = COMMAND_LINE) -> None:
    """Delete a job and its file. Raises `NotFound`, `StoreUnavailable`."""

    def write(connection: Connection) -> Job:
        job = _found(jobs.get(connection, owner, id, now_us()))
        jobs.delete(connection, owner, id)
        connection.notes.append(Note(by, Verb.EXPORT_DELETED, {"export_id": id}))
        return job

    off_loop(files.remove, path_of(folder, journal.write(write)))


def open_file(folder: Path, job: Job) -> BinaryIO:
    """Open the file of a job. Raises `ExportNotReady`, `ExportFileMissing`."""
    if job.status is not JobStatus.COMPLETED:
        waits = 1 if job.status in {JobStatus.QUEUED, JobStatus.RUNNING} else None
        raise ExportNotReady(_NO_FILE[job.status], retry_after=waits)
    try:
        return path_of(folder, job).open("rb")
    except FileNotFoundError as error:
        words = "Another host has made it; hosts that serve together must share the folder CHATKEEP_DATA_DIR."
        raise ExportFileMissing(words, retry_after=60) from error


def path_of(folder: Path, job: Job) -> Path:
    """Return where the file of a job's current attempt is."""
    return folder / f"{job.id}-{job.attempts}.{wanted_of(job).suffix}"


def _later(now: int, seconds: float) -> int:
    return now + int(seconds * 1_000_000)


class Maker:
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
            leases.beat(connection, self._worker_id)
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
        file = File(path_of(self._folder, job), wanted_of(job).compression)
        became = self._outcome(job, file)
        if became.status is not JobStatus.COMPLETED:
            # Before the job is given back: whoever takes it may write to the same place.
            off_loop(file.discard)
        if not self._journal.write(lambda connection: jobs.update(connection, job, became), patient=True):
            log.info("export %s was cancelled or taken over", job.id)
            off_loop(file.discard)

    def _outcome(self, job: Job, file: File) -> Job:
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
            job, status=JobStatus.FAILED, error=code, size=0, finished_at=now, expires_at=_later(now, self._ttl)
        )

    def _made(self, job: Job, file: File) -> Job:
        """Write and keep the file; return the job as completed, or for the queue where this process ends."""
        wanted = wanted_of(job)
        selection = _selection(self._database, job.owner, wanted)
        file.begin()
        export = Export(self._database, selection, make(wanted.format, bom=wanted.bom), self._redaction)
        if not self._write(replace(job, total=self._total(selection)), export, file):
            return replace(job, status=JobStatus.QUEUED, worker_id=None, attempts=job.attempts - 1)
        off_loop(file.keep)
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
            expires_at=_later(now, self._ttl),
        )

    def _total(self, selection: Selection) -> int | None:
        if selection.conversation_id is not None:
            return 1
        if selection.ranged or selection.since is not None:
            return None  # finding out would take as long as the export
        return self._database.read(lambda connection: tables.count(connection, selection.owner, now_us()), long=True)

    def _write(self, job: Job, export: Export, file: File) -> bool:
        """Write an export; return False where this process ends, or the job is cancelled or another's by now."""
        noted, began = 0.0, time.monotonic()
        for chunk in export:
            off_loop(file.write, chunk)
            took = time.monotonic() - began
            if began + took - noted >= NOTE_S:
                noted = began + took
                if not self._note(job, export, file):
                    return False
            # Replies that are being generated in this process get at least half of its time.
            time.sleep(took if self._journal.streams else 0)
            if self._closed.is_set():
                return False
            began = time.monotonic()
        return True

    def _note(self, job: Job, export: Export, file: File) -> bool:
        """Store how far it is; return whether the job is still this process's."""
        seen = replace(job, conversations=export.conversations, messages=export.messages, size=file.size)
        return self._journal.write(lambda connection: jobs.update(connection, job, seen))


def _selection(database: Database, owner: str, wanted: Wanted) -> Selection:
    start = None if wanted.start_date is None else dates.start_us(wanted.start_date)
    end = None if wanted.end_date is None else dates.end_us(wanted.end_date)
    since = None if wanted.since is None else exports.cursor_epoch(database, wanted.since)
    return Selection(owner, wanted.conversation_id, start, end, since)
