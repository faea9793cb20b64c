"""The documents tell on which versions of MariaDB and MySQL the tests run."""

from __future__ import annotations

import os

import pytest

from tests.conftest import DATABASES, missing
from tests.servers import ROOT

ENGLISH = ("README.md", "docs/deployment.md", "docs/architecture.md")
CHINESE = ("README.zh-CN.md", "docs/生产环境部署配置文档.md")


@pytest.mark.skipif(os.name == "nt", reason="MariaDB and MySQL: the tests start them on Linux only")
def test_the_documents_name_the_versions_that_run() -> None:
    from tests.services.databases import SERVERS  # noqa: PLC0415 - they need modules that Windows lacks

    for reason in filter(None, map(missing, DATABASES[1:])):
        pytest.skip(reason)
    mariadb, mysql = (
        f"{kind.name} {'.'.join(kind.version().split('.')[:2])}" for kind in (SERVERS[name] for name in DATABASES[1:])
    )
    for names, joined in ((ENGLISH, f"{mariadb} and {mysql}"), (CHINESE, f"{mariadb} 和 {mysql}")):
        for name in names:
            assert joined in (ROOT / name).read_text(encoding="utf-8"), name
