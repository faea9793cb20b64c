"""Fixtures of the container tests, which take minutes and need root. Only `./dev containers` runs them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import ROOT

if TYPE_CHECKING:
    from tests.containers.engine import Engine

IS_LONG = os.environ.get("CHATKEEP_CONTAINERS") == "long"
collect_ignore_glob = [] if os.environ.get("CHATKEEP_CONTAINERS") else ["test_*.py"]
# Typical places of secrets in a checkout, and a secret that is new in each run, because layers are kept.
CANARY = f"sk-{uuid.uuid4().hex}"
SECRETS = (
    ".env",
    "deploy/.env",
    "deploy/chatkeep.env",
    "data/chatkeep.sqlite3",
    "chatkeep/.env",
    "chatkeep/data/x.pem",
)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine. It keeps images between runs."""
    from tests.containers import engine as engines  # noqa: PLC0415 - other systems also import this file

    assert os.geteuid() == 0, "containers need root"
    made = engines.installed(ROOT / "build" / "containers")
    made.clean()
    yield made
    made.clean()


@pytest.fixture(scope="session")
def source(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that holds secrets, from which the image was built."""
    from tests.containers import engine as engines  # noqa: PLC0415 - as above

    engines.make_base(engine)
    folder = engines.checkout(engine, tmp_path_factory.mktemp("source"))
    for name in SECRETS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"OPENAI_API_KEY={CANARY}\n", encoding="utf-8")
    engine.build(folder / "deploy" / "Dockerfile", engines.CHATKEEP, folder)
    return folder


@pytest.fixture(scope="session")
def image(source: Path) -> str:
    """The name of the image."""
    from tests.containers.engine import CHATKEEP  # noqa: PLC0415 - as above

    assert source.is_dir()
    return CHATKEEP
