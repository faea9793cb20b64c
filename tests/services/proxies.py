"""Throwaway proxies before a server, on loopback, as the handbook sets them up, or else their documentation."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from bench.load import CACHE
from tests.docs.handbook import ENGLISH, blocks
from tests.ports import free_port
from tests.servers import ROOT
from tests.services import debian, nginx
from tests.services.program import Program, web_address

PACKAGES = {
    "haproxy": ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"),
    "varnish": ("varnish", "libvarnishapi3", "libjemalloc2"),
    "apache": ("apache2-bin", "libapr1", "libaprutil1", "libnghttp2-14"),
}
# A certificate of localhost, with its key.
PEM = ROOT / "tests" / "provider" / "localhost.pem"
# What the handbook's second block of a kind stands for in the first one.
UNDER_A_PATH = {
    "caddy": r"    reverse_proxy .*\n",
    "haproxy": r"(?s)    default_backend .*",
    "apache": r"    ProxyPass .*\n",
}
PROGRAMS = {"haproxy": "haproxy", "varnish": "varnishd", "apache": "apache2"}

VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{backend}"; }}
"""
CADDY = """
{
    admin off
    auto_https off
    persist_config off
    servers {
        protocols h1 h2
    }
}
"""
APACHE = """
DocumentRoot {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
DefaultRuntimeDir {folder}
Mutex default:{folder}
Listen 127.0.0.1:{port}
User nobody
Group nogroup
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule http2_module {modules}/mod_http2.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
"""
ENVOY_TYPES = "type.googleapis.com/envoy.extensions.filters"
ENVOY = """
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": {types}.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: all
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: {{prefix: "/"}}
                          route: {{cluster: chatkeep, timeout: 0s}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{"@type": {types}.http.router.v3.Router}}
  clusters:
    - name: chatkeep
      load_assignment:
        cluster_name: chatkeep
        endpoints:
          - lb_endpoints:
              - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
"""


class Unavailable(Exception):
    """The proxy is not here, and there is no way to have it unasked."""


class Running(Protocol):
    """A proxy that runs; it listens on ``port`` of loopback."""

    port: int
    url: str


def proxy(
    name: str, command: list[str | Path], port: int, folder: Path, env: Mapping[str, str], *, is_secure: bool = False
) -> Program:
    """Return a proxy that keeps its files in a folder."""
    url = web_address(port, is_secure=is_secure)
    return Program(command, port, url, log=folder / f"{name}.output", env={"HOME": str(folder), **env})


def haproxy(folder: Path, backend: int, *, is_secure: bool = False, under_path: bool = False) -> Program:
    """Return HAProxy, which gives a client's request to whichever connection is free."""
    program, libraries = unpacked("haproxy")
    port, file = free_port(), folder / "haproxy.cfg"
    tls, address = "ssl crt /etc/haproxy/chat.example.com.pem alpn h2,http/1.1", f"bind 127.0.0.1:{port}"
    plain = {f"bind :443 {tls}": address, "Proto https": "Proto http"}
    secure = {"bind :443": address, "/etc/haproxy/chat.example.com.pem": str(PEM)}
    text = of_handbook("haproxy", secure if is_secure else plain, backend, under_path=under_path)
    file.write_text(text)
    return proxy("haproxy", [program, "-db", "-f", file], port, folder, libraries, is_secure=is_secure)


def varnish(folder: Path, backend: int) -> Program:
    """Return Varnish with its built-in rules."""
    program, libraries = unpacked("varnish")
    port, file = free_port(), folder / "default.vcl"
    file.write_text(VARNISH.format(backend=backend))
    place = ["-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}", "-T", "none", "-f", str(file)]
    return proxy("varnish", [program, "-F", "-j", "none", "-s", "malloc,64m", *place], port, folder, libraries)


def apache(folder: Path, backend: int, *, is_secure: bool = False, under_path: bool = False) -> Program:
    """Return Apache with mod_proxy_http."""
    program, libraries = unpacked("apache")
    port, file = free_port(), folder / "apache.conf"
    modules = program.parents[1] / "lib" / "apache2" / "modules"
    certificate = "/etc/apache2/chat.example.com.pem"
    tls = f"    SSLEngine on\n    SSLCertificateFile {certificate}\n    Protocols h2 http/1.1\n"
    places = {certificate: str(PEM)} if is_secure else {tls: "", "Proto https": "Proto http"}
    around = APACHE.format(port=port, folder=folder, modules=modules)
    text = of_handbook("apache", {"*:443": f"127.0.0.1:{port}"} | places, backend, under_path=under_path)
    file.write_text(around + text)
    command: list[str | Path] = [program, "-D", "FOREGROUND", "-f", file]
    return proxy("apache", command, port, folder, libraries, is_secure=is_secure)


