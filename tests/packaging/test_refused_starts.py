"""A start that fails says why once, exits with a status, and opens no port, with every start command."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatkeep.i18n import Language, Text, translated
from tests.ports import free_port, is_listening
from tests.servers import ROOT, Server

SERVERS = {
    "serve --server gunicorn": ["-m", "chatkeep", "serve", "--server", "gunicorn"],
    "serve --server waitress": ["-m", "chatkeep", "serve", "--server", "waitress"],
    "serve --server development": ["-m", "chatkeep", "serve", "--server", "development"],
    "gunicorn": ["-m", "gunicorn", "-c", "python:chatkeep.server.gunicorn_conf", "chatkeep.server.serving:wsgi()"],
    "gunicorn -c gunicorn_conf.py": ["-m", "gunicorn", "-c", str(ROOT / "gunicorn_conf.py"), "app:app"],
    "gunicorn alone": ["-m", "gunicorn", "-k", "gevent", "-w", "1", "-b", "127.0.0.1:0", "app:app"],
    "app.py": [str(ROOT / "app.py")],
    "work": ["-m", "chatkeep", "work"],
}
OTHERS = {
    command: ["-m", "chatkeep", *command.split()]
    for command in (
        "migrate",
        "stats",
        "keys create name",
        "export",
        "forget user-1 --yes",
        "import nothing.json",
    )
}
GARBAGE = b"This is not a database. " * 999
ELSEWHERE = "choose another place by DATABASE_URL or CHATKEEP_DATA_DIR"
AWAY = "DATABASE_URL: no database listens on {place}; start it, or correct the host and the port"
UNESCAPED = (
    "DATABASE_URL: the value is invalid; write mysql+pymysql://user:password@host:3306/database, and in a password"
    " % / ? # @ and spaces as %25 %2F %3F %23 %40 %20"
)
FOLDER = (
    "DATABASE_URL: {folder}/file/chatkeep.sqlite3 cannot be opened; its folder has to be one that this user may write;"
    f" {ELSEWHERE}"
)
# Environments, and the error of each. Nothing listens on the port {away}.
CASES: dict[str, tuple[dict[str, str], str]] = {
    "away": (
        {"DATABASE_URL": "mysql://user:secret@127.0.0.1:{away}/chatkeep"},
        Text(AWAY, place="127.0.0.1:{away}"),
    ),
    "away, in Chinese": (
        {"DATABASE_URL": "mysql://user:secret@127.0.0.1:{away}/chatkeep", "LC_ALL": "zh_CN.UTF-8"},
        translated(Text(AWAY, place="127.0.0.1:{away}"), "zh"),
    ),
    "unescaped": ({"DATABASE_URL": "mysql://user:secret@secret@127.0.0.1/chatkeep"}, UNESCAPED),
    "a file for the data folder": (
        {"CHATKEEP_DATA_DIR": "{folder}/file"},
        "CHATKEEP_DATA_DIR: {folder}/file is a file; name a folder",
    ),
    "a file for its folder": (
        {"CHATKEEP_DATA_DIR": "{folder}/file"},
        FOLDER,
    ),
    "damaged": (
        {"DATABASE_URL": "sqlite:///{folder}/file"},
        f"DATABASE_URL: {{folder}}/file is not a SQLite database, or it is encrypted; move it away, or {ELSEWHERE}",
    ),
    "no folder for a socket": (
        {"HOST": "unix:{folder}/nowhere/x.sock"},
        (
            "HOST: the folder of {folder}/nowhere/x.sock does not exist, or this user cannot write to it; "
            "create it, or choose another path"
        ),
    ),
    "only in a worker": (
        {"CHATKEEP_END_USER_TOKENS": '{{"local": {{"algorithm": "RS256", "keys": ["none"]}}}}'},
        "CHATKEEP_END_USER_TOKENS: a key of the account local is not valid for RS256; replace it",
    ),
}
RUNS = [
    *(("away", name) for name in (*SERVERS, *OTHERS)),
    *(("away, in Chinese", name) for name in ("serve --server gunicorn", "stats")),
    *(("unescaped", name) for name in ("gunicorn", "gunicorn -c gunicorn_conf.py", "app.py")),
    *(("a file for the data folder", name) for name in ("gunicorn", "work")),
    ("a file for its folder", "keys create name"),
    *(("damaged", name) for name in ("serve --server gunicorn", "serve --server waitress", "stats")),
    *(("no folder for a socket", name) for name in ("gunicorn", "serve --server waitress")),
    ("only in a worker", "serve --server gunicorn"),
]
if os.name == "nt":
    RUNS = [run for run in RUNS if "gunicorn" not in run[1] and "socket" not in run[0]]
# gunicorn writes its own log lines.
GUNICORNS_OWN = re.compile(r"\[\d{4}-.*\] \[(INFO|ERROR)\] |\S+Z (INFO|ERROR) gunicorn\.error\[")


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a start."""

    status: int
    said: list[str]
    is_listening: bool
    expected: str


