"""How settings are written, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chatkeep import notation

RIGHT: list[tuple[Callable[[str], Any], str, Any]] = [
    (notation.path_prefix, "/chat", "/chat"),
    (notation.path_prefix, "/a.b/c-d_e~1/", "/a.b/c-d_e~1"),
    (notation.path_prefix, "/", ""),
    (notation.public_url, "HTTPS://Chat.example.com:443/", "https://chat.example.com"),
    (notation.public_url, "http://10.0.0.7:8080", "http://10.0.0.7:8080"),
    (notation.duration, "250ms", 0.25),
    (notation.duration, "90s", 90),
    (notation.duration, "1.5m", 90),
    (notation.duration, "24h", 86400),
    (notation.duration, "7d", 604800),
    (notation.optional_duration, "never", None),
    (notation.size, "1048576", 1048576),
    (notation.size, "64KiB", 65536),
    (notation.size, "1 MiB", 1048576),
    (notation.count, "1", 1),
    (notation.port, "65535", 65535),
    (notation.flag, "ON", True),
    (notation.flag, "0", False),
    (notation.http_url, "https://x.example/v1/", "https://x.example/v1"),
    (notation.database_url, "mysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
    (notation.database_url, "mariadb+pymysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
    (notation.database_url, "sqlite:///x", "sqlite:///x"),
    (notation.words, " a, b ,,c", ("a", "b", "c")),
    (notation.host_names, "Chat.example.com, [::1],*", ("chat.example.com", "[::1]", "*")),
    (
        notation.origins,
        "https://App.example.com/, http://localhost:3000",
        ("https://app.example.com", "http://localhost:3000"),
    ),
    (notation.origins, "HTTPS://a.example:443,https://a.example", ("https://a.example",)),
    (notation.origins, "http://a.example:80//", ("http://a.example",)),
    (notation.origins, "http://a.example:443,https://a.example:80", ("http://a.example:443", "https://a.example:80")),
    (notation.origins, "http://[::1]:3000", ("http://[::1]:3000",)),
    (notation.origins, "https://例子.测试", ("https://xn--fsqu00a.xn--0zwm56d",)),
    (
        notation.origins,
        "chrome-extension://abcdef, capacitor://localhost",
        ("chrome-extension://abcdef", "capacitor://localhost"),
    ),
    (notation.origins, "*", ("*",)),
    (notation.headers, '{"X-Team": "search"}', (("X-Team", "search"),)),
    (notation.log_level, "debug", "DEBUG"),
]
WRONG: list[tuple[Callable[[str], Any], str]] = [
    *[
        (notation.path_prefix, text)
        for text in ("chat", "//chat", "/a//b", "/../a", "/a/.", "/a b", "/a?b", "/中", "/a;b")
    ],
    *((notation.duration, text) for text in ("", "90", "90 s", "s", "-1s", "1e3s", "never")),
    *((notation.size, text) for text in ("", "1MB", "1.5MiB", "-1")),
    *((notation.count, text) for text in ("", "0", "-1", "1.0", "two")),
    *((notation.port, text) for text in ("0", "65536", "http")),
    *((notation.flag, text) for text in ("", "maybe", "2")),
    *((notation.http_url, text) for text in ("x.example", "ftp://x", "https://", "//x")),
    *((notation.database_url, text) for text in ("postgres://x", "x.sqlite3", "sqlite:x")),
    *((notation.host_names, text) for text in ("https://a.example", "a.example:80", "a/b", "a b", "user@a.example")),
    *(
        (notation.origins, text)
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
    *((notation.public_url, text) for text in ("chat.example.com", "https://a.example/chat", "ftp://a.example", "*")),
    *((notation.headers, text) for text in ("x", "[]", '{"a": 1}', '{"a": "b\\nc"}')),
    *((notation.environment, text) for text in ("prod", "")),
    *((notation.log_level, text) for text in ("loud", "")),
]


@pytest.mark.parametrize(("read", "text", "value"), RIGHT, ids=lambda item: getattr(item, "__name__", None))
def test_a_value_is_read(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("read", "text"), WRONG, ids=lambda item: getattr(item, "__name__", None))
def test_a_wrong_value_is_refused_with_what_would_be_right(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"write|may not"):
        read(text)
