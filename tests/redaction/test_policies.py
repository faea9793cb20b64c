"""What the settings of redaction say, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatkeep.errors import SettingsError
from chatkeep.redaction.policies import OFF, Policy, Redaction
from chatkeep.settings import Settings

LONG = "编号12345，" * 5_000


def test_by_default_nothing_is_done() -> None:
    assert Redaction.from_settings(Settings()) is OFF


def test_each_place_has_its_policy(tmp_path: Path) -> None:
    environ = {
        "CHATKEEP_REDACT_INPUT": "block",
        "CHATKEEP_REDACT_EXPORT": "mask",
        "CHATKEEP_REDACT_KINDS": "email, ip",
        "CHATKEEP_REDACT_WORDS": "猎鹰,Falcon",
        "CHATKEEP_REDACT_PATTERNS": '{"staff": "EMP-[0-9]{4,6}"}',
    }
    found = Redaction.from_settings(Settings.from_env(environ, tmp_path))
    assert found.output is None
    assert found.input
    assert found.input.policy is Policy.BLOCK
    assert found.export
    assert found.export.passed("13812345678 a@qq.com Falcon EMP-1234", "") == "13812345678 [email] [word] [staff]"
    assert found.export.passed(LONG, "") == LONG


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CHATKEEP_REDACT_INPUT", "on", "'on' is not right; write one of off, mask, block"),
        ("CHATKEEP_REDACT_PATTERNS", "[1]", "'[1]' is not right; write a JSON object of names and regular expressions"),
        ("CHATKEEP_REDACT_PATTERNS", '{"a": 1}', "is not right; write a JSON object"),
        ("CHATKEEP_REDACT_PATTERNS", '{"a": "b+"}', "the pattern a: it has no longest match"),
        ("CHATKEEP_REDACT_KINDS", "mail", "there is no kind mail; there are phone"),
        ("CHATKEEP_REDACT_WORDS", "a" * 201, "its longest match has 201 characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_name(tmp_path: Path, name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Redaction.from_settings(Settings.from_env({"CHATKEEP_REDACT_OUTPUT": "mask", name: value}, tmp_path))
    (problem,) = raised.value.problems
    assert problem.startswith(f"{name}: ")
    assert told in problem
