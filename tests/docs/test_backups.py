"""The documented commands for backup, restore and copy work on real database servers."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import make_url

from chatkeep.store import backups, migrations
from chatkeep.store.engine import Database
from tests.cli.line import environment
from tests.conftest import DATABASES, Standing, database_server, empty_database, file_of
from tests.docs.handbook import ENGLISH, blocks
from tests.store import whole

if TYPE_CHECKING:
    from tests.services.database_server import DatabaseServer

pytestmark = pytest.mark.posix("the page's commands are those of Linux")
COMMANDS = {"mariadb": ("mariadb-dump --", "mariadb --"), "mysql": ("mysqldump --", "mysql --")}
PROGRAM = "/opt/chatkeep/bin/chatkeep"


def command(word: str) -> str:
    """Return the only bash block that contains ``word``."""
    [found] = [block for block in blocks(ENGLISH, "bash") if word in block]
    return found


def run(script: str, folder: Path, **env: str) -> None:
    """Run a block in a folder with this checkout's program."""
    script = script.replace(PROGRAM, f"{shlex.quote(sys.executable)} -m chatkeep")
    done = subprocess.run(
        ["/bin/bash", "-ec", script], cwd=folder, env=environment(env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def placed(script: str, server: DatabaseServer, options: Path, name: str) -> str:
    """Return a block with a server's clients, options and database filled in."""
    dump, client = (shlex.join(server.client(program)) for program in ("dump", ""))
    script = script.replace("/etc/chatkeep/client.cnf", str(options)).replace(" chatkeep <", f" {name} <")
    script = script.replace(" chatkeep >", f" {name} >")
    return re.sub(r"(?m)^(mariadb|mysql)(-?dump)? ", lambda found: f"{dump if found[2] else client} ", script)


@pytest.mark.parametrize("kind", DATABASES[1:])
def test_dump_and_restore_keep_all_rows(
    request: pytest.FixtureRequest,
    standing: Standing,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    kind: str,
) -> None:
    """Uses a database user with the documented privileges. Runs several processes: some seconds."""
    server: DatabaseServer = database_server(standing, kind)
    source = Database(empty_database(request, kind, tmp_path_factory))
    target = Database(server.create_database())
    names = [str(database.url.database) for database in (source, target)]
    server.execute(f"CREATE USER {names[0]}@'%' IDENTIFIED BY 'a long random password'")
    for name in names:
        server.execute(f"GRANT ALL ON {name}.* TO {names[0]}@'%'")
    whole.fill(source)
    options = tmp_path / "client.cnf"
    [page] = [block for block in blocks(ENGLISH, "ini") if "[client]" in block]
    options.write_text(page.replace("user=chatkeep", f"user={names[0]}") + f"port={server.port}\n")
    saving, loading = COMMANDS[kind]
    run(placed(command(saving), server, options, names[0]), tmp_path)
    assert stat.S_IMODE((tmp_path / "chatkeep.sql").stat().st_mode) == 0o600
    url = target.url.render_as_string(hide_password=False)
    run(placed(command(loading), server, options, names[1]), tmp_path, DATABASE_URL=url)
    wanted, found = whole.dump(source), whole.dump(target)
    before, after = dict(wanted.pop("marks")), dict(found.pop("marks"))
    assert found == wanted
    assert {name for name in before if before[name] != after[name]} == {"epoch", "tombstones_forgotten"}
    migrations.ensure(target)
    again = placed(command(loading), server, options, names[0])
    with pytest.raises(AssertionError, match="already exists"):
        run(again, tmp_path, DATABASE_URL=source.url.render_as_string(hide_password=False))
    assert whole.dump(source)["messages"] == wanted["messages"]
    source.close()
    target.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_backup_replaces_old_files(database_url: str, tmp_path: Path) -> None:
    """Starts a process: half a second."""
    source = Database(database_url)
    whole.fill(source)
    backup = tmp_path / "chatkeep-2026-12-01.sqlite3"
    backups.back_up(Path(file_of(database_url)), backup)
    (tmp_path / "data").mkdir()
    old = [tmp_path / "data" / f"chatkeep.sqlite3{end}" for end in ("", "-wal")]
    for path in old:
        path.write_text("old")
    script = command("data/before").replace("/var/backups", str(tmp_path))
    run(script, tmp_path)
    assert [(tmp_path / "data" / "before" / path.name).read_text() for path in old] == ["old", "old"]
    restored = Database(f"sqlite:///{old[0]}")
    assert whole.dump(restored)["messages"] == whole.dump(source)["messages"]
    restored.close()
    source.close()


def test_copy_moves_to_another_database(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both URLs are in `.env`. Starts a process: two seconds."""
    source = Database(empty_database(request, "sqlite", tmp_path_factory))
    target = Database(empty_database(request, "mysql", tmp_path_factory))
    whole.fill(source)
    [page] = [block for block in blocks(ENGLISH, "ini") if "NEW_DATABASE_URL" in block]
    assert make_url(page.strip().removeprefix("NEW_DATABASE_URL=")).database == "chatkeep"
    url = target.url.render_as_string(hide_password=False)
    (tmp_path / ".env").write_text(f"DATABASE_URL={source.url}\nNEW_DATABASE_URL={url}\n")
    run(command("copy DATABASE_URL"), tmp_path)
    assert whole.dump(target) == whole.dump(source)
    source.close()
    target.close()
