"""The scripted provider, and our two providers that call it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from chatkeep.provider import Provider
from chatkeep.provider.openai_http import OpenAIHttp
from chatkeep.provider.openai_sdk import OpenAISdk
from tests.upstream import Upstream

KEY = "sk-canary-0123456789"
PEM = Path(__file__).with_name("localhost.pem")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted provider for one test; it counts connections."""
    with Upstream() as server:
        yield server


@pytest.fixture
def tls_upstream() -> Iterator[Upstream]:
    """The same over TLS, with a certificate that only `tls` trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    with Upstream(tls=context) as server:
        yield server


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """A context that trusts `tls_upstream`."""
    return ssl.create_default_context(cafile=PEM)


@pytest.fixture
def open_http() -> Iterator[Callable[..., OpenAIHttp]]:
    """Creates providers that are closed after the test."""
    with ExitStack() as stack:

        def make(base_url: str, key: str | None = KEY, **options: Any) -> OpenAIHttp:
            return stack.enter_context(closing(OpenAIHttp(base_url, key, "m", **options)))

        yield make


@pytest.fixture
def over_http(upstream: Upstream, open_http: Callable[..., OpenAIHttp]) -> OpenAIHttp:
    return open_http(upstream.url)


@pytest.fixture
def over_sdk(upstream: Upstream) -> Iterator[OpenAISdk]:
    with OpenAI(api_key=KEY, base_url=upstream.url) as client:
        yield OpenAISdk(client, "m")


@pytest.fixture(params=["over_http", "over_sdk"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each of the two providers with a network."""
    found: Provider = request.getfixturevalue(request.param)
    return found
