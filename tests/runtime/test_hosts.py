"""Loopback hosts."""

from __future__ import annotations

import pytest

from chatkeep.runtime.hosts import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "unix:/run/chatkeep.sock"])
def test_loopback_and_sockets_are_local(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "127.0.0.1.example.com", ""])  # noqa: S104
def test_other_addresses_are_not_local(host: str) -> None:
    assert not is_loopback(host)
