"""What is done about sensitive text: in what users send, in what models answer, and in what is exported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from chatkeep.concurrency import FILES
from chatkeep.errors import SensitiveContent, SettingsError
from chatkeep.model import Conversation, Message, Role
from chatkeep.redaction import KINDS, Redacted, Redactor, Stream, Unsupported
from chatkeep.settings import Settings

# Judging as much takes about 10 ms.
_LONG = 20_000


class Policy(StrEnum):
    """What to do about it."""

    OFF = "off"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Screen:
    """What is done in one place."""

    redactor: Redactor
    policy: Policy

    def judged(self, text: str) -> Redacted:
        """Return a text with labels, and what was in it."""
        return FILES.run(self.redactor.whole, text) if len(text) > _LONG else self.redactor.whole(text)

    def passed(self, text: str, field: str) -> str:
        """Return the text as it may go on. Raises `SensitiveContent` where it may not."""
        found = self.judged(text)
        if found.kinds and self.blocks:
            raise SensitiveContent.of(field, found.kinds)
        return found.text

    def passed_json(self, value: Any, field: str) -> Any:
        """Return what JSON holds as it may go on, keys and numbers included. Raises `SensitiveContent`."""
        if isinstance(value, str):
            return self.passed(value, field)
        if isinstance(value, dict):
            return {self.passed(key, field): self.passed_json(item, field) for key, item in value.items()}
        if isinstance(value, list):
            return [self.passed_json(item, field) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            written = self.passed(str(value), field)
            return value if written == str(value) else written
        return value

    @property
    def blocks(self) -> bool:
        """Whether sensitive text may not go on at all."""
        return self.policy is Policy.BLOCK

    def stream(self) -> Stream:
        """Return what judges a text that comes in pieces; it ends before what may not go on."""
        return self.redactor.stream(ends_at_first=self.blocks)


@dataclass(frozen=True, slots=True)
class Redaction:
    """The screens; None where nothing is done."""

    input: Screen | None = None
    output: Screen | None = None
    export: Screen | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Redaction:
        """Return what the settings describe. Raises `SettingsError`."""
        policies = [Policy(name) for name in (settings.redact_input, settings.redact_output, settings.redact_export)]
        if all(policy is Policy.OFF for policy in policies):
            return OFF
        kinds, words, own = settings.redact_kinds or KINDS, settings.redact_words, dict(settings.redact_patterns)
        try:
            redactor = Redactor(kinds, words, own)
        except Unsupported as error:
            raise SettingsError(_wrong(kinds, words, own)) from error
        return cls(*(None if policy is Policy.OFF else Screen(redactor, policy) for policy in policies))

    def imported(self, conversation: Conversation) -> Conversation:
        """Return a conversation of a file as it may be stored. Raises `SensitiveContent`."""
        if self.input is None:
            return conversation
        return replace(
            conversation,
            title=self.input.passed(conversation.title, "title"),
            system=self.input.passed(conversation.system, "system") if conversation.system else conversation.system,
            metadata=self.input.passed_json(conversation.metadata, "metadata"),
        )

    def imported_message(self, message: Message) -> Message:
        """Return a message of a file as it may be stored. Raises `SensitiveContent`."""
        screen = self.output if message.role is Role.ASSISTANT else self.input
        if screen is None:
            return message
        content, reasoning = (screen.passed(text, "content") for text in (message.content, message.reasoning))
        model = screen.passed(message.model, "model") if message.model else message.model
        return replace(message, content=content, reasoning=reasoning, model=model)


OFF = Redaction()


def rules_of(settings: Settings) -> bytes:
    """Return a hash of all that decides how replies are judged; nothing where they are not."""
    if settings.redact_output == Policy.OFF:
        return b""
    rules = (settings.redact_output, settings.redact_kinds, settings.redact_words, settings.redact_patterns)
    return hashlib.sha256(msgspec.json.encode(rules)).digest()


def _wrong(kinds: Iterable[str], words: Iterable[str], own: dict[str, str]) -> list[str]:
    """Return what is wrong with each of the settings."""
    found = []
    looked_for: dict[str, tuple[Iterable[str], Iterable[str], dict[str, str]]] = {
        "CHATKEEP_REDACT_KINDS": (kinds, (), {}),
        "CHATKEEP_REDACT_WORDS": ((), words, {}),
        "CHATKEEP_REDACT_PATTERNS": ((), (), own),
    }
    for name, each in looked_for.items():
        try:
            Redactor(*each)
        except Unsupported as error:
            found.append(f"{name}: the value is not right; {error}")
    return found
