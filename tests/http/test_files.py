"""Files of the pages are compressed, cached by browsers, and never older than the server."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import chatkeep
from tests.client import request
from tests.http.api import Api

STATIC = Path(chatkeep.__file__).parent / "web" / "static"
SCRIPT = re.compile(r'src="(/static/v/(\w+)/chat\.js)"')


def named(api: Api) -> str:
    """Return the path of the page's script."""
    found = SCRIPT.search(api.request("GET", "/").body.decode())
    assert found
    return found[1]


def test_versioned_files_are_cached(own: Api) -> None:
    answer = own.request("GET", named(own))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.body == (STATIC / "chat.js").read_bytes()


@pytest.mark.parametrize("path", ["/static/chat.css", "/static/v/0123456789ab/chat.css"])
def test_file_of_another_version_is_revalidated(own: Api, path: str) -> None:
    answer = own.request("GET", path)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")
    again = own.request("GET", path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_files_are_compressed_if_the_client_accepts_it(own: Api) -> None:
    plain = own.request("GET", "/static/chat.css")
    zipped = own.request("GET", "/static/chat.css", headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body
    assert len(zipped.body) < len(plain.body) / 2
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]


@pytest.mark.parametrize(
    "name", ["", "missing.js", "vendor", "../pages.py", "..%2fpages.py", "%00", "v/x/../../chat.js"]
)
def test_unknown_file_is_404(own: Api, name: str) -> None:
    assert own.request("GET", f"/static/{name}").status == 404


def test_page_preloads_all_modules(own: Api) -> None:
    page = own.request("GET", "/").body.decode()
    preloaded = set(re.findall(r'rel="modulepreload" href="([^"]+)"', page))
    needed = {
        f"{named(own).removesuffix('chat.js')}{name}"
        for module in [*preloaded, named(own)]
        for name in re.findall(r"from '\./([^']+)'", request("GET", own.server.url + module).body.decode())
    }
    assert needed <= preloaded
