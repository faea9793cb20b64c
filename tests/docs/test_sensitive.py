"""The pages on sensitive information match the redactor."""

from __future__ import annotations

import re

import pytest

from chatkeep.config.settings import described
from chatkeep.redaction import KINDS, Redactor
from tests.servers import ROOT

PAGES = ["sensitive-information.md", "敏感信息文档.md"]


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_example_is_redacted_as_documented(page: str) -> None:
    table = re.search(r"(?:\| text \| becomes|\| 原文 \| 结果) \|\n\|---\|---\|\n((?:\|.*\n)+)", page)
    assert table
    rows = [line.strip("| ").split(" | ") for line in table[1].splitlines()]
    redactor = Redactor()
    assert [redactor.redact(text).text for text, _ in rows] == [becomes for _, becomes in rows]


def test_every_kind_and_setting_is_documented(page: str) -> None:
    assert [kind for kind in KINDS if f"`[{kind}]`" not in page] == []
    named = {item.metadata["env"] for item in described() if item.metadata["env"].startswith("CHATKEEP_REDACT_")}
    assert named == set(re.findall(r"CHATKEEP_REDACT_[A-Z]+", page))


def test_documented_hold_back_is_correct(page: str) -> None:
    assert f"**{Redactor().hold_back} " in page
