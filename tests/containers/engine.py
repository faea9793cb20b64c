"""A container engine for tests: buildah and podman, with a store in build/, without a daemon or systemd.

Tests don't need a registry: images based on Debian replace the official ones, with the same programs and users.
Containers have no network, or one in a separate namespace (`networked`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatkeep import __version__
from tests.http.api import eventually
from tests.servers import ROOT
from tests.services import debian

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "buildah",
    "podman",
    "runc",
    "debootstrap",
    "uidmap",
    "catatonit",
    "netavark",
    "aardvark-dns",
    "iptables",
    "iproute2",
)
PROGRAMS = ("buildah", "podman", "runc", "debootstrap", "/usr/lib/podman/aardvark-dns", "iptables", "ip")
PYTHON = "docker.io/library/python:3.13-slim"
NGINX = "docker.io/nginxinc/nginx-unprivileged:1.28-alpine"
MARIADB = "docker.io/library/mariadb:11.8"
COMPOSE = "localhost/compose:2"
CHATKEEP = f"localhost/chatkeep:{__version__}"
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""
# runc and cgroupfs work without systemd.
ENGINE = """
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
[engine.runtimes]
runc = ["{here}/runc"]
[containers]
log_driver = "k8s-file"
"""
LONG = 300.0  # seconds, for any operation on a busy machine


class Failed(AssertionError):
    """A program of the engine failed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine in a folder. Its programs run in the network of the process ``namespace``, if given."""

    folder: Path
    namespace: int | None = None

    def run(self, *command: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of the engine. Raises `Failed`."""
        done = subprocess.run(
            [*self._entering(), *command],
            env=self.environment(),
            input=text,
            capture_output=True,
            encoding="utf-8",
            timeout=900,
            check=False,
        )
        if check and done.returncode:
            raise Failed(
                f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program of the engine."""
        null = subprocess.DEVNULL
        return subprocess.Popen(
            [*self._entering(), *command], env=self.environment(), stdin=null, stdout=null, stderr=null
        )

    def build(self, file: Path, tag: str, context: Path) -> str:
        """Build an image. Return the output, a line for each step."""
        options = ("--format=docker", "--layers", "--isolation=chroot", "--network=host", "--pull-never")
        return self.run("buildah", "bud", *options, "--file", str(file), "--tag", tag, str(context)).stdout

    def has(self, image: str) -> bool:
        """Return whether an image exists."""
        return self.run("podman", "image", "exists", image, check=False).returncode == 0

    def image(self, name: str) -> Any:
        """Return the metadata of an image."""
        return json.loads(self.run("podman", "image", "inspect", name).stdout)[0]

    def once(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a container to its end. Arguments are those of `podman run`."""
        return self.run("podman", "run", "--rm", "--no-healthcheck", "--network=none", *arguments, check=check)

    @property
    def network(self) -> Network:
        """The network of the engine's programs."""
        return Network(os.getpid() if self.namespace is None else self.namespace)

    @contextmanager
    def container(self, name: str, *arguments: str) -> Iterator[Container]:
        """Run a container during the block."""
        self.run("podman", "run", "--detach", "--no-healthcheck", "--name", name, *arguments)
        one = Container(self, name)
        try:
            yield one
        finally:
            self.run("podman", "rm", "--force", "--time=5", "--volumes", name, check=False)

    def volume(self, name: str) -> Path:
        """Return the folder of a volume."""
        return self.folder / "volumes" / name / "_data"

    def clean(self) -> None:
        """Remove containers and volumes. Images stay for the next run."""
        self.run("podman", "pod", "rm", "--all", "--force", check=False)
        for _ in range(2):  # the first round leaves dependencies of others
            self.run("podman", "rm", "--all", "--force", "--depend", "--time=5", check=False)
        self.run("podman", "volume", "prune", "--force", check=False)
        self.run("podman", "network", "prune", "--force", check=False)
        self.run("podman", "secret", "rm", "--all", check=False)
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for place in sorted((one for one in mounted if one.startswith(f"{self.folder}/")), reverse=True):
            self.run("umount", "--lazy", place, check=False)

    def environment(self) -> dict[str, str]:
        """Return the environment of the engine's programs."""
        configured = {"CONTAINERS_STORAGE_CONF": "storage.conf", "CONTAINERS_CONF": "containers.conf"}
        return os.environ | {name: str(self.folder / file) for name, file in configured.items()}

    def _entering(self) -> list[str]:
        return [] if self.namespace is None else ["nsenter", f"--net=/proc/{self.namespace}/ns/net"]


@dataclass(frozen=True, slots=True)
class Container:
    """A started container."""

    engine: Engine
    name: str

    def exec(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, with its user and environment."""
        return self.engine.run("podman", "exec", self.name, *command, check=check)

    def is_healthy(self) -> bool:
        """Return whether the server is ready."""
        return self.exec("chatkeep", "health", check=False).returncode == 0

    def wait_healthy(self) -> None:
        """Wait until the server is ready."""
        assert eventually(self.is_healthy, LONG), self.logs()

    def key(self, scopes: str = "chat,read,export") -> str:
        """Create an API key with the command line."""
        return self.exec("chatkeep", "keys", "create", "client", "--scopes", scopes).stdout.strip()

    def signal(self, name: str) -> None:
        """Send a signal to the main process."""
        self.engine.run("podman", "kill", "--signal", name, self.name)

    def stop(self) -> int:
        """Stop the container as `docker stop` does, with a long grace period. Return the exit status."""
        self.engine.run("podman", "stop", "--time=600", self.name)
        return self.status

    def logs(self) -> str:
        """Return the output."""
        done = self.engine.run("podman", "logs", self.name, check=False)
        return done.stdout + done.stderr

    @property
    def pid(self) -> int:
        """The id of the main process on this machine."""
        return int(self._state("Pid"))

    @property
    def status(self) -> int:
        """The exit status."""
        return int(self._state("ExitCode"))

    @property
    def network(self) -> Network:
        return Network(self.pid)

    def _state(self, name: str) -> str:
        return self.engine.run("podman", "inspect", "--format", f"{{{{.State.{name}}}}}", self.name).stdout.strip()


@dataclass(slots=True)
class Streams:
    """Open streams of a client."""

    ended: float = 0.0
    """When the last one ended (`time.monotonic`)."""


@dataclass(frozen=True, slots=True)
class Network:
    """The network namespace of a process."""

    process: int

    def client(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `tests/containers/client.py` in this network. Use it as a context."""
        entering = ("nsenter", f"--net=/proc/{self.process}/ns/net")
        command = [*entering, sys.executable, str(HERE / "client.py"), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @contextmanager
    def streams(self, target: str, key: str, number: int, seconds: int = 4) -> Iterator[Streams]:
        """Hold streams of ``seconds``. All have begun when the block begins, and must end complete."""
        streams = Streams()
        with self.client("stream", target, key, str(number), str(seconds)) as process:
            assert process.stdout
            assert process.stdout.readline() == "open\n"
            yield streams
            whole, ended = process.stdout.read().split()
            assert int(whole) == number
            streams.ended = float(ended)

    def get(self, target: str, key: str, path: str, number: int = 1) -> list[int]:
        """Send ``number`` requests in turn. Return the statuses, 0 for a timeout."""
        with self.client("get", target, key, path, str(number)) as process:
            return statuses(process)


def statuses(process: subprocess.Popen[str]) -> list[int]:
    """Return the statuses that a client prints."""
    return [int(status) for status in process.communicate()[0].split()]


def installed(folder: Path) -> Engine:
    """Return the engine. Install its programs if they are missing."""
    if not all(map(shutil.which, PROGRAMS)):
        told = debian.install(*PACKAGES)
        assert all(map(shutil.which, PROGRAMS)), told
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("storage.conf", STORAGE), ("containers.conf", ENGINE)):
        (folder / name).write_text(text.format(folder=folder, here=HERE), encoding="utf-8")
    return Engine(folder)


@contextmanager
def networked(engine: Engine) -> Iterator[Engine]:
    """Lend an engine with a network, names and published ports in a separate namespace."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield replace(engine, namespace=process.pid)
        finally:
            process.kill()


def make_base(engine: Engine) -> None:
    """Make the replacement for the Python image, unless it exists: Debian 13, which has Python 3.13."""
    if engine.has(PYTHON):
        return
    root = engine.folder / "root"
    packages = "python3,python3-venv,ca-certificates,netbase,tzdata"
    engine.run("debootstrap", "--variant=minbase", f"--include={packages}", "trixie", str(root))
    for spare in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / spare)
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    # If this machine reaches the package index through a proxy, the build needs the proxy's certificate.
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/")
    (root / "root/.npmrc").write_text("cafile=/etc/ssl/certs/ca-certificates.crt\n", encoding="utf-8")
    made = engine.run("buildah", "from", "scratch").stdout.strip()
    engine.run("buildah", "copy", "--quiet", made, str(root), "/")
    path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    engine.run("buildah", "config", "--env", path, "--cmd", "python3", made)
    engine.run("buildah", "commit", "--quiet", "--rm", made, PYTHON)
    shutil.rmtree(root)


def make_others(engine: Engine) -> None:
    """Make the replacements for the images of nginx, MariaDB and Compose, unless they exist."""
    make_base(engine)
    for name, tag in (("nginx", NGINX), ("mariadb", MARIADB), ("compose", COMPOSE)):
        if not engine.has(tag):
            engine.build(HERE / "images" / f"{name}.Dockerfile", tag, HERE / "images")


def checkout(engine: Engine, folder: Path) -> Path:
    """Copy the files that git tracks, with their current content, and return the folder."""
    command = ("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, engine.run(*command).stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder
