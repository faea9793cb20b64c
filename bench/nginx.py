"""nginx as a plain proxy in front of the provider: the least cost of moving the bytes on this machine.

A system's nginx is never touched: this one has its own configuration and folder and runs as an ordinary program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bench.load import CACHE, Target, drive
from bench.processes import free_port, listening, running, wait_until
from bench.servers import WARM_UP, environ

CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {place}/nginx.pid;
error_log {place}/nginx.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 10000000;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    upstream provider {{
        server 127.0.0.1:{provider};
        keepalive 64;
        keepalive_requests 10000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""
ABSENT = "nginx is not installed and could not be fetched: no ratios (on Debian and Ubuntu: apt-get download nginx)."


@contextmanager
def proxy(place: Path, provider: Target) -> Iterator[Target | None]:
    """Run a warmed-up nginx with one worker in front of the provider. Lends None if nginx is not available."""
    program = find()
    if not program:
        yield None
        return
    port, log = free_port(), place / "nginx.log"
    user = "user root;" if os.geteuid() == 0 else ""  # otherwise the worker's user has no access to the folder
    configuration = place / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(user=user, place=place, provider=provider.port, port=port))
    with running(program, "-p", place, "-e", log, "-c", configuration, env=environ(), log=log) as process:
        wait_until(lambda: listening(port), process, log)
        target = Target("nginx", process.pid, port, provider.path, provider.mode, log)
        drive(target, WARM_UP)
        yield target


@cache
def find() -> Path | None:
    """Return the path of nginx: the installed one, or one unpacked from the distribution's package.

    Installing the package would start a service on port 80.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin")
    if found:
        return Path(found)
    unpacked = CACHE / "nginx" / "usr" / "sbin" / "nginx"
    for package in ("nginx", "nginx-light", "nginx-core"):
        if not unpacked.exists():
            _unpack(package)
    return unpacked if unpacked.exists() else None


def _unpack(package: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    apt, unpack = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not (apt and unpack):
        return
    subprocess.run([apt, "download", "-q", package], cwd=CACHE, capture_output=True, check=False)
    for archive in CACHE.glob(f"{package}_*.deb"):
        subprocess.run([unpack, "-x", archive, CACHE / "nginx"], check=False)


def version() -> str | None:
    """Return the version of nginx."""
    program = find()
    if not program:
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return said.stderr.strip().rpartition("/")[2]
