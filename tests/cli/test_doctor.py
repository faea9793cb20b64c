"""`chatkeep doctor` on broken set-ups; each run starts a process: half a second."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from chatkeep.store import migrations
from chatkeep.store.engine import Database
from chatkeep.store.sql import Sql
from tests.auth.keys import make_key, revoke
from tests.cli.line import run
from tests.conftest import EMBEDDED_AND_SERVER, database_server
from tests.ports import free_port
from tests.servers import ROOT, Server
from tests.services.oidc import DISCOVERY, KEYS
from tests.services.oidc import Provider as StandIn
from tests.services.oidc_provider import OidcProvider
from tests.services.redis import UNUSABLE, Redis, unusable_redis
from tests.services.users import ORDINARY_USER
from tests.upstream import Upstream

SECRET = "sk-canary-0123456789"
on_embedded_and_server = pytest.mark.parametrize("database_url", EMBEDDED_AND_SERVER, indirect=True)


class Doctor:
    """The doctor in a folder, with what the environment has beside a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"PORT": str(free_port())}
        self.all: list[dict[str, str]] = []

    def says(self, about: str, **env: str) -> str:
        """Return the worst that it finds of one thing: status, what it tells and what it advises."""
        done = run(self.folder, "doctor", "--json", env=self.env | env)
        assert SECRET not in done.stdout + done.stderr
        found: Any = json.loads(done.stdout)
        assert done.returncode == (0 if found["ok"] else 1)
        assert found["ok"] == all(item["status"] != "fail" for item in found["checks"])
        self.all = found["checks"]
        return self.said(about)

    def said(self, about: str) -> str:
        """Return the same from the last run."""
        of_it = sorted(filter(lambda item: item["check"] == about, self.all), key=lambda item: item["status"] == "ok")
        return " ".join(of_it[0].values()).removeprefix(about).strip() if of_it else ""


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


@pytest.fixture
def database(database_url: str) -> Database:
    """A database with this version's schema."""
    return Database(database_url)


def test_fresh_checkout_has_no_failed_check(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", env={"PORT": str(free_port())})
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok", "warn", "->"}
    assert list(tmp_path.iterdir()) == []


def test_invalid_settings_are_shown_without_secret_values(tmp_path: Path) -> None:
    env = {"PORT": "many", "CHATKEEP_CACHE_TTL": "soon", "DATABASE_URL": SECRET}
    done = run(tmp_path, "doctor", env=env)
    assert done.returncode == 1
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("fail")] == [
        "PORT:", "DATABASE_URL:", "CHATKEEP_CACHE_TTL:",
    ]  # fmt: skip
    assert "'soon'" in done.stdout
    assert SECRET not in done.stdout


def test_invalid_redaction_setting_is_reported(tmp_path: Path) -> None:
    wrong = {"CHATKEEP_REDACT_OUTPUT": "mask", "CHATKEEP_REDACT_PATTERNS": '{"staff": "EMP-[0-9]+"}'}
    done = run(tmp_path, "doctor", env={**wrong, "LANG": "zh_CN.UTF-8"})
    assert done.returncode == 1
    assert "CHATKEEP_REDACT_PATTERNS" in done.stdout
    assert "匹配没有最大长度" in done.stdout


def test_env_files_and_unknown_names_are_reported(doctor: Doctor) -> None:
    (doctor.folder / ".env").write_text("CHATKEEP_ENV=test\nCHATKEEP_CONTEXT=3\n")
    (doctor.folder / ".env.test").write_text("CHATKEEP_MODEL=m\n")
    assert doctor.says("environment").startswith("warn CHATKEEP_CONTEXT is not a setting")
    told = doctor.all[0]["detail"]
    assert told.startswith("test; files read: ")
    assert told.index(".env.test") < told.index(".env", told.index(".env.test") + 9)


