"""Translate the messages of msgspec, which are English."""

from __future__ import annotations

from chatkeep.i18n import N_, Text
from chatkeep.i18n.stored import recognized

# msgspec's messages about JSON and types. A test finds missing ones.
_NESTED = (
    N_("{reason} (byte {position})"),
    N_("{reason} - at `{place}`"),
    N_("Expected `{wanted}`, got `{found}`"),
    N_("Object contains unknown field `{field}`"),
    N_("Object missing required field `{field}`"),
    N_("Invalid enum value {value}"),
)
_PLAIN = (
    N_("Input data was truncated"),
    N_("expected ':'"),
    N_("expected ',' or ']'"),
    N_("expected ',' or '}'"),
    N_("expected '\"'"),
    N_("invalid character"),
    N_("invalid character in unicode escape"),
    N_("invalid escape character in string"),
    N_("invalid escaped character"),
    N_("invalid number"),
    N_("invalid utf-16 surrogate pair"),
    N_("object keys must be strings"),
    N_("trailing characters"),
    N_("trailing comma in array"),
    N_("trailing comma in object"),
    N_("unexpected end of escaped utf-16 surrogate pair"),
    N_("unexpected end of hex escape"),
)


def reason_of(error: Exception) -> Text:
    """Return why msgspec refused its input, without the words that the caller says itself."""
    return recognized(str(error).removeprefix("JSON is malformed: "), _NESTED)
