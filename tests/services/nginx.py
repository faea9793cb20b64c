"""A throwaway nginx on loopback with a configuration of the project's, as an ordinary program."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import nginx
from tests.ports import free_port, is_listening
from tests.servers import ROOT
from tests.services import debian


class Unavailable(Exception):
    """There is no nginx here and no way to have it unasked."""


class Nginx:
    """A running nginx; use it as a context."""

    def __init__(self, configuration: Path, port: int, *, is_secure: bool = False) -> None:
        self.port = port
        self.url = f"https://localhost:{port}" if is_secure else f"http://127.0.0.1:{port}"
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder, file = self._configuration.parent, self._configuration
        command = [str(program()), "-p", str(folder), "-e", "stderr", "-c", str(file), "-g", "daemon off;"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not is_listening(self.port):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise RuntimeError("nginx did not start")
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and its workers."""
        if self._process:
            self._process.terminate()
            self._process.wait()


def shipped(folder: Path, upstream: str, user: str = "root") -> Nginx:
    """Return nginx with the project's configuration; only the paths and the address of the server are others.

    If root runs it, its workers run as ``user``, a name and perhaps a group.
    """
    port = free_port()
    (folder / "mime.types").write_text("types { text/html html; }")
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    places = {
        "/etc/nginx/mime.types": folder / "mime.types",
        "unix:/run/chatkeep/chatkeep.sock": upstream,
        "unix:/run/chatkeep/second.sock": f"unix:{folder / 'second.sock'}",
        "/tmp/nginx": folder / "nginx",  # noqa: S108 - as the file has it
        "/dev/stdout": folder / "access.log",
        "listen 8080": f"listen 127.0.0.1:{port}",
    }
    for theirs, ours in places.items():
        assert theirs in text
        text = text.replace(theirs, str(ours))
    chosen = f"user {user};\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(chosen + text, encoding="utf-8")
    return Nginx(folder / "nginx.conf", port)


# As a distribution's nginx.conf has it, but for the places.
AROUND_A_SITE = """
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 10240; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/html html; }}
    include {folder}/site.conf;
}}
"""


def site(folder: Path, upstream: str, certificate: Path | None = None) -> Nginx:
    """Return nginx with the project's site for a host; only the paths, the port and the address of the server differ.

    With a certificate it listens as the file says in its comment.
    """
    port = free_port()
    text = (ROOT / "deploy" / "nginx-site.conf").read_text(encoding="utf-8")
    plain, secure = "listen 80 default_server", "listen 443 ssl http2"
    places = {"unix:/run/chatkeep/chatkeep.sock": upstream, "/var/log/nginx/chatkeep.log": str(folder / "access.log")}
    if certificate:
        places |= {f"    {plain};\n": "", "# ssl_": "ssl_", "/etc/nginx/chat.example.com.pem": str(certificate)}
        places[f"# {secure};"] = f"listen 127.0.0.1:{port} ssl http2;"
    else:
        places[plain] = f"listen 127.0.0.1:{port} default_server"
    for theirs, ours in places.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    (folder / "site.conf").write_text(text, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(AROUND_A_SITE.format(folder=folder, user=user), encoding="utf-8")
    return Nginx(folder / "nginx.conf", port, is_secure=certificate is not None)


def program() -> Path:
    """Return nginx, from the distribution's package without installing it; raises `Unavailable`."""
    with debian.lock():
        found = nginx.find()
    if not found:
        raise Unavailable(nginx.ABSENT)
    return found
