"""The two languages of what people read: English, in which the code says it, and Chinese."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Literal

from chatkeep.chinese import TEXTS

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
_GAP = re.compile(r"\{\}")
# In the order in which POSIX looks at them.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def translated(text: str, language: Language) -> str:
    """Return an English text in a language; one that nobody has translated stays as it is.

    A text of the catalogue may have gaps, ``{}``; what fills them is translated, too, where it is in the catalogue.
    """
    if language == "en":
        return text
    if text in TEXTS:
        return TEXTS[text]
    for pattern, words in _patterns():
        found = pattern.fullmatch(text)
        if found:
            return words.format(*(translated(part, language) for part in found.groups()))
    return text


def language_of_terminal() -> Language:
    """Return the language of who started this program, by the environment."""
    return language_of(next(filter(None, map(os.environ.get, _VARIABLES)), ""))


def language_of(locale: str) -> Language:
    """Return the language of a POSIX locale such as ``zh_CN.UTF-8``."""
    return "zh" if locale.lower().startswith("zh") else "en"


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return the texts with gaps, those that say the most first."""
    gapped = [(english, chinese) for english, chinese in TEXTS.items() if "{}" in english]
    gapped.sort(key=lambda pair: len(_GAP.sub("", pair[0])), reverse=True)
    return [
        (re.compile("(.+?)".join(map(re.escape, _GAP.split(english))), re.DOTALL), chinese)
        for english, chinese in gapped
    ]
