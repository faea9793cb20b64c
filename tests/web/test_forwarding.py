"""Detection of requests that a proxy forwards for remote clients."""

from __future__ import annotations

import pytest

from chatkeep.web.forwarding import is_from_here

LOCAL = [
    {},
    {"REMOTE_ADDR": "::1"},
    {"REMOTE_ADDR": ""},
    {"REMOTE_ADDR": "<local>"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1, ::1,127.0.0.9:8000, [::1]:80", "HTTP_X_FORWARDED_PROTO": "https"},
    {"HTTP_X_REAL_IP": "::1", "HTTP_VIA": "1.1 proxy"},
    {"HTTP_X_FORWARDED_FOR": "unix:"},
    {"HTTP_FORWARDED": 'for=127.0.0.1;proto=https, For="[::1]:4711"'},
    {"HTTP_X_REQUEST_ID": "192.0.2.7", "HTTP_USER_AGENT": "Via"},
]
REMOTE = [
    {"REMOTE_ADDR": "192.0.2.7"},
    {"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    {"HTTP_X_FORWARDED_FOR": "192.0.2.7"},
    {"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "192.0.2.7"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1, 192.0.2.7"},
    {"HTTP_X_FORWARDED_FOR": "192.0.2.7, 127.0.0.1"},
    {"HTTP_X_FORWARDED_FOR": "10.0.0.1"},
    {"HTTP_X_FORWARDED_FOR": "2001:db8::7"},
    {"HTTP_X_FORWARDED_FOR": "[2001:db8::7]:443"},
    {"HTTP_X_FORWARDED_FOR": ""},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1,"},
    {"HTTP_X_FORWARDED_FOR": "unknown"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1.example.com"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1:x"},
    {"HTTP_X_FORWARDED_FOR": "[::1]x"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_REAL_IP": "192.0.2.7"},
    {"HTTP_X_REAL_IP": "192.0.2.7"},
    {"HTTP_X_CLIENT_IP": "192.0.2.7"},
    {"HTTP_CF_CONNECTING_IP": "192.0.2.7"},
    {"HTTP_TRUE_CLIENT_IP": "192.0.2.7"},
    {"HTTP_FORWARDED": "for=192.0.2.7"},
    {"HTTP_FORWARDED": "for=127.0.0.1;for=192.0.2.7"},
    {"HTTP_FORWARDED": "for=192.0.2.7;for=127.0.0.1"},
    {"HTTP_FORWARDED": "for=127.0.0.1, FOR=192.0.2.7"},
    {"HTTP_FORWARDED": "for=_hidden"},
    {"HTTP_FORWARDED": "proto=https"},
    {"HTTP_FORWARDED": 'for="[2001:db8::7]:443"'},
    {"HTTP_FORWARDED": "nonsense"},
    {"HTTP_VIA": "1.1 proxy"},
    {"HTTP_X_FORWARDED_PROTO": "https"},
    {"HTTP_X_FORWARDED_HOST": "localhost"},
    {"HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS": "15000"},
]


@pytest.mark.parametrize("environ", LOCAL, ids=str)
def test_local_requests_are_recognized(environ: dict[str, str]) -> None:
    assert is_from_here({"REMOTE_ADDR": "127.0.0.1", **environ})


@pytest.mark.parametrize("environ", REMOTE, ids=str)
def test_any_remote_address_or_unnamed_proxy_makes_it_remote(environ: dict[str, str]) -> None:
    assert not is_from_here({"REMOTE_ADDR": "127.0.0.1", **environ})


def test_long_headers_take_linear_time() -> None:
    for sent in ("127.0.0.1," * 100_000, "[" * 1_000_000, ":" * 1_000_000, "for=" * 250_000, ";" * 1_000_000):
        for name in ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"):
            assert not is_from_here({"REMOTE_ADDR": "127.0.0.1", name: sent})