def test_healthy_database_passes(doctor: Doctor, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    assert doctor.says("database", DATABASE_URL=url).startswith("ok")
    assert doctor.said("schema") == f"ok it is {migrations.HEAD}, which this version needs"
    assert doctor.said("character set").startswith("ok")


def test_read_only_database_fails_and_the_probe_leaves_no_row(
    doctor: Doctor, database: Database, request: pytest.FixtureRequest
) -> None:
    before = database.read(lambda connection: connection.rows(Sql("SELECT COUNT(*) FROM marks")))
    assert doctor.says("writing", DATABASE_URL=database.url.render_as_string(hide_password=False)).startswith("ok")
    assert database.read(lambda connection: connection.rows(Sql("SELECT COUNT(*) FROM marks"))) == before
    if database.embedded:
        return  # root can write read-only files
    kind = request.node.callspec.params["database_url"]
    server = database_server(request.getfixturevalue("standing"), kind)
    url = database.url.set(username=ORDINARY_USER).render_as_string(hide_password=False)
    server.execute("SET GLOBAL read_only = 1")
    try:
        told = doctor.says("writing", DATABASE_URL=url)
    finally:
        server.execute("SET GLOBAL read_only = 0")
    assert told.startswith(f"fail DATABASE_URL: 127.0.0.1:{server.port} is read-only: error 1290;")
    assert "--read-only" not in told, "these are the server's own words"


def test_older_schema_is_reported_and_not_migrated(doctor: Doctor, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    expected = "warn it is 0001; the next" if database.embedded else "fail it is 0001, but this version needs"
    assert doctor.says("schema", DATABASE_URL=url).startswith(expected)
    assert migrations.schema_of(database).revision == "0001"


def test_newer_schema_is_reported(doctor: Doctor, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert doctor.says("schema", DATABASE_URL=url).startswith("ok it is 9999, from a newer chatkeep that")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marks SET value = 12 WHERE name = 'schema_compatible_from'")
    assert doctor.says("schema", DATABASE_URL=url).startswith("fail it is 9999, from a newer chatkeep")


def test_empty_database_is_created_at_the_first_start(doctor: Doctor, mariadb_url: str) -> None:
    assert doctor.says("schema", DATABASE_URL=mariadb_url).startswith("ok there are no tables yet")
    with Database(mariadb_url).engine.begin() as connection:  # as a first start that was killed leaves it
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    assert doctor.says("schema", DATABASE_URL=mariadb_url).startswith("warn some tables are missing")


def test_database_without_utf8mb4_fails(doctor: Doctor, mariadb_url: str) -> None:
    asked = Database(mariadb_url)
    with asked.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE `{asked.url.database}` CHARACTER SET latin1")
    told = doctor.says("character set", DATABASE_URL=mariadb_url)
    assert told.startswith("fail")
    assert "ALTER DATABASE" in told


def test_unreachable_database_fails(doctor: Doctor) -> None:
    place = f"127.0.0.1:{free_port()}"
    told = doctor.says("database", DATABASE_URL=f"mysql+pymysql://chatkeep:{SECRET}@{place}/chatkeep")
    assert told.startswith(f"fail DATABASE_URL: no database listens on {place}; start it")
    assert "check DATABASE_URL" in told


def test_wrong_database_password_fails(doctor: Doctor, mariadb_url: str) -> None:
    url = Database(mariadb_url).url.set(username="stranger", password=SECRET)
    told = doctor.says("database", DATABASE_URL=url.render_as_string(hide_password=False))
    assert told.startswith(f"fail DATABASE_URL: 127.0.0.1:{url.port} refuses the user stranger: error 1045;")
    assert "Access denied" not in told, "these are the server's own words"


def test_file_that_is_no_database_fails(doctor: Doctor) -> None:
    (doctor.folder / "notes.txt").write_text("No database at all. " * 100)
    told = doctor.says("database", DATABASE_URL="sqlite:///notes.txt")
    assert told.startswith("fail DATABASE_URL: notes.txt is not a SQLite database")


@on_embedded_and_server
def test_state_of_keys_is_reported(doctor: Doctor, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    assert doctor.says("keys", DATABASE_URL=url).startswith(
        "ok no API key exists, so every client that reaches 127.0.0.1:"
    )
    for reachable in ({"HOST": "0.0.0.0"}, {"CHATKEEP_REQUIRE_KEYS": "true"}):  # noqa: S104 - nothing listens
        assert doctor.says("keys", DATABASE_URL=url, **reachable).startswith("fail no API key exists, so")
    first = make_key(url)
    assert doctor.says("keys", DATABASE_URL=url) == "ok 1 are valid"
    second = make_key(url, lifetime=3600)
    told = doctor.says("keys", DATABASE_URL=url)
    assert told.startswith("warn 2 are valid; 1 of them expire within 7 days")
    assert second.text not in told
    for made in (first, second):
        revoke(url, made)
    assert doctor.says("keys", DATABASE_URL=url).startswith("fail every API key is revoked or expired, so")


def test_missing_database_means_no_keys(doctor: Doctor, mariadb_url: str) -> None:
    for url in ("sqlite:///nowhere.sqlite3", mariadb_url):
        assert doctor.says("keys", DATABASE_URL=url).startswith("ok no API key exists")
        assert doctor.says("keys", DATABASE_URL=url, HOST="0.0.0.0").startswith("fail")  # noqa: S104 - as above


def test_clock_difference_is_reported(doctor: Doctor, mariadb_url: str) -> None:
    """The doctor's wall clock is an hour off."""
    (doctor.folder / "clock").write_text("3600")
    shifted = {"WALL_CLOCK": str(doctor.folder / "clock"), "PYTHONPATH": f"{ROOT}/tests/faults/clock{os.pathsep}{ROOT}"}
    # The doctor itself takes a moment, and the database counts whole seconds.
    assert re.search(r"differ by 3,(599|60\d) s", doctor.says("clock", DATABASE_URL=mariadb_url, **shifted))
    assert doctor.says("clock", DATABASE_URL=mariadb_url).startswith("ok")


def test_unwritable_folder_fails(doctor: Doctor) -> None:
    (doctor.folder / "file").write_text("")
    for place in ("file", "file/below", *(["/proc/chatkeep"] if sys.platform == "linux" else [])):
        assert "cannot be written" in doctor.says("data folder", CHATKEEP_DATA_DIR=place)
        assert "set CHATKEEP_DATA_DIR" in doctor.said("exports folder")


def test_nearly_full_disk_is_reported(doctor: Doctor, small_disk: Path | None) -> None:
    """Without the right to mount only the disk with free space is checked."""
    told = doctor.says("data folder", CHATKEEP_DATA_DIR=str(small_disk or doctor.folder))
    assert ("free some space" in told) == bool(small_disk)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 8 MB, or None if this user cannot mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        yield None
        return
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", "ok it answers and accepts the key; the model is gpt-4o-mini"),
        ("status=401,leak", "fail The provider refused the credentials (401): check OPENAI_API_KEY."),
        ("status=404", "warn it answers, but has no list of models"),
        ("status=429", "warn The provider's rate limit is reached (429)"),
        ("status=500", "fail The provider failed (500)"),
        ("status=302", "fail The provider redirects (302)"),
    ],
)
def test_answers_of_the_provider_are_reported(doctor: Doctor, upstream: Upstream, script: str, expected: str) -> None:
    upstream.script(script)
    assert doctor.says("provider", OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY=SECRET).startswith(expected)
    asked = upstream.requests[-1]
    assert (asked.path, asked.headers["authorization"]) == ("/v1/models", f"Bearer {SECRET}")


def test_model_that_the_provider_does_not_list_is_reported(doctor: Doctor, upstream: Upstream) -> None:
    told = doctor.says("provider", OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY=SECRET, CHATKEEP_MODEL="gpt-0")
    assert told == "warn it answers, but does not list the model gpt-0 check CHATKEEP_MODEL"


def test_provider_key_with_invalid_characters_fails(doctor: Doctor, upstream: Upstream) -> None:
    told = doctor.says("provider", OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY=f"{SECRET}密")
    assert told.startswith("fail OPENAI_API_KEY: the header")


def test_hanging_provider_times_out(doctor: Doctor, upstream: Upstream) -> None:
    """Five seconds: as long as the doctor waits."""
    upstream.script("status=200,hang")
    assert doctor.says("provider", OPENAI_BASE_URL=upstream.url).startswith("fail The provider did not answer in time")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("http://127.0.0.1:{port}/v1", "fail The provider refuses connections"),
        ("http://provider.invalid/v1", "fail The provider's address cannot be found"),
        ("https://127.0.0.1:{plain}/v1", "fail TLS with the provider failed"),
        ("https://127.0.0.1:{secure}/v1", "fail The provider's certificate is not trusted"),
    ],
)
def test_unreachable_provider_fails(doctor: Doctor, upstream: Upstream, place: str, expected: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ROOT / "tests" / "provider" / "localhost.pem")
    with Upstream(tls=tls) as secure:
        url = place.format(port=free_port(), plain=upstream.port, secure=secure.port)
        assert doctor.says("provider", OPENAI_BASE_URL=url, OPENAI_API_KEY=SECRET).startswith(expected)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_redis_that_refuses_commands_is_reported(doctor: Doctor, kind: str, tmp_path: Path) -> None:
    with unusable_redis(kind, tmp_path) as running:
        assert doctor.says("Redis", REDIS_URL=running.url).startswith("warn it answers, but cannot be used: ")


