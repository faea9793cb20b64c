"""The scripted provider is the server."""

from tests.provider.conftest import _no_proxies, open_http, over_http, over_sdk, provider, tls, tls_upstream, upstream

__all__ = ["_no_proxies", "open_http", "over_http", "over_sdk", "provider", "tls", "tls_upstream", "upstream"]
