"""The formats of exports. A format turns rows into bytes and knows neither the database nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

from chatkeep.exports.formats.documents import Json, Ndjson
from chatkeep.exports.formats.fine_tuning import FineTuning
from chatkeep.exports.formats.markdown import Markdown
from chatkeep.exports.formats.tables import Csv
from chatkeep.store.exports import ConversationRow


class Format(Protocol):
    """One export in one format: the methods are called in the order in which what they return is written."""

    media_type: ClassVar[str]
    suffix: ClassVar[str]
    branch_only: ClassVar[bool]
    """Whether it holds the current branch alone, in place of the whole tree."""
    records: ClassVar[bool]
    """Whether it takes messages as a `RecordRow` each, in place of a `MessageRow`."""

    def begin(self) -> bytes:
        """Return what an export begins with."""

    def conversation(self, row: ConversationRow) -> bytes:
        """Return what a conversation begins with, after what ends the one before."""

    def messages(self, rows: Sequence[Any]) -> bytes:
        """Return the next messages of the conversation."""

    def finish(self) -> bytes:
        """Return what follows the last conversation."""


# Those that lose nothing: they can be increments, and end with a seal, without which they are known to be cut.
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
    """Return a fresh format by its name, one of `FORMATS`; a csv may begin with a byte order mark."""
    return Csv(bom=bom) if name == "csv" else _KINDS[name]()
