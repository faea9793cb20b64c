"""Connections: pooled, replaced, aborted, through proxies and over TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from openai import OpenAI

import chatkeep
from chatkeep.config.settings import Settings
from chatkeep.errors import ProviderBroke, ProviderError, ProviderTimeout, SettingsError
from chatkeep.httpclient.connections import AbortHandle, connect_polling, handshake_polling
from chatkeep.provider import Provider
from chatkeep.provider.openai_http import OpenAIHttp
from chatkeep.provider.openai_sdk import OpenAISdk
from tests.client import SLOW
from tests.ports import free_port
from tests.provider.asking import Asking, Outcome, ask, prompt
from tests.provider.conftest import KEY
from tests.upstream import Upstream, reply_to

Open = Callable[..., OpenAIHttp]
STAGES = ["fault=hang_headers", "fault=hang_first", "fault=hang_after:2", "n=1000,r=50", "status=503,hang"]


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port where connecting neither succeeds nor fails: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# Pooled connections


@pytest.mark.parametrize("script", ["", "n=20,split", "length", "json", "status=429", "status=500"])
def test_consecutive_calls_share_a_connection(script: str, provider: Provider, upstream: Upstream) -> None:
    for _ in range(5):
        ask(provider, f"#{script}#")
    assert upstream.connections == 1
    assert len(upstream.requests) == 5


@pytest.mark.parametrize("script", ["close", "vanish", "fault=hang_done", "fault=error_after:2", "fault=reset_after:1"])
def test_unusable_connection_is_replaced(script: str, provider: Provider, upstream: Upstream) -> None:
    ask(provider, f"#{script}#")
    assert upstream.wait_for(lambda it: it.active == 0)
    time.sleep(0.05)  # for its FIN to arrive
    assert ask(provider, "hi").text == reply_to("hi")
    assert upstream.connections == 2
    assert len(upstream.requests) == 2


def test_stale_connection_is_replaced_once(over_http: OpenAIHttp, upstream: Upstream) -> None:
    upstream.script("", "fault=drop", "", "fault=drop", "fault=drop")
    assert ask(over_http, "a").finish
    assert ask(over_http, "b").finish
    assert upstream.connections == 2
    assert isinstance(ask(over_http, "c").error, ProviderBroke)
    assert [request.message for request in upstream.requests] == ["a", "b", "b", "c", "c"]


def test_broken_response_head_is_not_resent(over_http: OpenAIHttp, upstream: Upstream) -> None:
    upstream.script("", "fault=half_head")
    ask(over_http, "a")
    assert isinstance(ask(over_http, "b").error, ProviderBroke)
    assert len(upstream.requests) == 2


def test_failing_receiver_closes_connection(provider: Provider, upstream: Upstream) -> None:
    def receive(_piece: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        provider.stream_reply(prompt("#n=1000,r=50#")).deliver(receive)
    assert upstream.wait_for(lambda it: it.active == 0, 1)


def test_closing_the_provider_closes_its_idle_connections(over_http: OpenAIHttp, upstream: Upstream) -> None:
    ask(over_http, "a")
    over_http.close()
    assert ask(over_http, "b").finish
    assert ask(over_http, "c").finish
    assert upstream.connections == 3


def test_three_hundred_concurrent_calls_succeed(over_http: OpenAIHttp, upstream: Upstream) -> None:
    """Takes two seconds: every reply lasts one, and the threads share a core with the provider's."""
    messages = [f"call {number} #n=10,r=10,seed={number},split#" for number in range(300)]
    askings = [Asking(over_http, message) for message in messages]
    for asking in askings:
        asking.thread.join(20 * SLOW)
    assert [asking.outcome.text for asking in askings] == [reply_to(message) for message in messages]
    assert upstream.aborted == []


# Abort


@pytest.mark.parametrize("before", [[], ["hi"]], ids=["fresh", "kept"])
@pytest.mark.parametrize("script", STAGES)
def test_abort_ends_both_sides_at_once(script: str, before: list[str], provider: Provider, upstream: Upstream) -> None:
    for message in before:
        ask(provider, message)
    asking = Asking(provider, f"#{script}#")
    assert upstream.wait_for(lambda it: it.active == 1)
    time.sleep(0.05)
    assert asking.abort() < 0.5
    assert asking.outcome.error is None
    assert asking.outcome.finish is None
    assert upstream.wait_for(lambda it: it.active == 0, 1)
    assert upstream.connections == 1


