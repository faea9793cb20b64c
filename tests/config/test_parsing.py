"""Parsing of settings: valid and invalid values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chatkeep.config import parsing

RIGHT: list[tuple[Callable[[str], Any], str, Any]] = [
    (parsing.path_prefix, "/chat", "/chat"),
    (parsing.path_prefix, "/a.b/c-d_e~1/", "/a.b/c-d_e~1"),
    (parsing.path_prefix, "/", ""),
    (parsing.public_url, "HTTPS://Chat.example.com:443/", "https://chat.example.com"),
    (parsing.public_url, "http://10.0.0.7:8080", "http://10.0.0.7:8080"),
    (parsing.duration, "250ms", 0.25),
    (parsing.duration, "90s", 90),
    (parsing.duration, "1.5m", 90),
    (parsing.duration, "24h", 86400),
    (parsing.duration, "7d", 604800),
    (parsing.optional_duration, "never", None),
    (parsing.size, "1048576", 1048576),
    (parsing.size, "64KiB", 65536),
    (parsing.size, "1 MiB", 1048576),
    (parsing.count, "1", 1),
    (parsing.port, "65535", 65535),
    (parsing.flag, "ON", True),
    (parsing.flag, "0", False),
    (parsing.http_url, "https://x.example/v1/", "https://x.example/v1"),
    (parsing.database_url, "mysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
    (parsing.database_url, "mariadb+pymysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
    (parsing.database_url, "sqlite:///x", "sqlite:///x"),
    (parsing.words, " a, b ,,c", ("a", "b", "c")),
    (parsing.host_names, "Chat.example.com, [::1],*", ("chat.example.com", "[::1]", "*")),
    (
        parsing.origins,
        "https://App.example.com/, http://localhost:3000",
        ("https://app.example.com", "http://localhost:3000"),
    ),
    (parsing.origins, "HTTPS://a.example:443,https://a.example", ("https://a.example",)),
    (parsing.origins, "http://a.example:80//", ("http://a.example",)),
    (parsing.origins, "http://a.example:443,https://a.example:80", ("http://a.example:443", "https://a.example:80")),
    (parsing.origins, "http://[::1]:3000", ("http://[::1]:3000",)),
    (parsing.origins, "https://例子.测试", ("https://xn--fsqu00a.xn--0zwm56d",)),
    (
        parsing.origins,
        "chrome-extension://abcdef, capacitor://localhost",
        ("chrome-extension://abcdef", "capacitor://localhost"),
    ),
    (parsing.origins, "*", ("*",)),
    (parsing.headers, '{"X-Team": "search"}', (("X-Team", "search"),)),
    (parsing.log_level, "debug", "DEBUG"),
]
WRONG: list[tuple[Callable[[str], Any], str]] = [
    *[
        (parsing.path_prefix, text)
        for text in ("chat", "//chat", "/a//b", "/../a", "/a/.", "/a b", "/a?b", "/中", "/a;b")
    ],
    *((parsing.duration, text) for text in ("", "90", "90 s", "s", "-1s", "1e3s", "never")),
    *((parsing.size, text) for text in ("", "1MB", "1.5MiB", "-1")),
    *((parsing.count, text) for text in ("", "0", "-1", "1.0", "two")),
    *((parsing.port, text) for text in ("0", "65536", "http")),
    *((parsing.flag, text) for text in ("", "maybe", "2")),
    *((parsing.http_url, text) for text in ("x.example", "ftp://x", "https://", "//x")),
    *((parsing.database_url, text) for text in ("postgres://x", "x.sqlite3", "sqlite:x")),
    *((parsing.host_names, text) for text in ("https://a.example", "a.example:80", "a/b", "a b", "user@a.example")),
    *(
        (parsing.origins, text)
        for text in (
            "https://*.example.org",
            "https://*",
            "*.example.org",
            "https://a.example/app",
            "https://a.example?x",
            "https://a.example/#x",
            "null",
            "NULL",
            "file://",
            "file:///app",
            "app.example.com",
            "localhost:3000",
            "https://",
            "//a.example",
            "https://user@a.example",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:x",
            "https://a.example https://b.example",
            '["https://a.example"]',
            "https://a..例",
        )
    ),
    *((parsing.public_url, text) for text in ("chat.example.com", "https://a.example/chat", "ftp://a.example", "*")),
    *((parsing.headers, text) for text in ("x", "[]", '{"a": 1}', '{"a": "b\\nc"}')),
    *((parsing.environment, text) for text in ("prod", "")),
    *((parsing.log_level, text) for text in ("loud", "")),
]


@pytest.mark.parametrize(("read", "text", "value"), RIGHT, ids=lambda item: getattr(item, "__name__", None))
def test_valid_value_is_parsed(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("read", "text"), WRONG, ids=lambda item: getattr(item, "__name__", None))
def test_invalid_value_is_refused_with_advice(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"write|may not|remove"):
        read(text)
