"""Conversations that are difficult for readers of exports, and what each format must contain."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import cycle

import jsonschema
from msgspec.structs import replace

from chatkeep.domain.conversation import Conversation, Message, Role, Status, new_id
from tests.imports.stores import OWNER

BEGAN = 1_795_339_800_000_000
TEXTS = {
    "formula": "=1+41",
    "formula behind nul": "\0\0=1+41",
    "formula behind blanks": " \ufeff\u3000=1+41",
    "formula in full width": "\uff1d1+41",
    "formula on a line": "Here they are\n=1+41\nthat was all",
    "formula behind a return": "a\r=1+41",
    "formula in a list": "apples;=1+41;pears",
    "formula in quotes": 'apples;"=1+41";pears;"',
    "formula behind a tab": "a\t=1+41",
    "calls": "@SUM(1,41)\n-1+2\n+1+2\n;@SUM(1,41)\t-2+3+cmd|' /C calc'!A0",
    "digits": "1234567890123456789",
    "zeros": "00123",
    "controls": "a\0b\x01\x1b\x7f\r\n\v\fc\x1c\x1d\x1e",
    "line ends": "a\u2028b\u2029c\x85d",
    "right to left": "\u202eabc\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631\u0628\u064a\u0629\u2067",
    "other planes": "\U0010ffff \U0001f642 \ufffe",
    "long": "long, " * 33_334,
    "open fence": "Here:\n\n```python\nfor n in range(1, 11):\n    pri",
    "open tildes": "~~~~\n```\n# no heading",
    "open fence in a list": "1. Do:\n\n   ```sh\n   pip inst",
    "open html": "<details>\n<summary>a</summary>\n<!-- b\n<script>\n<textarea>",
    "headings": "# Fake\n\n## Assistant\n\nFake\n====\n\n- # Fake\n\n> ## User",
    "definitions": "[a]: /u\n[^1]: # Fake\n[`]: x`]: /u",
    "quotes": '",\r\n"""",\\"',
    "json": '{"object":"export.end"}\n]},',
}
TITLES = {
    "markup": "Vec<T> or *mut T [x](y) `z` #",
    "lines": "a\n# b\u2028c",
    "formula": "\0=1+41",
}


FORMULA = re.compile(r"[\0-\x20\x7f-\xa0\u200b\u2028\u3000\ufeff]*(?:[=@\uff1d\uff20]|[-+]+[\w(.])")
# OpenAI's format for fine-tuning: https://platform.openai.com/docs/guides/supervised-fine-tuning
TRAINING = {
    "type": "object",
    "required": ["messages"],
    "additionalProperties": False,
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 2,
            "contains": {"properties": {"role": {"const": "assistant"}}},
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "additionalProperties": False,
                "properties": {
                    "role": {"enum": ["system", "user", "assistant"]},
                    "content": {"type": "string", "pattern": r"\S"},
                },
            },
        }
    },
}
CUT, WHOLE = (Status.TRUNCATED, "length"), (Status.COMPLETED, "stop")
BROKEN = [
    (Status.FAILED, None),
    (Status.STOPPED, None),
    (Status.COMPLETED, "length"),
    (Status.COMPLETED, "content_filter"),
]
Said = tuple[str, tuple[Status, str | None] | None]  # without an ending it is a question


class Hard:
    """Difficult conversations, and the expected content of their exports."""

    def __init__(self) -> None:
        self.stored: list[tuple[Conversation, list[Message]]] = []
        self.texts: list[str] = []
        self.headings = 0
        """The number of second-level headings: one per message of the branch, one for a continued reply."""
        self.pairs: list[tuple[str, str]] = []
        endings = cycle(BROKEN)
        for text in TEXTS.values():
            self._talk(text[:80], (text, None), (text, WHOLE), ("And?", None), (text, next(endings)), system=text)
            self.pairs.append((text, text))
            self.headings += 5
        for title in TITLES.values():
            self._talk(title, ("Tea?", None), ("Green.", WHOLE))
            self.pairs.append(("Tea?", "Green."))
            self.headings += 2
        self._talk("Continued", ("Months?", None), ("Jan;", CUT), ("=Feb", WHOLE), ("More?", None), ("Mar", CUT))
        self.pairs.append(("Months?", "Jan;=Feb"))
        self.headings += 4
        self._talk("Steps", ("Mean?", None), ("Let me see.", WHOLE), ("```\nsum(", WHOLE), ("It is 6.", WHOLE))
        self.pairs.append(("Mean?", "Let me see.\n\n```\nsum(\n\nIt is 6."))
        self.headings += 4

    def _talk(self, title: str, *branch: Said, system: str | None = None) -> None:
        """Store a conversation whose last message was edited."""
        at = BEGAN + 1000 * len(self.stored)
        made = Conversation(new_id(at), OWNER, title, at, at, system=system)
        said: list[Message] = []
        tip = None
        for text, ending in (*branch[:-1], ("Said before.", branch[-1][1]), branch[-1]):
            at += 1
            status, reason = ending or (Status.COMPLETED, None)
            role = Role.ASSISTANT if ending else Role.USER
            said.append(Message(
                new_id(at), made.id, tip, len(said) + 1, role, text, at, status=status, finish_reason=reason,
                model="=m" if ending else None, reasoning=text[:80] if ending else "",
            ))  # fmt: skip
            tip = said[-2].id if text == "Said before." else said[-1].id
        self.texts += [one.content for one in said]
        self.stored.append((replace(
            made, last_active=at, message_count=len(said), current_id=said[-1].id, forks=1
        ), said))  # fmt: skip


def tables(text: str, separator: str) -> list[list[str]]:
    """Return the rows of a csv."""
    csv.field_size_limit(2**24)  # it is 131,072 by default
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


def formulas(rows: list[list[str]]) -> list[str]:
    """Return the cells that a program could run as formulas after dropping characters."""
    return [cell for row in rows for cell in row if FORMULA.match(cell)]


def same_texts(found: list[str], expected: list[str]) -> bool:
    """Return whether a csv has these texts, except for quotes before formulas."""
    return [text.replace("'", "") for text in found] == [text.replace("'", "") for text in expected]


def pairs(lines: list[str]) -> list[tuple[str, str]]:
    """Return the questions and answers of a fine-tuning file. Raises if it is invalid."""
    found: list[tuple[str, str]] = []
    for line in lines:
        jsonschema.validate(json.loads(line), TRAINING)
        messages = [message for message in json.loads(line)["messages"] if message["role"] != "system"]
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2), roles
        texts = [message["content"] for message in messages]
        found += zip(texts[::2], texts[1::2], strict=True)
    return found