@pytest.mark.parametrize("script", ["fault=hang_headers", "fault=hang_after:2"])
def test_abort_works_over_tls(open_http: Open, script: str, tls_upstream: Upstream, tls: ssl.SSLContext) -> None:
    asking = Asking(open_http(tls_upstream.url, tls=tls), f"#{script}#")
    assert tls_upstream.wait_for(lambda it: it.active == 1)
    time.sleep(0.05)
    assert asking.abort() < 0.5
    assert tls_upstream.wait_for(lambda it: it.active == 0, 1)


def test_abort_works_while_connecting(open_http: Open, deaf: int) -> None:
    asking = Asking(open_http(f"http://127.0.0.1:{deaf}"))
    time.sleep(0.1)
    assert asking.abort() < 0.5


def test_polling_connect_ends_with_abort(deaf: int) -> None:
    """How calls connect on Windows, where a shutdown does not wake a connecting thread."""
    line = AbortHandle()
    threading.Timer(0.2, line.abort).start()
    with socket.socket() as sock, pytest.raises(ConnectionAbortedError):
        connect_polling(sock, ("127.0.0.1", deaf), 60, line)


def test_polling_connect_succeeds_fails_and_times_out(deaf: int, mute: int) -> None:
    with socket.socket() as sock:
        connect_polling(sock, ("127.0.0.1", mute), 60, AbortHandle())
        assert sock.getpeername()[1] == mute
    with socket.socket() as sock, pytest.raises(TimeoutError):
        connect_polling(sock, ("127.0.0.1", deaf), 0.2, AbortHandle())
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        connect_polling(sock, ("127.0.0.1", free_port()), 60, AbortHandle())


def test_polling_handshake_succeeds_and_ends_with_abort(tls_upstream: Upstream, mute: int, tls: ssl.SSLContext) -> None:
    for port, error in ((urlsplit(tls_upstream.url).port or 0, None), (mute, ConnectionAbortedError)):
        line = AbortHandle()
        with socket.create_connection(("127.0.0.1", port)) as plain:
            sock = tls.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)
            cut = threading.Timer(0.2, line.abort)
            if error:
                cut.start()
            with sock, pytest.raises(error) if error else contextlib.nullcontext():
                handshake_polling(sock, time.monotonic() + 60, line)
                assert sock.version()


def test_abort_works_during_tls_handshake(open_http: Open, mute: int, tls: ssl.SSLContext) -> None:
    asking = Asking(open_http(f"https://127.0.0.1:{mute}", tls=tls))
    time.sleep(0.1)
    assert asking.abort() < 0.5


def test_abort_before_deliver_never_connects(provider: Provider, upstream: Upstream) -> None:
    call = provider.stream_reply(prompt("hi"))
    call.abort()
    assert Outcome().collect(call).items == []
    assert upstream.connections == 0


def test_abort_after_end_does_not_affect_other_calls(provider: Provider, upstream: Upstream) -> None:
    call = provider.stream_reply(prompt("hi"))
    assert Outcome().collect(call).finish
    call.abort()
    assert ask(provider, "hi").finish
    assert upstream.connections == 1


def test_abort_between_deltas_ends_reply(provider: Provider) -> None:
    call = provider.stream_reply(prompt("#n=50#"))
    items = []

    def receive(piece: object) -> None:
        items.append(piece)
        call.abort()

    call.deliver(receive)
    assert len(items) == 1


def test_random_aborts_leave_provider_usable(provider: Provider, upstream: Upstream) -> None:
    for number in range(30):
        asking = Asking(provider, "#n=20,r=2000#")
        time.sleep(number / 1500)
        assert asking.abort() < 0.5
    assert upstream.wait_for(lambda it: it.active == 0)
    assert ask(provider, "hi").text == reply_to("hi")


