"""Texts for people: the code has them in English, `locale/zh/LC_MESSAGES/chatkeep.po` in Chinese."""

from __future__ import annotations

import gettext
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, Self

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
DOMAIN = "chatkeep"
LOCALE = Path(__file__).parent / "locale"


class Text(str):
    """An English text that can be translated: it keeps its message and the values of the message's placeholders.

    Everything else takes it for the English ``str``. Formatting it into another string loses the translation.
    """

    __slots__ = ("message", "values")
    message: str
    values: dict[str, object]

    def __new__(cls, message: str, /, **values: object) -> Self:
        """Fill the ``{placeholders}`` of a message. A value that is a `Text` is translated with it."""
        self = super().__new__(cls, message.format(**values) if values else message)
        self.message, self.values = message, values
        return self

    def rewritten(self, rewrite: Callable[[str], str]) -> Text:
        """Return a copy whose string values are rewritten; the message itself stays."""
        return Text(self.message, **{name: _rewritten(value, rewrite) for name, value in self.values.items()})


_ = Text
"""Mark a message for the catalogue, and fill it: ``_("There is no file {path}.", path=path)``."""


def N_(message: str) -> str:  # noqa: N802 - as gettext's manual calls it
    """Mark a message for the catalogue that is filled later: ``Text(message, path=path)``."""
    return message


def translated(text: Text, language: Language) -> str:
    """Return a text in a language, as a plain ``str``; in English if there is no translation."""
    if language == "en" or not text:
        return str(text)
    found = _chinese().gettext(text.message)
    values = {
        name: translated(value, language) if isinstance(value, Text) else value for name, value in text.values.items()
    }
    return found.format(**values) if values else found


def verbatim(words: object) -> Text:
    """Return a text that is not translated, such as the words of a provider or a caller."""
    return Text("{words}", words=str(words))


def text_of(error: BaseException) -> Text:
    """Return what an exception says; ``str(error)`` would lose the translation of a `Text`."""
    said = error.args[0] if error.args else None
    return said if isinstance(said, Text) else verbatim(error)


def language_of(locale: str) -> Language:
    """Return the language of a POSIX locale such as ``zh_CN.UTF-8``."""
    return "zh" if locale.lower().startswith("zh") else "en"


def _rewritten(value: object, rewrite: Callable[[str], str]) -> object:
    if isinstance(value, Text):
        return value.rewritten(rewrite)
    return rewrite(value) if isinstance(value, str) else value


@cache
def _chinese() -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, LOCALE, ["zh"])
