"""Where the texts of settings are found.

Order: the process environment, then ``.env.<CHATKEEP_ENV>``, then ``.env``. A secret can be in a file, which
``NAME_FILE`` names.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from chatkeep.errors import SettingsError
from chatkeep.runtime import files

FILE = "_FILE"
# Container engines mount secrets there, readable by every user of that one container.
ENGINE_SECRETS = Path("/run/secrets")


def env_files(environ: Mapping[str, str], folder: Path) -> list[Path]:
    """Return where settings are looked for after the process environment, first things first; not all need be there."""
    general = folder / ".env"
    chosen = environ.get("CHATKEEP_ENV") or read_env_file(general).get("CHATKEEP_ENV") or "development"
    return [folder / f".env.{chosen}", general]


def wants_json_logs() -> bool:
    """Return whether the environment or a ``.env`` file asks for JSON logs, whatever else is wrong there."""
    name = "CHATKEEP_LOG_FORMAT"
    try:
        layers = [os.environ, *map(read_env_file, env_files(os.environ, Path.cwd()))]
    except SettingsError:
        layers = [os.environ]
    return next(filter(None, (layer.get(name) for layer in layers)), None) == "json"


def secret(name: str, layers: Iterable[Mapping[str, str]], folder: Path) -> str | None:
    """Return a secret's text from the first layer that has it or names its file. Raises `SettingsError`."""
    by_file = f"{name}{FILE}"
    for layer in layers:
        text, file = layer.get(name), layer.get(by_file)
        if text and file:
            raise SettingsError([f"{name} and {by_file} are both set; remove one of them"])
        if text or file:
            return text or _secret_in(folder / (file or ""), by_file)
    return None


def _secret_in(path: Path, name: str) -> str:
    """Return what a file holds, without the line break at its end. Raises `SettingsError`."""
    try:
        if path.exists() and not path.is_file():
            raise SettingsError([f"{name}: {path} is not a file"])
        if files.is_exposed(path) and not path.resolve().is_relative_to(ENGINE_SECRETS):
            raise SettingsError(
                [f"{name}: every user of this machine can read or write {path}; run: chmod o-rwx {path}"]
            )
        text = _decoded(path.read_bytes()).rstrip("\r\n")
    except OSError as error:
        raise SettingsError([f"{name}: {path} cannot be read: {error.strerror}"]) from error
    except UnicodeError as error:
        raise SettingsError([f"{name}: {path} is not UTF-8; save it as UTF-8"]) from error
    if not text.strip():
        raise SettingsError([f"{name}: {path} is empty"])
    return text


def read_env_file(path: Path) -> dict[str, str]:
    """Return the ``NAME=value`` lines of a file; comments, blank lines, ``export`` and quotes are understood.

    A comment behind a value begins with a space and ``#``; a value that holds these is written in quotes. Raises
    `SettingsError` if the file cannot be read, or is in another encoding than UTF-8 and UTF-16.
    """
    found = {}
    try:
        text = _decoded(path.read_bytes()) if path.is_file() else ""
    except OSError as error:  # its folder may be closed to this user, too
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from error
    except UnicodeError as error:
        raise SettingsError([f"{path} is not UTF-8; save it as UTF-8"]) from error
    for line in text.splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _decoded(content: bytes) -> str:
    """Return the text of UTF-8, or of UTF-16 with a byte order mark, as PowerShell writes it. Raises `UnicodeError`."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    if "\0" in text:  # UTF-16 without the mark, or UTF-32
        raise UnicodeError
    return text


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote and quote in "\"'" and quote in value[1:]:
        return value[1 : value.index(quote, 1)]
    return re.split(r"\s#", value, maxsplit=1)[0].rstrip()
