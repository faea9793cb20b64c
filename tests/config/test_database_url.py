"""URLs of database servers: what is refused, and every spelling of a TLS mode."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from sqlalchemy.engine import make_url

from chatkeep.config.database_url import OPTIONS, Options, Tls, options
from chatkeep.config.parsing import database_url
from chatkeep.config.settings import Settings
from chatkeep.errors import SettingsError

CANARY = "zealot"  # no hexadecimal digits, with which a % would be an escape


def read(query: str) -> Options:
    url = make_url(database_url(f"mysql://user:password@host/database{query}"))
    return options((name, value) for name, values in url.normalized_query.items() for value in values)


@pytest.mark.parametrize(
    "password", ["p", "a:b", "[x", "x]", "p%40%2F%3F%23%25%20", "50%25", "!$&'()*+,;=~^|<>\\`{}\"", "密码"]
)
def test_password_is_decoded(password: str) -> None:
    url = make_url(database_url(f"mysql://user:{password}@[::1]:3307/database?ssl-mode=REQUIRED"))
    assert (url.username, url.host, url.port, url.database) == ("user", "::1", 3307, "database")
    assert url.password == unquote(password)


@pytest.mark.parametrize("character", ["@", "/", "#", "?", "%", " ", "\t", "@@", "/@", "?@", "#@", "%@", "%4", "%zz"])
@pytest.mark.parametrize("first", ["x", "1234"])  # digits before / or ? look like a port
@pytest.mark.parametrize("scheme", ["mysql", "mysql+pymysql", "mariadb"])
def test_unescaped_password_is_refused_and_not_shown(scheme: str, first: str, character: str) -> None:
    for rest in ("127.0.0.1:3306/database", "db.example.com/database?charset=utf8mb4", "[::1]/database"):
        with pytest.raises(SettingsError) as raised:
            Settings.from_env({"DATABASE_URL": f"{scheme}://user:{first}{character}{CANARY}@{rest}"})
        (told,) = raised.value.problems
        assert "in a password % / ? # @ and spaces as %25 %2F %3F %23 %40 %20" in told
        assert CANARY not in told
        assert first not in told


@pytest.mark.parametrize("url", ["mysql://", "mysql://host", "mysql://host/", "mysql://host:x/d", "mysql://host/a/b"])
def test_url_without_a_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="write mysql"):
        database_url(url)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_invalid_port_is_refused(port: str) -> None:
    with pytest.raises(ValueError, match="write a port from 1 to 65535"):
        database_url(f"mysql://host:{port}/database")


@pytest.mark.parametrize(
    ("query", "tls"),
    [
        ("", Tls.DISABLED),
        ("?charset=utf8mb4", Tls.DISABLED),
        *((f"?{name}={value}", Tls.REQUIRED) for name in ("ssl", "tls", "useSSL") for value in ("true", "1", "on")),
        *((f"?{name}=REQUIRED", Tls.REQUIRED) for name in ("ssl_mode", "ssl-mode", "sslmode", "sslMode", "SSL_MODE")),
        ("?sslmode=require", Tls.REQUIRED),
        ("?tls=skip-verify", Tls.REQUIRED),
        ("?ssl_disabled=false", Tls.REQUIRED),
        ("?ssl_check_hostname=false", Tls.REQUIRED),
        ("?ssl_cert=c&ssl_key=k", Tls.REQUIRED),
        *((f"?ssl_mode={value}", Tls.VERIFY_CA) for value in ("VERIFY_CA", "verify-ca")),
        ("?ssl_verify_cert=true", Tls.VERIFY_CA),
        ("?ssl-mode=REQUIRED&ssl-ca=a", Tls.VERIFY_CA),
        ("?ssl_ca=a&ssl_check_hostname=false", Tls.VERIFY_CA),
        *(
            (f"?sslmode={value}", Tls.VERIFY_IDENTITY)
            for value in ("VERIFY_IDENTITY", "verify-full", "verify_identity")
        ),
        ("?ssl_ca=a", Tls.VERIFY_IDENTITY),
        ("?sslrootcert=a", Tls.VERIFY_IDENTITY),
        ("?ssl_ca=a&ssl_verify_identity=1", Tls.VERIFY_IDENTITY),
        *((f"?ssl_mode={value}", Tls.DISABLED) for value in ("DISABLED", "disable", "false", "0")),
        ("?useSSL=false", Tls.DISABLED),
        ("?ssl_disabled=true", Tls.DISABLED),
    ],
)
def test_every_spelling_of_a_tls_mode_is_accepted(query: str, tls: Tls) -> None:
    assert read(query).tls is tls


def test_tls_files_are_parsed() -> None:
    found = read("?ssl-ca=/a/ca.pem&ssl_cert=/a%40b/c.pem&ssl-key=k&ssl-cipher=HIGH")
    assert found == Options(Tls.VERIFY_IDENTITY, "/a/ca.pem", None, "/a@b/c.pem", "k", "HIGH")


@pytest.mark.posix("Windows has no such sockets in Python")
def test_unix_socket_is_parsed() -> None:
    assert read("?unix_socket=/run/x.sock") == Options(Tls.DISABLED, unix_socket="/run/x.sock")


@pytest.mark.parametrize("value", ["PREFERRED", "prefer", "maybe", "", "strict", '{"ca":"x"}'])
@pytest.mark.parametrize("name", ["ssl_mode", "sslmode", "ssl", "tls"])
def test_unknown_tls_mode_is_refused_with_the_valid_ones(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="ssl-mode takes one of DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"):
        read(f"?{name}={value}")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?connect_timeout=5", "unknown option connect_timeout; the options are "),
        ("?ssl_mode=REQUIRED&autocommit=1", "unknown option autocommit; the options are "),
        ("?password=zealot", "unknown option password; the options are "),
        ("?z34l0t", "unknown option .name hidden.; the options are "),  # it may be a piece of a password
        ("?charset=latin1", "the option charset must be utf8mb4"),
        ("?ssl_ca=", "the option ssl_ca is empty or repeated"),
        ("?ssl_ca=a&ssl-ca=b", "the option ssl-ca is empty or repeated"),
        ("?ssl_verify_cert=verify-full", "the option sslverifycert takes true or false"),
        ("?ssl-mode=DISABLED&ssl-ca=a", "one option disables TLS, and another one requires it"),
        ("?ssl=true&ssl_disabled=true", "one option disables TLS, and another one requires it"),
        ("?ssl-key=k", "the option ssl-key requires ssl-cert; add it"),
    ],
)
def test_unknown_option_is_refused_by_name(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        read(query)
    assert CANARY not in str(raised.value)
    if "the options are" in told:
        assert all(option in str(raised.value) for option in OPTIONS)


def test_sqlite_url_with_options_is_refused() -> None:
    assert database_url("sqlite:////var/lib/a@b#c%20/x.sqlite3") == "sqlite:////var/lib/a@b#c%20/x.sqlite3"
    with pytest.raises(ValueError, match="SQLite does not support the options mode"):
        database_url("sqlite:///x.sqlite3?mode=ro")


@pytest.mark.parametrize("password", ["p", "a:b@c/d?e#f%g h", "50%25", "!$&'()*+,;=~^|<>\\`{}\"", "密码", " "])
def test_database_password_is_inserted_unchanged(password: str) -> None:
    for user in ("user", "us%40er"):
        environ = {"DATABASE_URL": f"mysql://{user}@[::1]:3307/database", "DATABASE_PASSWORD": password}
        url = make_url(Settings.from_env(environ).database)
        assert (url.username, url.password, url.host) == (unquote(user), password, "::1")


@pytest.mark.parametrize("url", ["", "sqlite:///x", "mysql://host/database", "mysql://u:p@host/d", "mysql://u:@host/d"])
def test_database_password_needs_a_url_with_a_user_and_no_password(url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^DATABASE_PASSWORD: write DATABASE_URL with a user and no password"
    ) as told:
        Settings.from_env({"DATABASE_URL": url, "DATABASE_PASSWORD": CANARY})
    assert CANARY not in str(told.value)
