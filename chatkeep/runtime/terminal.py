"""Make standard output and standard error accept every character, and find the terminal's language."""

from __future__ import annotations

import io
import os
import sys

from chatkeep.i18n import Language, language_of

# In POSIX order of precedence.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
# In a LANGID of Windows: the mask of the primary language, and the value of Chinese.
_PRIMARY, _CHINESE = 0x3FF, 0x04


def accept_every_character() -> None:
    """Escape characters that the encoding lacks, instead of failing.

    On Windows files and pipes get UTF-8, unless PYTHONIOENCODING is set: Python would use a code page that is not the
    console's and covers one script only.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_utf8 = sys.platform == "win32" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ
            stream.reconfigure(encoding="utf-8" if is_utf8 else None, errors="backslashreplace")


def language_of_terminal() -> Language:
    """Return the language of the environment; on Windows, if it names none, the display language."""
    locale = next(filter(None, map(os.environ.get, _VARIABLES)), "")
    if sys.platform == "win32" and not locale:
        import ctypes  # noqa: PLC0415 - only Windows has it

        return "zh" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & _PRIMARY == _CHINESE else "en"
    return language_of(locale)
