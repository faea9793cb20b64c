"""No command shows a secret, whether its setting is wrong or its service is unreachable.

Each run starts a process: half a second.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import pytest

from tests.cli.line import run
from tests.ports import free_port
from tests.upstream import Upstream

CANARY = "canary0123456789"
WRONG = {
    "DATABASE_URL": [
        f"mysql://user:{CANARY}/x@127.0.0.1:3306/db",
        f"mysql://user:x#{CANARY}@127.0.0.1:3306/db",
        f"mysql://user:x?{CANARY}@127.0.0.1/db",
        f"mysql://user:x@{CANARY}:33z06/db",
        f"mysql://user:{CANARY}@127.0.0.1:1/db",
        f"mysql://user:{CANARY}@127.0.0.1:x/db",
        f"postgres://user:{CANARY}@127.0.0.1/db",
        f"sqlite://user:{CANARY}@/db",
    ],
    "REDIS_URL": [
        f"redis://:{CANARY}/x@127.0.0.1",
        f"redis://:{CANARY}@127.0.0.1:x",
        f"redis://:{CANARY}@127.0.0.1:1",
        f"rediss://user:{CANARY}@127.0.0.1:1/0",
        f"http://:{CANARY}@127.0.0.1",
    ],
    "OPENAI_BASE_URL": [
        f"https://user:{CANARY}@127.0.0.1/v1",
        f"https://user:{CANARY}/x@127.0.0.1/v1",
        f"https://{CANARY}@127.0.0.1/v1",
        f"ftp://user:{CANARY}@127.0.0.1/v1",
    ],
    "OPENAI_API_KEY": [f"{CANARY}\u4e2d", f"{CANARY}\nx", f"changeme-{CANARY}"],
    "CHATKEEP_PROVIDER_HEADERS": [
        f'{{"X": "{CANARY}',
        f'{{"X": "{CANARY}\\n"}}',
        f'["{CANARY}"]',
        f'{{"X": "{CANARY}\u4e2d"}}',
    ],
    "HTTP_PROXY": [f"http://user:{CANARY}@127.0.0.1:1", f"http://user:{CANARY}@127.0.0.1:x", f"socks5://u:{CANARY}@x"],
}


EACH = [{name: value} for name, values in WRONG.items() for value in values]
OF_DATABASES = [{"DATABASE_URL": value} for value in WRONG["DATABASE_URL"]]
# With the other settings a command without network access only reports all wrong settings at once.
OTHERS = [
    {name: value for name, value in zip(WRONG, values, strict=True) if value and name != "DATABASE_URL"}
    for values in zip_longest(*WRONG.values())
]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [("doctor", wrong) for wrong in EACH] + [("stats", wrong) for wrong in OF_DATABASES + [o for o in OTHERS if o]],
)
def test_no_command_shows_a_secret(command: str, wrong: dict[str, str], tmp_path: Path) -> None:
    env = {"PORT": str(free_port()), "OPENAI_BASE_URL": "http://llm.invalid/v1", "OPENAI_API_KEY": "k" * 20} | wrong
    done = run(tmp_path, command, env=env)
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("spec", ["status=401", "status=500", "status=400", "fault=html", "fault=not_http"])
def test_doctor_hides_secrets_that_the_provider_repeats(spec: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(f"{spec},echo,leak")
    env = {
        "PORT": str(free_port()),
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": CANARY,
        "CHATKEEP_PROVIDER_HEADERS": f'{{"X-Secret": "{CANARY[::-1]}"}}',
    }
    done = run(tmp_path, "doctor", "--json", env=env)
    assert CANARY not in done.stdout + done.stderr
    assert CANARY[::-1] not in done.stdout + done.stderr
