"""deploy/compose.yaml: MariaDB, chatkeep and nginx in their order, nginx as the user of its image."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.containers import engine as engines
from tests.containers.compose import Compose, composed
from tests.containers.engine import Engine, statuses
from tests.servers import ROOT

PASSWORD = "p/@s:s#w?o%r&d 'x"
AT = "127.0.0.1:8080"
STREAMS = 30


@pytest.fixture(scope="module")
def services(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """All services, brought up as `docker compose up` does."""
    assert image
    engines.make_others(engine)
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("compose.yaml", "nginx.conf"):
        shutil.copy(ROOT / "deploy" / name, folder)
    shutil.copy(ROOT / "deploy" / "chatkeep.env.example", folder / "chatkeep.env")
    (folder / "nginx.conf").chmod(0o644)
    folder.chmod(0o755)
    with composed(engine, folder, {"MARIADB_PASSWORD": PASSWORD}) as made:
        made.up("nginx")
        yield made
    engine.run("podman", "volume", "prune", "--force")


@pytest.fixture(scope="module")
def key(services: Compose) -> str:
    """A key that was made as the handbook says."""
    return services.running["chatkeep"].key()


def asked(services: Compose, key: str, path: str, number: int = 1) -> list[int]:
    """Return the statuses of requests through nginx, one after the other."""
    return services.running["nginx"].get(AT, key, path, number)


def test_nginx_reaches_the_server_as_its_image_s_own_user(services: Compose, key: str) -> None:
    nginx = services.running["nginx"]
    assert [nginx.exec("id", option).stdout.strip() for option in ("-u", "-G")] == ["101", "101"]
    assert asked(services, key, "/health/ready") == [200]
    assert asked(services, "", "/api/conversations") == [401]
    assert asked(services, key, "/api/conversations") == [200]


def test_metrics_and_the_operator_s_page_are_for_keys_with_the_scope(services: Compose, key: str) -> None:
    operator = services.running["chatkeep"].key("chat,read,export,admin")
    assert [asked(services, operator, path) for path in ("/metrics", "/api/admin/summary", "/admin")] == [[200]] * 3
    assert [asked(services, key, path) for path in ("/metrics", "/api/admin/summary")] == [[403]] * 2
    assert [asked(services, "", path) for path in ("/metrics", "/api/admin/summary")] == [[401]] * 2


def test_a_reload_amid_streams_leaves_no_request_hanging(services: Compose, key: str) -> None:
    with services.running["nginx"].streams(AT, key, STREAMS):
        services.running["chatkeep"].signal("HUP")
    assert asked(services, key, "/health/ready", 40) == [200] * 40


def test_a_new_version_with_two_servers_refuses_nothing(services: Compose, key: str) -> None:
    """As the handbook rolls: the second server serves while the first one is replaced."""
    nginx = services.running["nginx"]
    services.up("second")
    services.wait_healthy("second")
    with nginx.client("get", AT, key, "/api/conversations", "300") as meanwhile, nginx.streams(AT, key, STREAMS):
        services.up("chatkeep")
        services.wait_healthy("chatkeep")
        assert services.running["second"].stop() == 0
        assert statuses(meanwhile) == [200] * 300
    assert asked(services, key, "/health/ready") == [200]


def test_the_database_is_dumped_beside_the_server(services: Compose) -> None:
    mariadb = services.running["mariadb"]
    dumped = mariadb.exec("mariadb-dump", "--protocol=socket", "--single-transaction", "--hex-blob", "chatkeep").stdout
    assert dumped.rstrip().splitlines()[-1].startswith("-- Dump completed")


def test_nginx_finishes_streams_before_it_stops(services: Compose, key: str) -> None:
    """The last test of this file: nginx is away after it."""
    nginx = services.running["nginx"]
    with nginx.streams(AT, key, STREAMS):
        assert nginx.stop() == 0
