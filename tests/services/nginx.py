"""A throwaway nginx on loopback with a configuration of the project's, as an ordinary program."""

from __future__ import annotations

import os
from pathlib import Path

from bench import nginx
from tests.ports import free_port
from tests.servers import ROOT
from tests.services import debian
from tests.services.program import Program, web_address


class Unavailable(Exception):
    """There is no nginx here and no way to have it unasked."""


class Nginx(Program):
    """A running nginx; use it as a context."""

    def __init__(self, configuration: Path, port: int, *, is_secure: bool = False) -> None:
        folder = configuration.parent
        command: list[str | Path] = [program(), "-p", folder, "-e", "stderr", "-c", configuration, "-g", "daemon off;"]
        super().__init__(command, port, web_address(port, is_secure=is_secure), log=folder / "nginx.output")


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
