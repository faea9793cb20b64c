"""Standard output and standard error, which take every character, and the language of who reads them."""

from __future__ import annotations

import io
import os
import sys

from chatkeep.runtime.i18n import Language, language_of

# In the order in which POSIX looks at them.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
# In a LANGID of Windows: the bits of the language without its country, and those of Chinese.
_PRIMARY, _CHINESE = 0x3FF, 0x04


def accept_every_character() -> None:
    """Let standard output and standard error escape what their encoding lacks, instead of failing.

    On Windows what goes to a file or a pipe is UTF-8, unless PYTHONIOENCODING says otherwise: the code page that Python
    would take is not that of the console, and has no more than one script.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_free = sys.platform == "win32" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ
            stream.reconfigure(encoding="utf-8" if is_free else None, errors="backslashreplace")


def language_of_terminal() -> Language:
    """Return the language of who started this program: that of the environment, or of Windows if it names none."""
    locale = next(filter(None, map(os.environ.get, _VARIABLES)), "")
    if sys.platform == "win32" and not locale:
        import ctypes  # noqa: PLC0415 - only here

        return "zh" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & _PRIMARY == _CHINESE else "en"
    return language_of(locale)
