"""Start and end processes, and read their CPU time, memory and open files from the kernel."""

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
IDLE, WAITING = 3, 4  # fields of /proc/stat with idle time


class BenchError(Exception):
    """The benchmark can't continue. The text says why."""


@contextmanager
def running(*command: str | Path, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the folder of ``log``, which gets its output. End it after the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches only this program, which then ends the others in order
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience: float = 15) -> None:
    """End a process that `running` started. Kill the rest of its group after ``patience`` seconds."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    """Wait until ``ready()`` is true.

    Raises `BenchError` with the log's end if the process is gone or ``seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            ending = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise BenchError(f"{process.args!r} did not come up:\n{ending}")
        time.sleep(0.005)


def free_port() -> int:
    """Return an unused TCP port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Return whether a port of the loopback address accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tree(pid: int) -> list[int]:
    """Return a process and all its running descendants."""
    parents = {int(path.name): _parent(path) for path in PROC.iterdir() if path.name.isdigit()}
    found = [pid]
    for member in found:  # the list grows during the loop
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _parent(path: Path) -> int:
    fields = _stat(path)
    return int(fields[1]) if fields else 0


def _stat(path: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name in parentheses, or nothing if the process has ended."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of a process tree, including ended children."""
    ticks = 0
    for member in tree(pid):
        ticks += sum(int(field) for field in _stat(PROC / str(member))[11:15])
    return ticks / TICKS


def other_cpu_seconds() -> float:
    """Return the CPU time of all processes that this program did not start."""
    busy = [int(field) for field in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(busy) - busy[IDLE] - busy[WAITING]) / TICKS - cpu_seconds(os.getpid())


def pss_kib(pid: int) -> int:
    """Return the PSS of a process tree in KiB: a page that n processes share counts as 1/n in each."""
    return sum(_rollup(member, "Pss:") for member in tree(pid))


def rss_kib(pid: int) -> int:
    """Return the RSS of a process tree in KiB: shared pages count in every process."""
    return sum(_rollup(member, "Rss:") for member in tree(pid))


def peak_kib(pid: int) -> int:
    """Return the peak RSS of a process in KiB, or 0 if it has ended."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _rollup(pid: int, name: str) -> int:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def opened(pid: int, file: Path) -> int:
    """Return the number of file descriptors of a process tree for a file."""
    count = 0
    for member in tree(pid):
        for link in (PROC / str(member) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += link.readlink() == file
    return count


def allow_many_files() -> None:
    """Raise the limit of open files to the maximum: a stream uses two in the server and two in the load tools."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
