"""deploy/kubernetes/chatkeep.yaml as a pod of podman: containers, settings, volumes, probes and termination.

The tests have no cluster. They replace what podman 4 lacks: the mount of a single file of a ConfigMap, probes, and the
termination of a pod. They don't cover services, ingress, scheduling and rolling updates.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.containers import engine as engines
from tests.containers.engine import LONG, MARIADB, Container, Engine, Network
from tests.http.api import eventually
from tests.servers import ROOT

FILE = ROOT / "deploy" / "kubernetes" / "chatkeep.yaml"
PASSWORD = "p/@s:s#w?o%r&d 'x"
SECRETS = {
    "OPENAI_API_KEY": "",
    "DATABASE_URL": "mysql+pymysql://chatkeep@database:3306/chatkeep",
    "DATABASE_PASSWORD": PASSWORD,
}
AT = "127.0.0.1:8080"
STREAMS = 30


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod."""

    engine: Engine
    spec: Any
    containers: dict[str, Container] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        return self.containers["nginx"].network

    def part(self, name: str) -> Any:
        """Return the specification of a container."""
        return next(one for one in self.spec["containers"] if one["name"] == name)

    def is_ready(self) -> bool:
        """Run the probes, as a node does."""
        probe, path = self.part("chatkeep"), self.part("nginx")["readinessProbe"]["httpGet"]["path"]
        commands = [probe[kind]["exec"]["command"] for kind in ("readinessProbe", "livenessProbe")]
        server = self.containers["chatkeep"]
        return all(server.exec(*command, check=False).returncode == 0 for command in commands) and self.network.get(
            AT, "", path
        ) == [200]


@pytest.fixture(scope="module")
def pod(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The pod of the file, and a database."""
    assert image
    engines.make_others(engine)
    with engines.networked(engine) as networked:
        networked.run("podman", "network", "create", "cluster")
        database = {"DATABASE": "chatkeep", "USER": "chatkeep", "PASSWORD": PASSWORD}
        options = [f"--env=MARIADB_{name}={value}" for name, value in database.items()]
        with networked.container("database", "--network=cluster", *options, MARIADB) as mariadb:
            assert eventually(lambda: mariadb.exec("healthcheck.sh", check=False).returncode == 0, LONG)
            yield play(networked, tmp_path_factory.mktemp("kubernetes"))
            networked.run("podman", "pod", "rm", "--all", "--force")
        engine.clean()


def play(engine: Engine, folder: Path) -> Pod:
    """Start the pod, with the secret and the ConfigMap that the file requires."""
    documents = list(YAML(typ="safe").load_all(FILE))
    spec = next(one for one in documents if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    secret = {name: base64.b64encode(value.encode()).decode() for name, value in SECRETS.items()}
    engine.run("podman", "secret", "create", "chatkeep", "-", text=json.dumps(secret))
    suit_podman(spec)
    with (folder / "pod.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump_all(documents, file)
    engine.run("podman", "kube", "play", "--network=cluster", str(folder / "pod.yaml"))
    names = {one["name"]: Container(engine, f"chatkeep-pod-0-{one['name']}") for one in spec["containers"]}
    return Pod(engine, spec, names)


def suit_podman(spec: Any) -> None:
    """Replace what podman 4 doesn't support."""
    # podman would restart the init container for ever.
    spec["restartPolicy"] = "OnFailure"
    # podman mounts the whole ConfigMap instead of a single file.
    (volume,) = (one for one in spec["volumes"] if one["name"] == "nginx")
    assert volume.pop("configMap") == {"name": "chatkeep-nginx"}
    volume["hostPath"] = {"path": str(ROOT / "deploy" / "nginx.conf"), "type": "File"}
    (mount,) = (one for part in spec["containers"] for one in part["volumeMounts"] if one["name"] == "nginx")
    assert mount.pop("subPath") == Path(mount["mountPath"]).name == "nginx.conf"


@pytest.fixture(scope="module")
def key(pod: Pod) -> str:
    """A key, created as the file says."""
    assert eventually(pod.is_ready, LONG), pod.containers["chatkeep"].logs()
    return pod.containers["chatkeep"].key()


def test_the_pod_serves_as_one_user_without_rights(pod: Pod, key: str) -> None:
    assert pod.network.get(AT, key, "/api/conversations") == [200]
    assert pod.network.get(AT, "", "/api/conversations") == [401]
    for name, container in pod.containers.items():
        assert [container.exec("id", option).stdout.strip() for option in ("-u", "-g")] == ["10001", "10001"], name
        assert container.exec("touch", "/etc/changed", check=False).returncode, name
        rights = container.exec("grep", "-E", "^(CapBnd|NoNewPrivs)", "/proc/1/status").stdout.split()
        assert rights == ["CapBnd:", "0000000000000000", "NoNewPrivs:", "1"], name


def test_what_the_pod_stores_is_in_the_database_and_the_volume(pod: Pod, key: str) -> None:
    with pod.network.streams(AT, key, STREAMS):
        pass
    server = pod.containers["chatkeep"]
    looked = json.loads(server.exec("chatkeep", "doctor", "--json").stdout)
    assert looked["ok"], looked
    assert "completed" in server.exec("chatkeep", "stats").stdout
    server.exec("touch", "/var/lib/chatkeep/kept")
    assert (pod.engine.volume("chatkeep") / "kept").exists()


def test_a_pod_that_ends_finishes_its_streams(pod: Pod, key: str) -> None:
    """As a node ends it: each container's preStop, then its stop signal, within the pod's grace. The last test."""
    grace = str(pod.spec["terminationGracePeriodSeconds"])
    ending: list[subprocess.Popen[bytes]] = []
    with pod.network.streams(AT, key, STREAMS):
        for name, container in pod.containers.items():
            waits = " ".join(pod.part(name)["lifecycle"]["preStop"]["exec"]["command"])
            stops = f"podman exec {container.name} {waits} && podman stop --time={grace} {container.name}"
            ending.append(pod.engine.start("sh", "-c", stops))
    assert [process.wait(LONG) for process in ending] == [0, 0]
    assert [container.status for container in pod.containers.values()] == [0, 0]
