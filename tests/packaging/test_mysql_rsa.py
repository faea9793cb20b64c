"""MySQL's default password plugin needs TLS or the extra `mysql-rsa`. Without both, the error says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.cli.line import environment
from tests.conftest import Standing, database_server

PROGRAM = Path(__file__).parent / "programs" / "without_cryptography.py"


@pytest.mark.posix("MySQL: the tests start it on Linux only")
def test_without_the_extra_the_error_names_it(standing: Standing, tmp_path: Path) -> None:
    """Starts two processes: some seconds."""
    server = database_server(standing, "mysql")
    url = make_url(server.create_database()).set(username="newcomer", password="s3cret")
    server.execute(f"CREATE USER newcomer@'127.0.0.1' IDENTIFIED BY '{url.password}'")
    server.execute(f"GRANT ALL ON {url.database}.* TO newcomer@'127.0.0.1'")
    for command in ("migrate", "doctor"):
        done = subprocess.run(
            [sys.executable, PROGRAM, command],
            cwd=tmp_path,
            env=environment({"DATABASE_URL": url.render_as_string(hide_password=False)}),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert "chatkeep[mysql-rsa]" in done.stdout + done.stderr, done
        assert "Traceback" not in done.stderr
