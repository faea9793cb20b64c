"""The addresses that calls may go to. The test resolves the name; the provider is real and listens on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from chatkeep.errors import ProviderBroke, ProviderRefused, SettingsError
from chatkeep.httpclient.addresses import Address, is_allowed, resolve_by_system
from chatkeep.provider.openai_http import OpenAIHttp
from tests.provider.asking import ask
from tests.upstream import Upstream

Open = Callable[..., OpenAIHttp]
METADATA = "169.254.169.254"
ANY = "0.0.0.0"  # noqa: S104 - connecting to it is connecting to this machine
# Never allowed, whatever the settings.
NEVER = [
    METADATA, "169.254.0.1", "fd00:ec2::254", "fe80::1", "fe80::a9fe:a9fe", "224.0.0.1", "255.255.255.255", "240.0.0.1",
    "ff02::1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "2001:0:1::1",
    "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254", "::ffff:0:a9fe:a9fe", "fec0::1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.255.0.1", ANY, "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "::", "fd00::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.1.2.3", "2002:7f00:1::", "::127.0.0.1",
    "::ffff:0:10.0.0.1",
]  # fmt: skip
PUBLIC = [
    "104.18.7.192",
    "2606:4700::6812:7c0",
    "::ffff:104.18.7.192",
    "64:ff9b::6812:7c0",
    "::ffff:0:6812:7c0",
    "198.18.0.7",
]


@pytest.mark.parametrize("address", NEVER)
def test_forbidden_addresses_are_never_allowed(address: str) -> None:
    assert not is_allowed(address, private=True)
    assert not is_allowed(address, private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_a_named_host(address: str) -> None:
    assert is_allowed(address, private=True)
    assert not is_allowed(address, private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, private=True)
    assert is_allowed(address, private=False)


class Names:
    """A resolver that returns its answers in order, and then repeats the last one."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [_address(text, port) for text in answer]


def _address(text: str, port: int) -> Address:
    if ":" in text:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (text, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)


def named(upstream: Upstream, host: str = "llm.example.com") -> str:
    return f"http://{host}:{upstream.port}/v1"


def test_call_connects_to_the_checked_address(open_http: Open, upstream: Upstream) -> None:
    """The name has another address each time. After a second lookup, the call would go there."""
    names = Names(["127.0.0.1"], [METADATA])
    provider = open_http(named(upstream), resolve=names)
    assert ask(provider, "a").finish
    assert ask(provider, "b").finish  # on the same connection
    assert names.asked == [("llm.example.com", upstream.port)]
    assert upstream.requests[0].headers["host"] == f"llm.example.com:{upstream.port}"


def test_rebound_name_gets_no_call(open_http: Open, upstream: Upstream) -> None:
    upstream.script("close", "")
    provider = open_http(named(upstream), resolve=Names(["127.0.0.1"], [METADATA]))
    assert ask(provider, "a").finish
    error = ask(provider, "b").error
    assert isinstance(error, ProviderBroke)
    assert "CHATKEEP_PROVIDER_HOSTS" in error.detail
    assert error.should_retry is False
    assert len(upstream.requests) == 1


def test_only_allowed_addresses_of_several_are_used(open_http: Open, upstream: Upstream) -> None:
    provider = open_http(named(upstream), resolve=Names([METADATA, "fe80::1", "127.0.0.1"]), connect_timeout=1)
    assert ask(provider, "a").finish
    assert upstream.connections == 1


@pytest.mark.parametrize(("hosts", "allowed"), [
    ((), True),
    (("llm.example.com",), True),
    (("other.example.com", "LLM.example.com"), True),
    (("*.example.com",), False),
    (("*",), False),
])  # fmt: skip
def test_wildcard_host_may_not_be_private(
    open_http: Open, upstream: Upstream, hosts: tuple[str, ...], *, allowed: bool
) -> None:
    """DNS rebinding of a name that matches a wildcard, to this machine."""
    provider = open_http(named(upstream), hosts=hosts, resolve=Names(["127.0.0.1"]))
    outcome = ask(provider, "a")
    assert bool(outcome.finish) == allowed
    assert upstream.connections == allowed


@pytest.mark.parametrize("hosts", [("api.example.com",), ("*.llm.example.com",), ("example.com",), ("*.ple.com",)])
def test_unlisted_provider_is_a_settings_error(hosts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="CHATKEEP_PROVIDER_HOSTS"):
        OpenAIHttp("https://llm.example.com/v1", "k", "m", hosts=hosts)


WRITTEN = [
    "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0xa9.254.0251.254", METADATA,
    "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]",
]  # fmt: skip


@pytest.mark.parametrize("host", WRITTEN)
def test_other_notations_of_addresses_are_checked(open_http: Open, host: str) -> None:
    """With the system's resolver, which accepts all of them. Nothing is sent."""
    outcome = ask(open_http(f"http://{host}:1/v1", resolve=resolve_by_system, connect_timeout=0.5), "a")
    assert outcome.error is not None
    assert "CHATKEEP_PROVIDER_HOSTS" in outcome.error.detail


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", ANY])
def test_local_model_needs_no_setting(open_http: Open, upstream: Upstream, host: str) -> None:
    assert ask(open_http(named(upstream, host)), "a").finish


@pytest.fixture
def redirecting() -> Iterator[Callable[[str], str]]:
    """Starts a provider that redirects everything to a URL. Returns its own URL."""
    with contextlib.ExitStack() as stack:

        def start(target: str) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=_redirect, args=(listener, target), daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

        yield start


def _redirect(listener: socket.socket, target: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
                sock.sendall(head.encode())


def test_redirects_are_not_followed(open_http: Open, upstream: Upstream, redirecting: Callable[[str], str]) -> None:
    error: Any = ask(open_http(redirecting(f"{upstream.url}/chat/completions")), "a").error
    assert "redirects (307)" in error.detail
    assert not isinstance(error, ProviderRefused)
    assert upstream.connections == 0
