"""Starting and ending processes, and what the kernel says about them: CPU time, memory, open files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import resource

    TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
IDLE, WAITING = 3, 4  # fields of /proc/stat, in which the machine did nothing


class BenchError(Exception):
    """The benchmark cannot go on; the text says why, in words for the person who started it."""


@contextmanager
def running(*command: str | Path, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the folder of ``log``, which takes what it prints; it is ended when the block is left."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this program only, which then ends the others in order
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience: float = 15) -> None:
    """End a process that `running` started; what is left of its group after ``patience`` seconds is killed."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    """Return once ``ready()`` is true.

    Raises `BenchError` with the log's end if the process is gone or ``seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            ending = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise BenchError(f"{process.args!r} did not come up:\n{ending}")
        time.sleep(0.005)


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Return whether somebody accepts connections on a port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tree(pid: int) -> list[int]:
    """Return a process and everything that it started and that still runs."""
    parents = {int(path.name): _parent(path) for path in PROC.iterdir() if path.name.isdigit()}
    found = [pid]
    for member in found:  # it grows while it is walked
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _parent(path: Path) -> int:
    fields = _stat(path)
    return int(fields[1]) if fields else 0


def _stat(path: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name in parentheses; nothing if the process is gone."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process tree has used; children that ended are counted in."""
    ticks = 0
    for member in tree(pid):
        ticks += sum(int(field) for field in _stat(PROC / str(member))[11:15])
    return ticks / TICKS


def other_cpu_seconds() -> float:
    """Return the CPU time that everything on the machine has used which this program did not start."""
    busy = [int(field) for field in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(busy) - busy[IDLE] - busy[WAITING]) / TICKS - cpu_seconds(os.getpid())


def pss_kib(pid: int) -> int:
    """Return the memory of a process tree in KiB; a page that n processes share counts as 1/n in each."""
    return sum(_rollup(member, "Pss:") for member in tree(pid))


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process tree in KiB; shared pages count in every process."""
    return sum(_rollup(member, "Rss:") for member in tree(pid))


def peak_kib(pid: int) -> int:
    """Return the most memory in KiB that a process ever had resident; 0 once it has ended."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _rollup(pid: int, name: str) -> int:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def opened(pid: int, file: Path) -> int:
    """Return how many times a process tree has a file open."""
    count = 0
    for member in tree(pid):
        for link in (PROC / str(member) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += link.readlink() == file
    return count


def allow_many_files() -> None:
    """Raise the limit of open files as far as it goes: a stream takes two in the server and two in the load tools."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