def caddy(folder: Path, backend: int, *, is_secure: bool = False, under_path: bool = False) -> Program:
    """Return Caddy."""
    port, file = free_port(), folder / "Caddyfile"
    here = f"https://localhost:{port} {{\n    tls {PEM} {PEM}" if is_secure else f"http://:{port} {{"
    places = {"chat.example.com {": f"{here}\n    bind 127.0.0.1"}
    file.write_text(CADDY + of_handbook("caddy", places, backend, under_path=under_path))
    command: list[str | Path] = [of_python("caddy"), "run", "--config", file, "--adapter", "caddyfile"]
    return proxy("caddy", command, port, folder, {}, is_secure=is_secure)


def envoy(folder: Path, backend: int) -> Program:
    """Return Envoy."""
    port, file = free_port(), folder / "envoy.yaml"
    file.write_text(ENVOY.format(port=port, backend=backend, types=ENVOY_TYPES))
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    return proxy("envoy", [of_python("envoy"), "-c", file, *options], port, folder, {})


def shipped_nginx(folder: Path, backend: int) -> nginx.Nginx:
    """Return nginx with the project's own configuration."""
    return nginx.shipped(folder, f"127.0.0.1:{backend}")


def secure_nginx(folder: Path, backend: int) -> nginx.Nginx:
    """Return nginx with the project's site for a host, and with a certificate."""
    return nginx.site(folder, f"127.0.0.1:{backend}", certificate=PEM)


PROXIES: dict[str, Callable[[Path, int], AbstractContextManager[Running]]] = {
    "nginx": shipped_nginx,
    "caddy": caddy,
    "haproxy": haproxy,
    "envoy": envoy,
    "varnish": varnish,
    "apache": apache,
}
WITH_HTTP_2: dict[str, Callable[[Path, int], AbstractContextManager[Running]]] = {
    "nginx": secure_nginx,
    "caddy": partial(caddy, is_secure=True),
    "haproxy": partial(haproxy, is_secure=True),
    "apache": partial(apache, is_secure=True),
}
"""As the handbook has them, with a certificate of localhost."""
BELOW_A_PATH: dict[str, Callable[[Path, int], AbstractContextManager[Running]]] = {
    "caddy": partial(caddy, under_path=True),
    "haproxy": partial(haproxy, under_path=True),
    "apache": partial(apache, under_path=True),
}


def of_handbook(kind: str, places: Mapping[str, str], backend: int, *, under_path: bool) -> str:
    """Return the handbook's configuration of a proxy with other places, perhaps for a server under a path."""
    whole, below = blocks(ENGLISH, kind)
    if under_path:
        whole, number = re.subn(UNDER_A_PATH[kind], lambda _: below, whole)
        assert number == 1
    for theirs, ours in {**places, "127.0.0.1:5010": f"127.0.0.1:{backend}"}.items():
        assert theirs in whole, theirs
        whole = whole.replace(theirs, ours)
    return whole


def of_python(program: str) -> Path:
    """Return a program that a Python package brought; raises `Unavailable`."""
    found = Path(sys.executable).with_name(program)
    if not found.exists():
        raise Unavailable(f"{program} is not installed in this Python's environment")
    return found


@cache
def unpacked(name: str) -> tuple[Path, dict[str, str]]:
    """Return a program of Debian's packages, unpacked and not installed, and the variables that it needs.

    Raises `Unavailable`.
    """
    installed = shutil.which(PROGRAMS[name], path="/usr/sbin:/usr/bin")
    if installed:
        return Path(installed), {}
    folder = CACHE / name
    program = folder / "usr" / "sbin" / PROGRAMS[name]
    with debian.lock():
        if not program.exists():
            debian.unpack(folder, *PACKAGES[name])
    if not program.exists():
        raise Unavailable(f"{name} is not installed and could not be fetched (apt-get download {PACKAGES[name][0]})")
    libraries = [path.parent for path in folder.glob("usr/lib/**/*.so*")]
    return program, {"LD_LIBRARY_PATH": os.pathsep.join(sorted({str(path) for path in libraries}))}
