"""deploy/compose.yaml with the commands of docs/deployment.md: MariaDB, chatkeep, and nginx as its image's user.

Each kind of deploy runs once during streams, and with `./dev containers --long` 20 times during 100 streams. Durations
are printed and not asserted, because on a busy machine the demo model's streams end before new workers boot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers import engine as engines
from tests.containers.compose import Compose, composed
from tests.containers.conftest import IS_LONG
from tests.containers.engine import Container, Engine, statuses
from tests.docs.handbook import ENGLISH, commands
from tests.services.machine import children

STARTS, ROLLS = commands(ENGLISH, "console compose")
PASSWORD = "p/@s:s#w?o%r&d x"
AT = "127.0.0.1:8080"
ROUNDS, STREAMS = (20, 100) if IS_LONG else (1, 30)


@pytest.fixture(scope="module")
def services(engine: Engine, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """All services, started by the documented commands, with another password and number of workers."""
    engines.make_others(engine)
    with (
        engines.networked(engine) as networked,
        composed(networked, source, tmp_path_factory.mktemp("compose")) as made,
    ):
        script = STARTS.replace("cd deploy\n", "").replace("a long random password", PASSWORD)
        assert PASSWORD in script
        made.run(script.replace("docker compose up", "echo WEB_CONCURRENCY=2 >> chatkeep.env\ndocker compose up"))
        yield made


@pytest.fixture(scope="module")
def key(services: Compose) -> str:
    """A key, created by the documented command."""
    return made_key(services, "chat,read,export")


def made_key(services: Compose, scopes: str) -> str:
    return services.run(f"docker compose exec chatkeep chatkeep keys create client --scopes {scopes}").strip()


def asked(services: Compose, key: str, path: str, number: int = 1) -> list[int]:
    """Return the statuses of requests in turn to the published port."""
    return services.engine.network.get(AT, key, path, number)


def test_nginx_connects_as_the_user_of_its_image(services: Compose, key: str) -> None:
    nginx = services.service("nginx")
    assert [nginx.exec("id", option).stdout.strip() for option in ("-u", "-G")] == ["101", "101"]
    assert asked(services, key, "/health/ready") == [200]
    assert asked(services, "", "/api/conversations") == [401]
    assert asked(services, key, "/api/conversations") == [200]


def test_metrics_and_the_summary_require_the_admin_scope(services: Compose, key: str) -> None:
    operator = made_key(services, "chat,read,export,admin")
    assert [asked(services, operator, path) for path in ("/metrics", "/api/admin/summary", "/admin")] == [[200]] * 3
    assert [asked(services, key, path) for path in ("/metrics", "/api/admin/summary")] == [[403]] * 2
    assert [asked(services, "", path) for path in ("/metrics", "/api/admin/summary")] == [[401]] * 2


def deploy(services: Compose, key: str, begin: Callable[[Container], list[int]]) -> float:
    """Deploy during streams. Return the seconds from the end of the last stream to the end of the old processes."""
    network, server = services.engine.network, services.service("chatkeep")
    with network.streams(AT, key, STREAMS) as streams:
        old = begin(server)
    while any(Path(f"/proc/{pid}").exists() for pid in old):
        time.sleep(0.02)
    return time.monotonic() - streams.ended


def reload(server: Container) -> list[int]:
    """Reload the server. Return the old workers."""
    old = children(server.pid)
    server.signal("HUP")
    return old


def stop(server: Container) -> list[int]:
    """Begin to stop a server. Return its main process."""
    old = [server.pid]
    server.engine.run("sh", "-c", f"podman stop --time=600 {server.name} >/dev/null 2>&1 &")
    return old


def test_no_request_hangs_after_reloads_during_streams(services: Compose, key: str) -> None:
    late = []
    for _ in range(ROUNDS):
        late.append(deploy(services, key, reload))
        assert asked(services, key, "/health/ready", 40) == [200] * 40
    print(f"reloads: {min(late):.2f} to {max(late):.2f} s after the last stream")  # noqa: T201 - a figure


def test_stops_during_streams_lose_nothing(services: Compose, key: str) -> None:
    late, server = [], services.service("chatkeep")
    for _ in range(ROUNDS):
        late.append(deploy(services, key, stop))
        server.engine.run("podman", "wait", server.name)
        assert server.status == 0
        assert asked(services, key, "/health/ready") == [503]
        server.engine.run("podman", "start", server.name)
        server.wait_healthy()
        assert asked(services, key, "/health/ready", 40) == [200] * 40
    print(f"stops: {min(late):.2f} to {max(late):.2f} s after the last stream")  # noqa: T201 - a figure


def test_a_rolling_upgrade_refuses_no_request(services: Compose, key: str) -> None:
    """Runs the documented commands, after a change of the source."""
    with (services.checkout / "chatkeep" / "runtime" / "clock.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    network, before = services.engine.network, services.service("chatkeep").pid
    with network.client("get", AT, key, "/api/conversations", "1000000") as meanwhile:
        with network.streams(AT, key, STREAMS):
            services.run(ROLLS)
        meanwhile.terminate()
        seen = statuses(meanwhile)
    assert set(seen) == {200}
    assert len(seen) > 10
    assert services.service("chatkeep").pid != before
    assert asked(services, key, "/health/ready") == [200]


def test_the_database_can_be_dumped_while_the_server_runs(services: Compose) -> None:
    dumping = "mariadb-dump --protocol=socket --single-transaction --hex-blob chatkeep"
    dumped = services.run(f"docker compose exec mariadb {dumping}")
    assert dumped.rstrip().splitlines()[-1].startswith("-- Dump completed")


def test_nginx_finishes_streams_before_it_stops(services: Compose, key: str) -> None:
    """Must be the last test of this file, because it stops nginx."""
    with services.engine.network.streams(AT, key, STREAMS):
        services.run("docker compose stop nginx")
    assert services.service("nginx").status == 0