def test_redis_is_checked_if_configured(doctor: Doctor, redis: Redis) -> None:
    assert doctor.says("Redis") == ""
    assert doctor.says("Redis", REDIS_URL=redis.url) == "ok it answers"
    limits = '{"account": {"requests_per_day": 40}}'
    told = doctor.says("Redis", REDIS_URL=redis.url, CHATKEEP_LIMITS=limits)
    assert told.startswith("warn it does not persist data, so a restart of Redis resets")
    assert doctor.says("Redis", REDIS_URL=f"redis://:{SECRET}@127.0.0.1:{free_port()}/0").startswith("warn it does not")


def test_openid_documents_are_checked(doctor: Doctor, oidc_provider: OidcProvider) -> None:
    """Starts processes: three seconds."""
    url = oidc_provider.url
    assert doctor.says("OpenID provider") == ""

    def says(**env: str) -> str:
        mine = {"ISSUER": url, "CLIENT_ID": "chatkeep", "CLIENT_SECRET": SECRET} | env
        return doctor.says("OpenID provider", **{f"CHATKEEP_OIDC_{name}": value for name, value in mine.items()})

    assert says() == f"ok {url} answers; its keys for RS256: 1"
    alias = url.replace("127.0.0.1", "localhost")
    assert says(ISSUER=alias).startswith(f"fail the issuer {alias} calls itself '{url}'")
    assert says(ALGORITHM="Ed448").startswith("fail it publishes no key for Ed448")
    assert says(ALGORITHM="ES256K").startswith("fail it signs with 'HS256, ")
    away = f"http://127.0.0.1:{free_port()}"
    assert says(ISSUER=away).startswith(f"fail {away} does not answer like an OpenID issuer: discovery_unreachable")
    assert says(CLIENT_ID="").startswith("fail CHATKEEP_OIDC_CLIENT_ID: not set")


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        ({DISCOVERY: (200, b"[" * 100_000)}, "discovery_malformed"),
        ({DISCOVERY: (302, b"{}")}, "discovery_status_302"),
        ({KEYS: (200, b"<html>")}, "keys_malformed"),
    ],
)
def test_invalid_openid_documents_are_reported(
    doctor: Doctor, sends: dict[str, tuple[int, bytes]], expected: str
) -> None:
    with StandIn() as lying:
        lying.sends = sends
        env = {"CHATKEEP_OIDC_ISSUER": lying.url, "CHATKEEP_OIDC_CLIENT_ID": "chatkeep"}
        assert expected in doctor.says("OpenID provider", **env)


