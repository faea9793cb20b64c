"""The settings of redaction, and their errors."""

from __future__ import annotations

from pathlib import Path
from types import EllipsisType
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from chatkeep.config.settings import Settings
from chatkeep.conversations.service import Changes
from chatkeep.domain.conversation import Conversation, Message, Role, Status, Usage, new_id
from chatkeep.domain.quota import Quotas
from chatkeep.errors import SensitiveContent, SettingsError
from chatkeep.redaction import Redactor
from chatkeep.redaction.policies import IDENTIFIERS, MOST_CHARACTERS, OFF, Redaction, RedactionMode, RedactionPolicy
from chatkeep.turns.begin import TurnRequest

LONG = "编号12345，" * 5_000


def test_redaction_is_off_by_default() -> None:
    assert Redaction.from_settings(Settings()) is OFF


def test_each_direction_has_its_policy(tmp_path: Path) -> None:
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
    assert found.input.mode is RedactionMode.BLOCK
    assert found.export
    assert found.export.apply("13812345678 a@qq.com Falcon EMP-1234", "") == "13812345678 [email] [word] [staff]"
    assert found.export.apply(LONG, "") == LONG


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CHATKEEP_REDACT_INPUT", "on", "'on' is invalid; write one of off, mask, block"),
        ("CHATKEEP_REDACT_PATTERNS", "[1]", "'[1]' is invalid; write a JSON object of names and regular expressions"),
        ("CHATKEEP_REDACT_PATTERNS", '{"a": 1}', "is invalid; write a JSON object"),
        ("CHATKEEP_REDACT_PATTERNS", '{"a": "b+"}', "the pattern a: it has no longest match"),
        ("CHATKEEP_REDACT_KINDS", "mail", "there is no kind mail; there are phone"),
        ("CHATKEEP_REDACT_WORDS", "a" * 201, "its longest match has 201 characters"),
    ],
)
def test_settings_errors_name_the_setting(tmp_path: Path, name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Redaction.from_settings(Settings.from_env({"CHATKEEP_REDACT_OUTPUT": "mask", name: value}, tmp_path))
    (problem,) = raised.value.problems
    assert problem.startswith(f"{name}: ")
    assert told in problem


PHONE = "13812345678"
MASK, BLOCK = (RedactionPolicy(Redactor(), policy) for policy in (RedactionMode.MASK, RedactionMode.BLOCK))
NO_TEXT = {int, float, bool, bytes, UUID, Role, Status, Usage, Quotas, type(None), EllipsisType}
"""Types without user text."""
RECORDS: list[msgspec.Struct] = [
    Conversation(new_id(), "local", "", 1, 1),
    Message(new_id(), new_id(), None, 1, Role.ASSISTANT, "", 1),
    TurnRequest("local", ""),
    Changes(),
]


def texts_of(record: msgspec.Struct) -> dict[str, Any]:
    """Return a sensitive value for every text field of a record, by its type."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(record):
        kinds = set(get_args(field.type) or [field.type]) - NO_TEXT
        if "dict" in str(field.type):
            found[field.name] = {PHONE: [PHONE]}
        elif kinds and field.name not in IDENTIFIERS:
            assert kinds == {str}, f"{field.name}: judge it, or name its type in NO_TEXT"
            found[field.name] = PHONE
    return found


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_text_of_a_record_is_redacted(record: msgspec.Struct) -> None:
    texts = texts_of(record)
    assert texts
    told = msgspec.structs.replace(record, **texts)
    assert PHONE not in str(MASK.apply_to_record(told))
    for name, text in texts.items():
        with pytest.raises(SensitiveContent):
            BLOCK.apply_to_record(msgspec.structs.replace(record, **{name: text}))


def test_longer_label_still_fits_its_column() -> None:
    long = dict.fromkeys(MOST_CHARACTERS, "a@b.cn," * 36)
    passed = MASK.apply_to_record(
        msgspec.structs.replace(RECORDS[1], **{k: v for k, v in long.items() if k != "title"})
    )
    titled = MASK.apply_to_record(Changes(title=long["title"]))
    lengths = {name: len(getattr(titled if name == "title" else passed, name)) for name in MOST_CHARACTERS}
    assert lengths == MOST_CHARACTERS


@pytest.mark.parametrize(
    ("asked", "answered", "policy"),
    [("off", "mask", "mask"), ("mask", "off", "mask"), ("mask", "block", "block"), ("block", "mask", "block")],
)
def test_imports_use_the_stricter_policy(asked: str, answered: str, policy: str) -> None:
    found = Redaction.from_settings(Settings(redact_input=asked, redact_output=answered)).imports
    assert found
    assert found.mode == policy
