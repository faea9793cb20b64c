"""If a server can't start with a database, one sentence names the setting to change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from chatkeep.errors import SettingsError
from chatkeep.store import migrations
from tests.conftest import DATABASES, migrated, throwaway
from tests.store.refusals import CAN_MOUNT, OF_DISKS, OF_FILES, OF_SERVERS, Host

pytestmark = [pytest.mark.posix("the tests start database servers on Linux only"), pytest.mark.everywhere]


@pytest.fixture(scope="module", params=DATABASES[1:])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A database server for these tests alone, which change its permissions. It writes a binary log."""
    server = throwaway(request.param)
    server.more = ["--log-bin=log-bin", "--server-id=1"]
    with server:
        yield Host(server, make_url(migrated(server.create_database())))


def refusal(url: str) -> str:
    """Return the error of opening a database."""
    with pytest.raises(SettingsError) as raised:
        migrations.opened(url)
    (told,) = raised.value.problems
    return told


@pytest.mark.parametrize("case", OF_SERVERS)
def test_server_refusals_are_explained(host: Host, case: str, caplog: pytest.LogCaptureFixture) -> None:
    refuse, told = OF_SERVERS[case]
    with refuse(host) as url:
        where = make_url(url)
        expected = told.format(place=f"{where.host}:{where.port}", user=where.username, name=where.database)
        said = refusal(url)
        assert said.startswith(f"DATABASE_URL: {expected}")
        assert str(where.password) not in said
        assert "Waiting for it" not in caplog.text, "it was waited for"


@pytest.mark.parametrize("case", OF_FILES)
def test_foreign_file_is_explained(case: str, tmp_path: Path) -> None:
    refuse, told = OF_FILES[case]
    with refuse(tmp_path) as file:
        assert refusal(f"sqlite:///{file}").startswith(f"DATABASE_URL: {told.format(file=file)}")


@pytest.mark.skipif(not CAN_MOUNT, reason="only root may mount file systems")
@pytest.mark.parametrize("case", OF_DISKS)
def test_full_disk_is_explained(case: str, tmp_path: Path) -> None:
    refuse, told = OF_DISKS[case]
    with refuse(tmp_path) as file:
        assert refusal(f"sqlite:///{file}").startswith(f"DATABASE_URL: {told.format(file=file)}")
