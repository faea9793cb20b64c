"""Validate the fields of a request, with a readable error for each invalid one.

The messages come from the declared types. msgspec's own messages are not used: they quote the caller's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, inspect

from chatkeep.auth.access import ACCOUNT
from chatkeep.errors import FieldError, InvalidFields
from chatkeep.exports import dates
from chatkeep.i18n import Text, _
from chatkeep.web.patterns import whole
from chatkeep.web.schemas.conversations import PLACE
from chatkeep.web.schemas.usage import DAY, GROUPS

S = TypeVar("S", bound=msgspec.Struct)
NAME_LENGTH = 64
"""Characters of an unknown field's name that an error quotes."""
MAX_ERRORS = 20
"""Invalid fields that one response lists."""

_PATTERNS = {
    whole(dates.PATTERN): dates.EXAMPLE,
    DAY: _("must be a day such as 2026-11-22"),
    GROUPS: _("must be one or more of day, model, key, account and end_user, separated by commas"),
    PLACE: _("must be the last_id of a page, or an id"),
    whole(ACCOUNT): _("must be 1 to 32 of a-z, 0-9, - and _, and begin with a letter or a digit"),
}


def read_body(body: bytes, shape: type[S]) -> S:
    """Decode a JSON body into ``shape``; integers may be written as 5.0.

    Raises `InvalidFields`, or `msgspec.DecodeError` for malformed JSON.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError:
        return read_fields(_members(body), shape)


def read_fields(found: Mapping[str, Any], shape: type[S], *, strict: bool = True) -> S:
    """Convert fields to ``shape``; without ``strict`` their values are text. Raises `InvalidFields`."""
    try:
        return msgspec.convert(found, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidFields.of(list(islice(_errors(found, shape, "", strict=strict), MAX_ERRORS))) from error


def shortened(name: str) -> str:
    """Truncate a name for quoting in an error."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def _members(body: bytes) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(body, type=dict[str, Raw])
    except msgspec.ValidationError as error:
        raise InvalidFields.of([FieldError("", _("must be a JSON object"))]) from error
    return {name: _value(raw) for name, raw in members.items()}


def _value(raw: Raw) -> Any:
    """Decode a member; return the raw JSON if it has a number that Python can't represent."""
    try:
        value = msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return raw
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _errors(
    found: Mapping[str, Any], shape: type[msgspec.Struct], within: str, *, strict: bool
) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    for name in found:
        if name not in fields:
            yield FieldError(f"{within}{shortened(name)}", _("is unknown"))
    for name, field in fields.items():
        if name in found:
            yield from _errors_of(found[name], field.type, f"{within}{name}", strict=strict)
        elif field.required:
            yield FieldError(f"{within}{name}", _("is required"))


def _errors_of(value: Any, declared: Any, path: str, *, strict: bool) -> Iterator[FieldError]:
    try:
        msgspec.convert(value, declared, strict=strict)
    except msgspec.ValidationError:
        kind = _without_null(inspect.type_info(declared))
        if isinstance(value, Raw):
            yield FieldError(path, _("contains a number that is out of range"))
        elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
            yield from _errors(value, kind.cls, f"{path}.", strict=strict)
        else:
            yield FieldError(path, wanted(kind))


def _without_null(kind: inspect.Type) -> inspect.Type:
    """Return the one type of an optional field, without its metadata."""
    if isinstance(kind, inspect.Metadata):
        return _without_null(kind.type)
    if isinstance(kind, inspect.UnionType):
        return _without_null(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
    return kind


def wanted(kind: inspect.Type) -> Text:
    """Describe the values that a type allows, other than null."""
    plain = _without_null(kind)
    return _WORDS[type(plain)](plain)


def _text(kind: inspect.StrType) -> Text:
    if kind.pattern is not None:
        return _PATTERNS[kind.pattern]
    if kind.max_length is None:
        return _("must be text")
    if kind.min_length:
        return _("must be text of {least} to {most} characters", least=kind.min_length, most=kind.max_length)
    return _("must be text of at most {most} characters", most=kind.max_length)


def _whole_number(kind: inspect.IntType) -> Text:
    if kind.le is None:
        return _("must be a whole number of at least {least}", least=kind.ge)
    return _("must be a whole number from {least} to {most}", least=kind.ge, most=kind.le)


def _choice(kind: inspect.LiteralType | inspect.EnumType) -> Text:
    values = kind.values if isinstance(kind, inspect.LiteralType) else [one.value for one in kind.cls]
    return _("must be one of: {choices}", choices=", ".join(map(str, values)))


def _list(kind: inspect.VarTupleType) -> Text:
    return _(
        "must be a list of at least {least} items; each item {wanted}",
        least=kind.min_length,
        wanted=wanted(kind.item_type),
    )


_WORDS: dict[type[inspect.Type], Callable[[Any], Text]] = {
    inspect.StrType: _text,
    inspect.IntType: _whole_number,
    inspect.FloatType: lambda kind: _("must be a number from {least} to {most}", least=kind.ge, most=kind.le),
    inspect.BoolType: lambda _kind: _("must be true or false"),
    inspect.UUIDType: lambda _kind: _("must be a UUID"),
    inspect.LiteralType: _choice,
    inspect.EnumType: _choice,
    inspect.VarTupleType: _list,
    inspect.DictType: lambda _kind: _("must be a JSON object"),
    inspect.StructType: lambda _kind: _("must be a JSON object"),
}
