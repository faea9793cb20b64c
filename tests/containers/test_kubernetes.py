"""deploy/kubernetes/chatkeep.yaml, played by podman: a pod with nginx beside the server, both as one user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.containers import engine as engines
from tests.containers.engine import LONG, Container, Engine
from tests.http.api import eventually
from tests.servers import ROOT

PASSWORD = "p/@s:s#w?o%r&d"
AT = "127.0.0.1:8080"
STREAMS = 20


@pytest.fixture(scope="module")
def pod(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Container]]:
    """The containers of the pod by their names, and a MariaDB in the same network."""
    assert image
    engines.make_others(engine)
    made = tmp_path_factory.mktemp("kubernetes") / "chatkeep.yaml"
    made.write_text(played(), encoding="utf-8")
    options = ("--network=none", "--env=MARIADB_DATABASE=chatkeep", "--env=MARIADB_USER=chatkeep")
    with engine.container("mariadb", *options, f"--env=MARIADB_PASSWORD={PASSWORD}", engines.MARIADB) as mariadb:
        assert eventually(lambda: mariadb.exec("healthcheck.sh", check=False).returncode == 0, LONG)
        engine.run("podman", "kube", "play", "--network=container:mariadb", str(made))
        names = engine.run("podman", "ps", "--format={{.Names}}").stdout.split()
        yield {name.rpartition("-")[2]: Container(engine, name) for name in names}
        engine.run("podman", "kube", "down", str(made), check=False)


def played() -> str:
    """Return what is applied: the file, its secret and its map of nginx; probes need systemd here."""
    yaml = YAML(typ="safe")
    documents: list[Any] = list(yaml.load_all(ROOT / "deploy" / "kubernetes" / "chatkeep.yaml"))
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        container.pop("livenessProbe", None)
    secret = {"DATABASE_URL": "mysql+pymysql://chatkeep@127.0.0.1:3306/chatkeep", "DATABASE_PASSWORD": PASSWORD}
    nginx = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    first = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "chatkeep"}, "stringData": secret},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "chatkeep-nginx"},
            "data": {"nginx.conf": nginx},
        },
    ]
    return "\n---\n".join(json.dumps(one) for one in [*first, *documents])


def test_the_pod_serves_through_its_nginx_and_stops_when_its_streams_end(pod: dict[str, Container]) -> None:
    server, nginx = pod["chatkeep"], pod["nginx"]
    server.wait_healthy()
    assert server.exec("chatkeep", "health", "--live").stdout == "ok\n"
    assert [one.exec("id", "-u").stdout.strip() for one in (server, nginx)] == ["10001", "10001"]
    key = server.key()
    with nginx.streams(AT, key, STREAMS):
        assert (nginx.stop(), server.stop()) == (0, 0)
