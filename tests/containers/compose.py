"""Run `docker compose` on the tests' engine, with its networks, names and published ports."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.containers.engine import COMPOSE, LONG, Container, Engine
from tests.http.api import eventually

# The operator's `docker` command. Compose runs in a container that mounts the checkout at the same path.
DOCKER = """#!/bin/sh
shift
exec podman run --rm --no-healthcheck --network=none --volume={folder}:{folder} --workdir="$PWD" \\
    --volume={folder}/docker.sock:/var/run/docker.sock --env=DOCKER_BUILDKIT=0 {image} "$@"
"""
LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Compose:
    """The services of deploy/compose.yaml. ``folder`` holds the checkout, the socket and the command."""

    engine: Engine
    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    def run(self, script: str) -> str:
        """Run an operator's commands in deploy/. Return the output."""
        path = f"PATH={self.folder}:$PATH"
        return self.engine.run("bash", "-ec", f"{path}\ncd {self.checkout}/deploy\n{script}").stdout

    def service(self, name: str) -> Container:
        """Return the container of a service."""
        return Container(self.engine, f"chatkeep-{name}-1")


@contextmanager
def composed(engine: Engine, source: Path, folder: Path) -> Iterator[Compose]:
    """Lend Compose in a copy of a checkout, without running services. Remove everything at the end."""
    shutil.copytree(source, folder / "checkout")
    docker = folder / "docker"
    docker.write_text(DOCKER.format(folder=folder, image=COMPOSE), encoding="utf-8")
    docker.chmod(0o755)
    socket = folder / "docker.sock"
    service = engine.start(
        "env", "BUILDAH_ISOLATION=chroot", "podman", "system", "service", "--time=0", f"unix://{socket}"
    )
    ended = threading.Event()
    healthchecks = threading.Thread(target=_check_health, args=(engine, ended), daemon=True)
    healthchecks.start()
    try:
        assert eventually(socket.exists, LONG)
        made = Compose(engine, folder)
        yield made
        made.run("docker compose --profile rolling down --volumes --timeout 5")
    finally:
        ended.set()
        healthchecks.join()
        service.terminate()
        service.wait()


def _check_health(engine: Engine, ended: threading.Event) -> None:
    """Run the health checks of the services, which podman leaves to timers of systemd."""
    listing = ("podman", "ps", "--filter=label=com.docker.compose.project", "--format={{.Names}}")
    while not ended.wait(LOOK_S):
        for name in engine.run(*listing, check=False).stdout.split():
            engine.run("podman", "healthcheck", "run", name, check=False)
