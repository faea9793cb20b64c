"""A copy of a server's data, kept up to date by incremental exports as documented."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Copy:
    """Conversations and messages by id; ``cursor`` is the last export's."""

    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    cursor: str = ""

    def take(self, body: bytes) -> dict[str, int]:
        """Apply a sealed export in JSON Lines. Return the number of lines of each kind."""
        counts = {"conversation": 0, "message": 0, "tombstone": 0}
        *lines, last = body.splitlines()
        for line in map(json.loads, lines[1:]):
            counts[line["object"]] += 1
            self._apply(line)
        end = json.loads(last)
        assert end["sha256"] == hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
        assert [end["conversations"], end["messages"], end.get("tombstones", 0)] == list(counts.values())
        self.cursor = end["cursor"]
        return counts

    def _apply(self, line: dict[str, Any]) -> None:
        if line["object"] == "conversation":
            self.conversations[line["id"]] = line
            self.gone.pop(line["id"], None)
        elif line["object"] == "message":
            self.messages[line["id"]] = line
        else:
            self.gone[line["id"]] = line["reason"]
            self.conversations.pop(line["id"], None)
            for known in [key for key, said in self.messages.items() if said["conversation_id"] == line["id"]]:
                del self.messages[known]
