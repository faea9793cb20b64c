"""Export formats, which render rows to bytes and know neither the database nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

from chatkeep.exports.formats.documents import Json, Ndjson
from chatkeep.exports.formats.fine_tuning import FineTuning
from chatkeep.exports.formats.markdown import Markdown
from chatkeep.exports.formats.tables import Csv
from chatkeep.store.exports import ConversationRow


class Format(Protocol):
    """Renders one export. The results of its methods are written in the order of the calls."""

    media_type: ClassVar[str]
    suffix: ClassVar[str]
    branch_only: ClassVar[bool]
    """Whether it has only the current branch, not the whole tree."""
    records: ClassVar[bool]
    """Whether it takes messages as `RecordRow`, not as `MessageRow`."""

    def begin(self) -> bytes:
        """Return the beginning of the export."""

    def conversation(self, row: ConversationRow) -> bytes:
        """Return the end of the previous conversation and the beginning of this one."""

    def messages(self, rows: Sequence[Any]) -> bytes:
        """Return the conversation's next messages.

        Rows are plain tuples, for speed: `MessageRow._make(row)` names their values.
        """

    def finish(self) -> bytes:
        """Return the end of the last conversation."""


# The lossless formats. They support increments, and end with a seal that shows that they are complete.
Document: TypeAlias = Json | Ndjson
_KINDS: dict[str, Callable[[], Format]] = {
    "json": Json,
    "csv": Csv,
    "ndjson": Ndjson,
    "md": Markdown,
    "openai": FineTuning,
}
FORMATS = tuple(_KINDS)


def make(name: str, *, bom: bool = False) -> Format:
    """Return a new format by its name in `FORMATS`. ``bom`` is for csv."""
    return Csv(bom=bom) if name == "csv" else _KINDS[name]()
