"""The documents name the versions of MariaDB and MySQL that the tests run on."""

from __future__ import annotations

import pytest

from tests.conftest import DATABASES, missing
from tests.servers import ROOT

PAGES = ("README.md", "README.zh-CN.md", "docs/deployment.md", "docs/生产环境部署配置文档.md", "docs/architecture.md")


@pytest.mark.posix("MariaDB and MySQL: the tests start them on Linux only")
@pytest.mark.parametrize("kind", DATABASES[1:])
def test_documents_name_the_tested_version(kind: str) -> None:
    from tests.services.databases import SERVERS  # noqa: PLC0415 - they need modules that Windows lacks

    if reason := missing(kind):
        pytest.skip(reason)
    server = SERVERS[kind]
    major, minor, _ = server.version().split(".")
    wrong = [page for page in PAGES if f"{server.name} {major}.{minor}" not in (ROOT / page).read_text("utf-8")]
    assert wrong == []
