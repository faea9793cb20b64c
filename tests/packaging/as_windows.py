"""Serve chatkeep through Waitress without the Unix-only parts of Python, and print the results as JSON.

This removes modules and functions that Windows lacks before importing chatkeep. So any use of them fails, as on
Windows.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

MODULES = {
    "crypt", "fcntl", "gevent", "greenlet", "grp", "gunicorn", "nis", "ossaudiodev", "posix_ipc", "pty", "pwd",
    "readline", "resource", "spwd", "syslog", "termios", "tty", "uvloop", "zope",
}  # fmt: skip
FUNCTIONS = (
    "chown", "chroot", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getsid",
    "getuid", "initgroups", "killpg", "mkfifo", "nice", "pread", "pwrite", "register_at_fork", "sched_getaffinity",
    "sendfile", "setgid", "setsid", "setuid", "sysconf", "uname", "wait3", "wait4",
)  # fmt: skip
SIGNALS = (
    "SIGALRM",
    "SIGCHLD",
    "SIGHUP",
    "SIGKILL",
    "SIGPIPE",
    "SIGQUIT",
    "SIGUSR1",
    "SIGUSR2",
    "alarm",
    "pthread_kill",
)


PLACES = {  # settings that name Unix sockets
    "HOST": "unix:/tmp/x.sock",
    "REDIS_URL": "unix:///tmp/redis.sock",
    "DATABASE_URL": "mysql+pymysql://user:secret@localhost/chatkeep?unix-socket=/tmp/mysql.sock",
}


class Absent(MetaPathFinder):
    """Reject imports of modules that Windows lacks."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in MODULES:
            raise ImportError(f"{name} does not exist on Windows")


def take_away() -> None:
    """Remove modules, functions and signals that Windows lacks from this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        del sys.modules[name]
    sys.meta_path.insert(0, Absent())
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)
    del socket.AF_UNIX


def serve() -> int:
    """Serve `app:app` in a thread and return the port."""
    waitress = importlib.import_module("waitress")
    app = importlib.import_module("app").app
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=server.run, daemon=True).start()
    return int(server.effective_port)


def refusal(name: str) -> str:
    """Return the error for a setting that names a Unix socket."""
    settings = importlib.import_module("chatkeep.config.settings").Settings
    try:
        settings.from_env({name: PLACES[name]})
    except importlib.import_module("chatkeep.errors").SettingsError as error:
        return " ".join(error.problems)
    return ""


def call(port: int, method: str, path: str, body: str | None = None) -> int:
    """Return the status of a request, after reading the whole response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def main() -> None:
    """Serve, send requests, and print the results."""
    take_away()
    handling = {number: signal.getsignal(number) for number in signal.valid_signals()}
    port = serve()
    turn = json.dumps({"message": "Hello"})
    streamed = json.dumps({"message": "Hello", "stream": True})
    found = {
        "live": call(port, "GET", "/health/live"),
        "turn": call(port, "POST", "/api/chat", turn),
        "stream": call(port, "POST", "/api/chat", streamed),
        "signals": [str(n) for n, old in handling.items() if signal.getsignal(n) is not old],
        "refusals": {name: refusal(name) for name in PLACES},
        "modules": sorted({name.partition(".")[0] for name in sys.modules} & MODULES),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Waitress's threads are running


if __name__ == "__main__":
    main()
