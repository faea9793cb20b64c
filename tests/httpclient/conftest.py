"""The scripted provider serves as the server that is connected to."""

from tests.provider.conftest import _no_proxies, open_http, over_http, over_sdk, provider, tls, tls_upstream, upstream

__all__ = ["_no_proxies", "open_http", "over_http", "over_sdk", "provider", "tls", "tls_upstream", "upstream"]
