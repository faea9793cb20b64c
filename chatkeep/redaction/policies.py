"""Redaction policies for input, output and exports."""

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
# A text this long takes about 10 ms.
_LONG = 20_000
IDENTIFIERS = frozenset({"owner", "idempotency_key"})
"""Fields that identify a row. A label in them would identify another one."""
MOST_CHARACTERS = {"title": 255, "model": 255, "finish_reason": 64, "error": 64}
"""The columns' lengths."""


class RedactionMode(StrEnum):
    """What to do with sensitive text."""

    OFF = "off"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class RedactionPolicy:
    """Applies a mode to texts."""

    redactor: Redactor
    mode: RedactionMode

    def redact(self, text: str) -> Redacted:
        """Return a text with labels, and the kinds found."""
        return FILES.run(self.redactor.redact, text) if len(text) > _LONG else self.redactor.redact(text)

    def apply(self, text: str, field: str) -> str:
        """Return the redacted text. Raises `SensitiveContent` if the policy blocks it."""
        found = self.redact(text)
        if found.kinds and self.blocks:
            raise SensitiveContent.of(field, found.kinds)
        return found.text

    def apply_to_record(self, record: R) -> R:
        """Redact all texts of a record. Raises `SensitiveContent`.

        Texts are found by their type, so new fields are included. Enumerations and `IDENTIFIERS` are not texts.
        """
        passed = {
            name: self._fitting(value, name)
            for name in record.__struct_fields__
            if name not in IDENTIFIERS and type(value := getattr(record, name)) in {str, dict}
        }
        return replace(record, **passed)

    def _fitting(self, value: Any, field: str) -> Any:
        """Redact a field and cut it to its column's length: a label may be longer than what it replaces."""
        passed = self.apply_to_json(value, field)
        return passed[: MOST_CHARACTERS[field]] if field in MOST_CHARACTERS else passed

    def apply_to_json(self, value: Any, field: str) -> Any:
        """Redact a JSON value, including keys and numbers. Raises `SensitiveContent`."""
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
        """Whether the policy blocks sensitive text."""
        return self.mode is RedactionMode.BLOCK

    def stream(self) -> Stream:
        """Return a stream. It ends before the first match if the policy blocks."""
        return self.redactor.stream(ends_at_first=self.blocks)


@dataclass(frozen=True, slots=True)
class Redaction:
    """The policies by place; None means no redaction."""

    input: RedactionPolicy | None = None
    output: RedactionPolicy | None = None
    export: RedactionPolicy | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Redaction:
        """Return the policies of the settings. Raises `SettingsError`."""
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
        """The stricter of input and output, because a file could claim any author for a text."""
        policies = [policy for policy in (self.input, self.output) if policy is not None]
        return next((policy for policy in policies if policy.blocks), policies[0] if policies else None)


OFF = Redaction()


def rules_of(settings: Settings) -> bytes:
    """Return a hash of the settings for replies; b"" if replies are not redacted."""
    if settings.redact_output == RedactionMode.OFF:
        return b""
    rules = (settings.redact_output, settings.redact_kinds, settings.redact_words, settings.redact_patterns)
    return hashlib.sha256(msgspec.json.encode(rules)).digest()


def _wrong(kinds: Iterable[str], words: Iterable[str], own: dict[str, str]) -> list[Text]:
    """Return the problem of each wrong setting."""
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
