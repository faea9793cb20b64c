"""Runs the services of deploy/compose.yaml with podman, one by one in their order: compose itself needs a daemon.

All of them share one network, in which every name is this machine's loopback. A key that is not known here fails, so
nothing in the file goes untried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.containers.engine import LONG, Container, Engine
from tests.http.api import eventually

# What has no counterpart here: ports are not published, nothing restarts, the image is built already.
NOT_OPTIONS = {"ports", "restart", "build", "profiles", "depends_on", "healthcheck", "image", "command"}
OPTIONS = {
    "environment": "--env",
    "env_file": "--env-file",
    "volumes": "--volume",
    "tmpfs": "--tmpfs",
    "read_only": "--read-only",
    "cap_drop": "--cap-drop",
    "security_opt": "--security-opt",
    "user": "--user",
    "stop_grace_period": "--stop-timeout",
}
_VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")


class Compose:
    """The services of a file, started on demand."""

    def __init__(self, engine: Engine, folder: Path, variables: dict[str, str], ends: ExitStack) -> None:
        self.engine = engine
        self.running: dict[str, Container] = {}
        self._folder = folder
        self._variables = variables
        self._ends = ends
        written: Any = YAML(typ="safe").load(folder / "compose.yaml")
        self._services: dict[str, Any] = written["services"]
        self._first = next(iter(self._services))
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(self._services)}\n", encoding="utf-8")

    def up(self, name: str, image: str | None = None) -> Container:
        """Start a service after those that it depends on; a container that runs is replaced."""
        service = self._services[name]
        for other, how in service.get("depends_on", {}).items():
            if other not in self.running:
                self.up(other)
            self._wait(other, how["condition"])
        if name in self.running:
            assert self.running[name].stop() == 0
            self.engine.run("podman", "rm", self.running[name].name)
        made = self.engine.container(name, *self._options(name), image or service["image"], *service.get("command", []))
        self.running[name] = self._ends.enter_context(made)
        return self.running[name]

    def wait_healthy(self, name: str) -> None:
        """Wait until the service's own healthcheck passes."""
        test = self._services[name]["healthcheck"]["test"]
        assert test[0] == "CMD"
        one = self.running[name]
        assert eventually(lambda: one.exec(*test[1:], check=False).returncode == 0, LONG), one.logs()

    def _wait(self, name: str, condition: str) -> None:
        if condition == "service_healthy":
            self.wait_healthy(name)
            return
        assert condition == "service_completed_successfully"
        assert self.engine.run("podman", "wait", name).stdout.strip() == "0", self.running[name].logs()

    def _options(self, name: str) -> Iterator[str]:
        shared = "none" if name == self._first else f"container:{self._first}"
        yield from (f"--network={shared}", "--no-hosts", f"--volume={self._folder / 'hosts'}:/etc/hosts:ro")
        for key, value in self._services[name].items():
            assert key in NOT_OPTIONS | OPTIONS.keys(), key
            if key in OPTIONS:
                yield from (f"{OPTIONS[key]}={self._given(key, one)}" for one in _each(value))

    def _given(self, key: str, text: str) -> str:
        """Return an option's value as podman takes it."""
        if key == "env_file" or text.startswith("./"):
            return str(self._folder / text)
        if key == "stop_grace_period":
            return str(60 * int(text.removesuffix("m")))
        return _VARIABLE.sub(lambda found: self._variables[found[1]], text)


def _each(value: Any) -> list[str]:
    """Return the values of a key: of one that has a list, a map or a single value."""
    if isinstance(value, dict):
        return [f"{name}={one}" for name, one in value.items()]
    return value if isinstance(value, list) else [str(value).lower()]


@contextmanager
def composed(engine: Engine, folder: Path, variables: dict[str, str]) -> Iterator[Compose]:
    """Lend the services of the file in a folder; nothing runs yet."""
    with ExitStack() as ends:
        yield Compose(engine, folder, variables, ends)
