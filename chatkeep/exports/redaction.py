"""Redact exports, including what was stored before redaction was configured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from chatkeep.redaction.policies import RedactionMode, RedactionPolicy
from chatkeep.store.exports import ConversationRow, MessageRow, RecordRow, kind_of

_SHORT_TEXTS = ("model", "finish_reason", "error")
_TEXTS = ("content", "reasoning", "error_detail", *_SHORT_TEXTS)
KINDS_KNOWN = 256


class RowRedactor:
    """Redacts the rows of an export. A blocked text is replaced by the labels of what it contained."""

    def __init__(self, policy: RedactionPolicy, *, records: bool) -> None:
        self._one = self._record if records else self._message
        # A blocked text must not end the export, so labels replace it.
        self._labels_alone = policy.mode is RedactionMode.BLOCK
        self._policy = RedactionPolicy(policy.redactor, RedactionMode.MASK)
        self._kind = lru_cache(KINDS_KNOWN)(self._redacted_kind)

    def conversation(self, row: ConversationRow) -> ConversationRow:
        """Return a redacted conversation."""
        metadata = json.loads(row.metadata)
        return row._replace(
            title=self.text(row.title),
            system=row.system and self.text(row.system),
            metadata=json.dumps(self._policy.apply_to_json(metadata, ""), ensure_ascii=False)
            if metadata
            else row.metadata,
        )

    def messages(self, rows: Sequence[Any]) -> list[Any]:
        """Return redacted messages."""
        return [self._one(row) for row in rows]

    def _message(self, columns: tuple[Any, ...]) -> MessageRow:
        row = MessageRow(*columns)
        content, reasoning = self._bytes(row.content), self._bytes(row.reasoning)
        return row._replace(content=content, reasoning=reasoning, kind=self._kind(row.kind))

    def _redacted_kind(self, packed: str) -> str:
        """Redact a kind. Most messages share a few, so this is cached."""
        kind = kind_of(packed)
        texts = {name: getattr(kind, name) for name in _SHORT_TEXTS}
        changed: dict[str, Any] = {name: text and self.text(text) for name, text in texts.items()}
        redacted = kind._replace(**changed)
        return packed if redacted == kind else json.dumps(redacted, ensure_ascii=False)

    def _record(self, columns: tuple[Any, ...]) -> RecordRow:
        row = RecordRow(*columns)
        found = msgspec.json.decode(b"{" + row.members[1:] + b"}")
        redacted = found | {name: self.text(found[name]) for name in _TEXTS if found[name]}
        return row if redacted == found else row._replace(members=b"," + msgspec.json.encode(redacted)[1:-1])

    def _bytes(self, text: bytes) -> bytes:
        return self.text(text.decode()).encode()

    def text(self, text: str) -> str:
        """Return a redacted text."""
        found = self._policy.redactor.redact(text)
        labels = " ".join(f"[{kind}]" for kind in sorted(found.kinds))
        return labels if labels and self._labels_alone else found.text
