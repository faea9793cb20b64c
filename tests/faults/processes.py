"""Read the memory and open files of processes from the system."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource


def pss(pid: int) -> int:
    """Return the proportional memory of a process in KiB."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Pss")


def anonymous(pid: int) -> int:
    """Return the anonymous memory of a process in KiB. Unlike files, it does not depend on other processes."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Pss_Anon")


def peak(pid: int) -> int:
    """Return the peak memory of a process since `forget_peak`, in KiB."""
    return _kib(f"/proc/{pid}/status", "VmHWM")


def forget_peak(pid: int) -> int:
    """Reset the peak memory and return it."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return peak(pid)


def open_files(pid: int) -> list[str]:
    """Return the paths of a process's open files. Those of sockets begin with ``socket:``."""
    return [_target(file) for file in Path(f"/proc/{pid}/fd").iterdir()]


def clients(port: int) -> int:
    """Return the number of open connections of a server on this loopback port."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    found = [line.split() for line in lines]
    return sum((place.endswith(f":{port:04X}"), state) == (True, "01") for _, place, _, state, *_ in found)


def listens(pid: int, port: int) -> bool:
    """Return whether a process has the listening socket of this loopback port."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    sockets = {f"socket:[{words[9]}]" for words in map(str.split, lines) if _is_listener(words, port)}
    try:
        return bool(sockets & set(open_files(pid)))
    except FileNotFoundError:  # it ended meanwhile
        return False


def allow_files() -> None:
    """Raise the limit of open files for this process and its children."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _is_listener(words: list[str], port: int) -> bool:
    return words[1].endswith(f":{port:04X}") and words[3] == "0A"


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def _kib(path: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(encoding="ascii"), re.MULTILINE)
    assert found, f"{path} has no {name}"
    return int(found[1])
