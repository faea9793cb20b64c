"""What an import leaves out of other programs' conversations: kinds, and how to say how many."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """A kind of content that is not imported. Programs have more: those are named by their own type."""

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
    Kind.TOOL_CALL: ("tool call", "tool calls"),
    Kind.TOOL_RESULT: ("tool result", "tool results"),
    Kind.PICTURE: ("picture", "pictures"),
    Kind.RECORDING: ("recording", "recordings"),
    Kind.VIDEO: ("video", "videos"),
    Kind.FILE: ("file", "files"),
    Kind.REASONING: ("reasoning without a reply", "reasonings without a reply"),
    Kind.REASONING_RECAP: ("note on reasoning time", "notes on reasoning time"),
    Kind.MEMORY: ("memory note", "memory notes"),
    Kind.INSTRUCTIONS: ("set of custom instructions", "sets of custom instructions"),
    Kind.SYSTEM: ("system prompt", "system prompts"),
    Kind.HIDDEN: ("hidden message", "hidden messages"),
    Kind.UNREADABLE: ("unreadable message", "unreadable messages"),
    Kind.DAMAGED: ("damaged character", "damaged characters"),
    Kind.EMPTY: ("empty conversation", "empty conversations"),
}
# A conversation that has nothing else was empty for its reader, too.
UNSEEN = frozenset({Kind.SYSTEM, Kind.HIDDEN, Kind.INSTRUCTIONS})
TYPE_LENGTH = 40
OTHER = "other"


def of_type(name: str) -> str:
    """Return the kind of a content that has a type which no rule knows."""
    return name[:TYPE_LENGTH] or OTHER


def noun(kind: str, count: int) -> str:
    """Return what to write behind a number: "tool calls"; in English."""
    if kind not in _NAMES:
        return f"of type {kind}"
    one, many = _NAMES[Kind(kind)]
    return one if count == 1 else many