def start(case: str, command: str, folder: Path) -> Ended:
    """Run a start command to its end."""
    env, expected = CASES[case]
    server = Server("flask", folder, {"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"})
    names: Mapping[str, object] = {"away": free_port(), "folder": folder}
    folder.mkdir()
    (folder / "file").write_bytes(GARBAGE)
    (folder / "nothing.json").write_text("[]")
    server.env |= {name: value.format(**names) for name, value in env.items()}
    done = subprocess.run(
        [sys.executable, *(SERVERS | OTHERS)[command]],
        cwd=folder,
        env=server.environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    return Ended(done.returncode, lines, is_listening(server.port), expected.format(**names))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Ended]:
    """The results of all starts, which run four at a time: up to two seconds each."""
    folders = [tmp_path_factory.mktemp("start") / "here" for _ in RUNS]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(start, *zip(*RUNS, strict=True), folders)
        return dict(zip(RUNS, found, strict=True))


@pytest.mark.parametrize(("case", "command"), RUNS)
def test_a_failed_start_says_why_once(ended: Mapping[tuple[str, str], Ended], case: str, command: str) -> None:
    """The first test runs all starts: seconds."""
    found = ended[case, command]
    said = [line for line in found.said if not GUNICORNS_OWN.match(line)]
    language: Language = "zh" if "Chinese" in case else "en"
    expected = [translated(Text("chatkeep cannot start:"), language), f"  - {found.expected}"]
    notice = [line for line in said if "the offline demo model answers" in line]
    status = 4 if command == "gunicorn alone" else 2
    assert (found.status, [line for line in said if line not in notice]) == (status, expected)
    assert (found.is_listening, "secret" in "".join(found.said)) == (False, False)


@pytest.mark.posix("there is no gunicorn on Windows")
def test_a_start_waits_for_a_silent_database_and_says_so_once(tmp_path: Path) -> None:
    """Waits for the timeout of a start: five seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mysql://user:secret@127.0.0.1:{silent.getsockname()[1]}/chatkeep"
        server = Server("flask", tmp_path, {"DATABASE_URL": url})
        silent.settimeout(20)
        with subprocess.Popen(
            [sys.executable, *SERVERS["gunicorn"]],
            cwd=tmp_path,
            env=server.environment(),
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as starting:
            # At the second connection, the first one has timed out.
            connections = [silent.accept()[0], silent.accept()[0]]
            was_listening = is_listening(server.port)
            silent.close()
            for connection in connections:
                connection.close()
            said = starting.communicate(timeout=30)[1]
    assert (starting.returncode, was_listening) == (2, False)
    assert said.count("The database does not answer. Waiting for it.") == 1
    assert said.count("chatkeep cannot start:") == 1
    assert "secret" not in said


@pytest.mark.posix("there is no gunicorn on Windows")
def test_a_master_that_fails_boots_no_worker(ended: Mapping[tuple[str, str], Ended]) -> None:
    """An error that only a worker can find boots one worker."""
    for (case, command), found in ended.items():
        if "gunicorn" in command:
            log = "\n".join(line for line in found.said if GUNICORNS_OWN.match(line))
            assert "serves on" not in "".join(found.said)
            assert log.count("Booting worker") == (1 if case == "only in a worker" or "alone" in command else 0), (
                case,
                log,
            )
