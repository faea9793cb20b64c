"""What is done about sensitive text: in what users send, in what models answer, and in what is exported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from chatkeep.config.settings import Settings
from chatkeep.errors import SensitiveContent, SettingsError
from chatkeep.i18n import Text, _, text_of
from chatkeep.redaction import KINDS, Redacted, Redactor, Stream, Unsupported
from chatkeep.runtime.concurrency import FILES

R = TypeVar("R", bound=msgspec.Struct)
# Judging as much takes about 10 ms.
_LONG = 20_000
IDENTIFIERS = frozenset({"owner", "idempotency_key"})
"""Fields that name a row and are no text of anybody's: a label in their place would name another one."""
MOST_CHARACTERS = {"title": 255, "model": 255, "finish_reason": 64, "error": 64}
"""What the database takes of a field."""


class RedactionMode(StrEnum):
    """What to do about it."""

    OFF = "off"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class RedactionPolicy:
    """What is done in one place."""

    redactor: Redactor
    mode: RedactionMode

    def redacted(self, text: str) -> Redacted:
        """Return a text with labels, and what was in it."""
        return FILES.run(self.redactor.whole, text) if len(text) > _LONG else self.redactor.whole(text)

    def apply(self, text: str, field: str) -> str:
        """Return the text as it may go on. Raises `SensitiveContent` where it may not."""
        found = self.redacted(text)
        if found.kinds and self.blocks:
            raise SensitiveContent.of(field, found.kinds)
        return found.text

    def apply_to_record(self, record: R) -> R:
        """Return a record whose every text may be stored. Raises `SensitiveContent`.

        The texts are found by their type, so a field that is added to a record is judged, too. Enumerations and
        identifiers are not texts.
        """
        passed = {
            name: self._fitting(value, name)
            for name in record.__struct_fields__
            if name not in IDENTIFIERS and type(value := getattr(record, name)) in {str, dict}
        }
        return replace(record, **passed)

    def _fitting(self, value: Any, field: str) -> Any:
        """Return what may be stored of a field, cut to its column: a label may be longer than what it replaces."""
        passed = self.apply_to_json(value, field)
        return passed[: MOST_CHARACTERS[field]] if field in MOST_CHARACTERS else passed

    def apply_to_json(self, value: Any, field: str) -> Any:
        """Return what JSON holds as it may go on, keys and numbers included. Raises `SensitiveContent`."""
        if isinstance(value, str):
            return self.apply(value, field)
        if isinstance(value, dict):
            return {self.apply(key, field): self.apply_to_json(item, field) for key, item in value.items()}
        if isinstance(value, list):
            return [self.apply_to_json(item, field) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            written = self.apply(str(value), field)
            return value if written == str(value) else written
        return value

    @property
    def blocks(self) -> bool:
        """Whether sensitive text may not go on at all."""
        return self.mode is RedactionMode.BLOCK

    def stream(self) -> Stream:
        """Return what judges a text that comes in pieces; it ends before what may not go on."""
        return self.redactor.stream(ends_at_first=self.blocks)


@dataclass(frozen=True, slots=True)
class Redaction:
    """The screens; None where nothing is done."""

    input: RedactionPolicy | None = None
    output: RedactionPolicy | None = None
    export: RedactionPolicy | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Redaction:
        """Return what the settings describe. Raises `SettingsError`."""
        modes = [
            RedactionMode(name) for name in (settings.redact_input, settings.redact_output, settings.redact_export)
        ]
        if all(mode is RedactionMode.OFF for mode in modes):
            return OFF
        kinds, words, own = settings.redact_kinds or KINDS, settings.redact_words, dict(settings.redact_patterns)
        try:
            redactor = Redactor(kinds, words, own)
        except Unsupported as error:
            raise SettingsError(_wrong(kinds, words, own)) from error
        return cls(*(None if mode is RedactionMode.OFF else RedactionPolicy(redactor, mode) for mode in modes))

    @property
    def imports(self) -> RedactionPolicy | None:
        """The screen for imports: the file says who wrote a text, so the stricter policy holds for all of it."""
        policies = [policy for policy in (self.input, self.output) if policy is not None]
        return next((policy for policy in policies if policy.blocks), policies[0] if policies else None)


OFF = Redaction()


def rules_of(settings: Settings) -> bytes:
    """Return a hash of all that decides how replies are judged; nothing where they are not."""
    if settings.redact_output == RedactionMode.OFF:
        return b""
    rules = (settings.redact_output, settings.redact_kinds, settings.redact_words, settings.redact_patterns)
    return hashlib.sha256(msgspec.json.encode(rules)).digest()


def _wrong(kinds: Iterable[str], words: Iterable[str], own: dict[str, str]) -> list[Text]:
    """Return what is wrong with each of the settings."""
    found: list[Text] = []
    looked_for: dict[str, tuple[Iterable[str], Iterable[str], dict[str, str]]] = {
        "CHATKEEP_REDACT_KINDS": (kinds, (), {}),
        "CHATKEEP_REDACT_WORDS": ((), words, {}),
        "CHATKEEP_REDACT_PATTERNS": ((), (), own),
    }
    for name, each in looked_for.items():
        try:
            Redactor(*each)
        except Unsupported as error:
            found.append(_("{name}: the value is invalid; {advice}", name=name, advice=text_of(error)))
    return found
