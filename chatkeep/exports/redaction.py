"""What is exported, behind a screen: also what was stored before there was one."""

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


class Redacting:
    """Changes the rows of an export; a text that may not go out is left out, and labels say what it held."""

    def __init__(self, policy: RedactionPolicy, *, records: bool) -> None:
        self._one = self._record if records else self._message
        # Labels are enough to tell that something was left out: an export does not end because of one text.
        self._labels_alone = policy.mode is RedactionMode.BLOCK
        self._policy = RedactionPolicy(policy.redactor, RedactionMode.MASK)
        self._kind = lru_cache(KINDS_KNOWN)(self._redacted_kind)

    def conversation(self, row: ConversationRow) -> ConversationRow:
        """Return a conversation as it may go out."""
        metadata = json.loads(row.metadata)
        return row._replace(
            title=self.text(row.title),
            system=row.system and self.text(row.system),
            metadata=json.dumps(self._policy.apply_to_json(metadata, ""), ensure_ascii=False)
            if metadata
            else row.metadata,
        )

    def messages(self, rows: Sequence[Any]) -> list[Any]:
        """Return messages as they may go out."""
        return [self._one(row) for row in rows]

    def _message(self, columns: tuple[Any, ...]) -> MessageRow:
        row = MessageRow(*columns)
        content, reasoning = self._bytes(row.content), self._bytes(row.reasoning)
        return row._replace(content=content, reasoning=reasoning, kind=self._kind(row.kind))

    def _redacted_kind(self, packed: str) -> str:
        """Return what few messages differ in; most have the same."""
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
        """Return a text as it may go out."""
        found = self._policy.redactor.whole(text)
        labels = " ".join(f"[{kind}]" for kind in sorted(found.kinds))
        return labels if labels and self._labels_alone else found.text
