"""Encrypted connections to a real MySQL with its self-made certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatkeep.errors import SettingsError
from chatkeep.store import migrations
from chatkeep.store.engine import SCANS, SHORT, UPKEEP, Database
from chatkeep.store.sql import Sql
from tests.conftest import Standing, blank_database, database_server
from tests.services.mysql import MySQL

FOREIGN = Path(__file__).parents[1] / "provider" / "localhost.pem"
CIPHER = Sql("", mysql="SHOW STATUS LIKE 'Ssl_cipher'")


@pytest.fixture
def mysql(standing: Standing) -> MySQL:
    server: MySQL = database_server(standing, "mysql")
    return server


def with_options(url: str, options: str) -> str:
    return f"{url.partition('?')[0]}{options}"


def ciphers(url: str) -> set[str]:
    """Return the ciphers of connections of several kinds, "" for plain ones."""
    database = Database(url)
    found = {
        database.read_as(kind, lambda connection: connection.rows(CIPHER)[0][1]) for kind in (SHORT, SCANS, UPKEEP)
    }
    database.close()
    return found


@pytest.mark.parametrize(
    "options", ["?ssl-mode=REQUIRED", "?ssl=true", "?ssl_mode=VERIFY_CA&ssl_ca={ca}", "?tls=1&ssl-ca={ca}"]
)
def test_tls_options_encrypt_connections(mysql: MySQL, options: str) -> None:
    found = ciphers(with_options(mysql.create_database(), options.format(ca=mysql.authority)))
    assert len(found) == 1
    assert found.pop().startswith("TLS_")


@pytest.mark.parametrize("options", ["", "?charset=utf8mb4", "?ssl-mode=DISABLED", "?ssl=false"])
def test_connections_are_plain_without_tls_options(mysql: MySQL, options: str) -> None:
    assert ciphers(with_options(mysql.create_database(), options)) == {""}


def test_user_that_requires_tls_can_connect(mysql: MySQL) -> None:
    url = mysql.create_database()
    name = Database(url).url.database
    mysql.execute(f"CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY 'pass wörd 密码@/#?%' REQUIRE SSL")
    mysql.execute(f"GRANT ALL ON {name}.* TO '{name}'@'127.0.0.1'")
    password = "pass%20w%C3%B6rd%20密码%40%2F%23%3F%25"
    mine = f"mysql+pymysql://{name}:{password}@127.0.0.1:{mysql.port}/{name}"
    assert "TLS_" in ciphers(f"{mine}?ssl-mode=REQUIRED").pop()
    with pytest.raises(
        SettingsError, match=rf"^DATABASE_URL: 127\.0\.0\.1:{mysql.port} refuses the user {name}: error 1045"
    ):
        migrations.opened(mine)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("?ssl-mode=VERIFY_CA&ssl-ca={foreign}", "the certificate of {place} is not of the authority in ssl-ca"),
        ("?ssl-mode=VERIFY_CA", "the certificate of {place} is not of the authority in ssl-ca"),
        ("?ssl-ca={ca}", "the certificate of {place} is for another name; write ssl-mode=VERIFY_CA to allow it"),
        ("?ssl-ca=/no/ca.pem", "the option ssl-ca=/no/ca.pem cannot be used: No such file or directory"),
        ("?ssl-ca={this}", "the option ssl-ca={this} cannot be used: NO_CERTIFICATE_OR_CRL_FOUND"),
        ("?ssl-cert={ca}&ssl-key={foreign}", "the option ssl-cert={ca} cannot be used: "),
        ("?ssl-mode=REQUIRED&ssl-cipher=none", "the option ssl-cipher=none cannot be used: "),
    ],
)
def test_untrusted_certificate_is_explained(mysql: MySQL, options: str, told: str) -> None:
    named = {"ca": mysql.authority, "foreign": FOREIGN, "this": __file__, "place": f"127.0.0.1:{mysql.port}"}
    url = with_options(mysql.create_database(), options.format(**named))
    with pytest.raises(SettingsError) as raised:
        migrations.opened(url)
    (said,) = raised.value.problems
    assert said.startswith(f"DATABASE_URL: {told.format(**named)}")
    assert str(Database(mysql.create_database()).url.password) not in said


def test_server_without_tls_is_explained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = with_options(blank_database(request, "mariadb", tmp_path_factory), "?ssl-mode=REQUIRED")
    with pytest.raises(SettingsError, match=r"offers no TLS; set it up there, or remove the options"):
        migrations.opened(url)


def test_connections_share_one_tls_context(mysql: MySQL) -> None:
    """Creating one takes tens of milliseconds, which would block an event loop."""
    database = Database(with_options(mysql.create_database(), f"?ssl-mode=VERIFY_CA&ssl-ca={mysql.authority}"))
    lent = [database.engine_for(kind).raw_connection() for kind in (SHORT, SHORT, SCANS, UPKEEP)]
    raw: list[Any] = [connection.driver_connection for connection in lent]
    assert len(set(raw)) == 4
    assert len({connection.ctx for connection in raw}) == 1
    for connection in lent:
        connection.close()
    database.close()
