"""The kinds of content of other programs that an import skips, and their names."""

from __future__ import annotations

from enum import StrEnum

from chatkeep.i18n import Text, _


class Kind(StrEnum):
    """A kind of skipped content. Other kinds are named by the program's own type."""

    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    PICTURE = "picture"
    RECORDING = "recording"
    VIDEO = "video"
    FILE = "file"
    REASONING = "reasoning"
    REASONING_RECAP = "reasoning_recap"
    MEMORY = "memory"
    INSTRUCTIONS = "custom_instructions"
    SYSTEM = "system_prompt"
    HIDDEN = "hidden_message"
    UNREADABLE = "unreadable_message"
    DAMAGED = "damaged_character"
    EMPTY = "empty_conversation"


_NAMES = {
    Kind.TOOL_CALL: (_("tool call"), _("tool calls")),
    Kind.TOOL_RESULT: (_("tool result"), _("tool results")),
    Kind.PICTURE: (_("picture"), _("pictures")),
    Kind.RECORDING: (_("recording"), _("recordings")),
    Kind.VIDEO: (_("video"), _("videos")),
    Kind.FILE: (_("file"), _("files")),
    Kind.REASONING: (_("reasoning without a reply"), _("reasonings without a reply")),
    Kind.REASONING_RECAP: (_("note on reasoning time"), _("notes on reasoning time")),
    Kind.MEMORY: (_("memory note"), _("memory notes")),
    Kind.INSTRUCTIONS: (_("set of custom instructions"), _("sets of custom instructions")),
    Kind.SYSTEM: (_("system prompt"), _("system prompts")),
    Kind.HIDDEN: (_("hidden message"), _("hidden messages")),
    Kind.UNREADABLE: (_("unreadable message"), _("unreadable messages")),
    Kind.DAMAGED: (_("damaged character"), _("damaged characters")),
    Kind.EMPTY: (_("empty conversation"), _("empty conversations")),
}
# A conversation with nothing else looked empty to its user.
UNSEEN = frozenset({Kind.SYSTEM, Kind.HIDDEN, Kind.INSTRUCTIONS})
TYPE_LENGTH = 40
OTHER = "other"


def kind_of_type(name: str) -> str:
    """Return the kind of an unknown type."""
    return name[:TYPE_LENGTH] or OTHER


def noun(kind: str, count: int) -> Text:
    """Return the English noun for a number of a kind, such as "tool calls"."""
    if kind not in _NAMES:
        return _("of type {kind}", kind=kind)
    one, many = _NAMES[Kind(kind)]
    return one if count == 1 else many