@pytest.mark.posix("gevent serves on Linux only")
@pytest.mark.parametrize("reader", ["blocking", "epoll"])
def test_greenlets_can_abort_each_other(reader: str, upstream: Upstream) -> None:
    """Takes over a second: a process of its own, for gevent patches everything."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.httpclient.aborting_greenlets",
        reader,
        upstream.url,
        *STAGES,
    ]
    subprocess.run(command, check=True, timeout=30)
    assert upstream.wait_for(lambda it: it.active == 0)


# Failed connections


def test_connect_timeout_is_enforced(open_http: Open, deaf: int) -> None:
    error = ask(open_http(f"http://127.0.0.1:{deaf}", connect_timeout=0.2), "hi").error
    assert isinstance(error, ProviderTimeout)


def test_tls_handshake_timeout_is_enforced(open_http: Open, mute: int, tls: ssl.SSLContext) -> None:
    error = ask(open_http(f"https://127.0.0.1:{mute}", connect_timeout=0.2, tls=tls), "hi").error
    assert isinstance(error, ProviderTimeout)


def refusing_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "said"),
    [(refusing_url(), "refuses"), ("http://chat.invalid/v1", "cannot be found")],
    ids=["no listener", "no such name"],
)
def test_unreachable_provider_is_explained(open_http: Open, url: str, said: str) -> None:
    error = ask(open_http(url), "hi").error
    assert isinstance(error, ProviderBroke)
    assert said in error.detail
    assert "OPENAI_BASE_URL" in error.detail


def test_unreachable_provider_is_explained_over_sdk() -> None:
    with OpenAI(api_key=KEY, base_url=refusing_url(), max_retries=5) as client:
        error = ask(OpenAISdk(client, "m"), "hi").error
    assert isinstance(error, ProviderBroke)
    assert "refuses" in error.detail


# TLS and proxies


def test_tls_connections_are_pooled(open_http: Open, tls_upstream: Upstream, tls: ssl.SSLContext) -> None:
    provider = open_http(tls_upstream.url, tls=tls)
    assert [ask(provider, "hi #n=30,split#").text for _ in range(3)] == [reply_to("hi #n=30,split#")] * 3
    assert tls_upstream.connections == 1


def test_untrusted_certificate_is_refused(open_http: Open, tls_upstream: Upstream) -> None:
    error = ask(open_http(tls_upstream.url), "hi").error
    assert isinstance(error, ProviderBroke)
    assert "not trusted" in error.detail
    assert tls_upstream.requests == []


def test_tls_with_plain_server_is_explained(open_http: Open, upstream: Upstream, tls: ssl.SSLContext) -> None:
    error = ask(open_http(upstream.url.replace("http:", "https:"), tls=tls), "hi").error
    assert isinstance(error, ProviderBroke)
    assert "TLS" in error.detail


def test_proxy_forwards_http(open_http: Open, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pa%20ss@127.0.0.1:{upstream.port}")
    assert ask(open_http("http://chat.invalid/v1"), "hi").text == reply_to("hi")
    request = upstream.requests[0]
    assert request.path == "http://chat.invalid/v1/chat/completions"
    assert request.headers["host"] == "chat.invalid"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYSBzcw=="


def test_proxy_tunnels_https(
    open_http: Open, tls_upstream: Upstream, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{tls_upstream.port}")
    provider = open_http("https://localhost:4443/v1", tls=tls)
    assert [ask(provider, "hi").text for _ in range(2)] == [reply_to("hi")] * 2
    connect, request, _ = tls_upstream.requests
    assert (connect.path, request.path) == ("localhost:4443", "/v1/chat/completions")
    assert connect.headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
    assert "authorization" not in connect.headers
    assert "proxy-authorization" not in request.headers
    assert tls_upstream.connections == 1


def test_proxy_refusal_is_an_error(
    open_http: Open, upstream: Upstream, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{upstream.port}")
    error = ask(open_http("https://chat.invalid/v1", tls=tls), "hi").error
    assert isinstance(error, ProviderError)


def test_no_proxy_variable_is_obeyed(open_http: Open, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert ask(open_http(upstream.url), "hi").finish


def test_unsupported_proxy_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(SettingsError, match="HTTP_PROXY"):
        OpenAIHttp("http://chat.invalid/v1", None, "m")


# Requests


def test_settings_define_the_request(upstream: Upstream) -> None:
    settings = Settings(
        openai_base_url=f"{upstream.url}?api-version=1",
        openai_api_key=KEY,
        model="m-large",
        provider_headers=(("X-Team", "search"), ("accept-encoding", "identity")),
        stream_usage=False,
    )
    with contextlib.closing(OpenAIHttp.from_settings(settings)) as provider:
        assert provider.default_model == "m-large"
        finish = ask(provider, "hi").finish
    assert finish is not None
    assert finish.usage is None
    request = upstream.requests[0]
    assert request.path == "/v1/chat/completions?api-version=1"
    assert request.headers["x-team"] == "search"
    assert request.headers["user-agent"] == f"chatkeep/{chatkeep.__version__}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["accept"] == "text/event-stream"


def test_no_authorization_without_key(open_http: Open, upstream: Upstream) -> None:
    assert ask(open_http(upstream.url, None), "hi").finish
    assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    ("key", "header", "setting"),
    [
        ("sk-ключ", "x", "OPENAI_API_KEY"),
        ("sk-1\nX: y", "x", "OPENAI_API_KEY"),
        ("k", "é", "CHATKEEP_PROVIDER_HEADERS"),
    ],
)
def test_unsendable_header_is_a_settings_error(key: str, header: str, setting: str) -> None:
    with pytest.raises(SettingsError, match=setting) as caught:
        OpenAIHttp("http://127.0.0.1:1", key, "m", headers=[("X-Team", header)])
    assert key not in str(caught.value)