def test_running_server_is_reported(doctor: Doctor) -> None:
    with Server("flask", doctor.folder / "server") as server:
        env = {"PORT": str(server.port), "CHATKEEP_DATA_DIR": server.env["CHATKEEP_DATA_DIR"]}
        assert doctor.says("address", **env) == f"ok chatkeep already answers on 127.0.0.1:{server.port}"
        assert [item["status"] for item in doctor.all if item["check"] == "database"] == ["ok"]


def test_port_used_by_another_program_fails(doctor: Doctor, upstream: Upstream) -> None:
    """Four seconds each, for which the doctor waits: the provider keeps its connection, the other one is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (upstream.port, silent.getsockname()[1]):
            assert doctor.says("address", PORT=str(port)).startswith(
                f"fail the program that listens on 127.0.0.1:{port} does not"
            )


def test_another_http_server_on_the_port_fails(doctor: Doctor) -> None:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        Thread(target=other.handle_request, daemon=True).start()
        assert doctor.says("address", PORT=str(other.server_port)).startswith("fail another program answers")


@pytest.mark.posix("there are no sockets with a path")
def test_missing_folder_of_the_socket_is_reported(doctor: Doctor) -> None:
    found = doctor.says("address", HOST=f"unix:{doctor.folder}/nowhere/chatkeep.sock")
    assert found.startswith(f"warn {doctor.folder}/nowhere does not exist")


@pytest.mark.posix("limits are those of POSIX")
def test_low_limit_of_open_files_is_reported(doctor: Doctor, limited: Callable[[int], None]) -> None:
    limited(256)
    assert "78 concurrent streams" in doctor.says("open files")
    limited(4096)
    assert doctor.says("open files").startswith("ok")


@pytest.fixture
def limited() -> Any:
    """A function that limits the open files of this process and its children."""
    import resource  # noqa: PLC0415 - Windows lacks it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
