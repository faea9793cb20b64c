"""Import files that mix several programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.imports.programs import NO_PARENT, block, claude, deepseek, fragments, librechat, line, says
from tests.imports.stores import Store
from tests.imports.taken import take, taken

pytestmark = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


@pytest.mark.parametrize("content", ["Tea?", ["Tea?"], {"type": "text", "text": "Tea?"}])
def test_content_need_not_be_a_list(store: Store, content: Any) -> None:
    asked = line("m1", NO_PARENT, "", user=True, content=content)
    take(store, claude(block("m-1", "human", content=content)), json.loads(librechat(asked)))
    assert [one.said for one in taken(store)] == [[("user", "Tea?")]] * 2


def test_list_may_mix_programs(store: Store) -> None:
    take(store, claude(block("m-1", "human", says("One?"))), deepseek(fragments(("REQUEST", "Two?"))))
    assert {one.said[0][1] for one in taken(store)} == {"One?", "Two?"}
