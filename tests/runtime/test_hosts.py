"""Which hosts are this machine alone."""

from __future__ import annotations

import pytest

from chatkeep.runtime.hosts import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "unix:/run/chatkeep.sock"])
def test_only_this_machine_reaches_loopback_and_sockets(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "127.0.0.1.example.com", ""])  # noqa: S104
def test_others_reach_every_other_address(host: str) -> None:
    assert not is_loopback(host)
