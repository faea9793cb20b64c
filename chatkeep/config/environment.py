"""Find the texts of settings.

Order: the process environment, then ``.env.<CHATKEEP_ENV>``, then ``.env``. A secret can be in a file of its own, which
``NAME_FILE`` names.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

from chatkeep.errors import SettingsError
from chatkeep.i18n import _
from chatkeep.runtime import files

FILE = "_FILE"
# Container engines mount secrets here, readable by every user of the container.
ENGINE_SECRETS = Path("/run/secrets")


def env_files(environ: Mapping[str, str], folder: Path) -> list[Path]:
    """Return the ``.env`` files to read, the first one first; a file may be missing."""
    general = folder / ".env"
    chosen = environ.get("CHATKEEP_ENV") or read_env_file(general).get("CHATKEEP_ENV") or "development"
    return [folder / f".env.{chosen}", general]


def wants_json_logs() -> bool:
    """Return whether the environment or a ``.env`` file asks for JSON logs, even if other settings are wrong."""
    name = "CHATKEEP_LOG_FORMAT"
    try:
        layers = [os.environ, *map(read_env_file, env_files(os.environ, Path.cwd()))]
    except SettingsError:
        layers = [os.environ]
    return next(filter(None, (layer.get(name) for layer in layers)), None) == "json"


def secret(name: str, layers: Iterable[Mapping[str, str]], folder: Path) -> str | None:
    """Return a secret from the first layer that sets it or its file. Raises `SettingsError`."""
    by_file = f"{name}{FILE}"
    for layer in layers:
        text, file = layer.get(name), layer.get(by_file)
        if text and file:
            raise SettingsError([_("{name} and {other} are both set; remove one of them", name=name, other=by_file)])
        if text or file:
            return text or _secret_in(folder / (file or ""), by_file)
    return None


def _secret_in(path: Path, name: str) -> str:
    """Return a file's text without the final line break. Raises `SettingsError`."""
    try:
        if path.exists() and not path.is_file():
            raise SettingsError([_("{name}: {path} is not a file", name=name, path=path)])
        if files.is_exposed(path) and not path.resolve().is_relative_to(ENGINE_SECRETS):
            raise SettingsError(
                [
                    _(
                        "{name}: every user of this machine can read or write {path}; run: chmod o-rwx {path}",
                        name=name,
                        path=path,
                    )
                ]
            )
        text = _decoded(path.read_bytes()).rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            [_("{name}: {path} cannot be read: {reason}", name=name, path=path, reason=error.strerror)]
        ) from error
    except UnicodeError as error:
        raise SettingsError([_("{name}: {path} is not UTF-8; save it as UTF-8", name=name, path=path)]) from error
    if not text.strip():
        raise SettingsError([_("{name}: {path} is empty", name=name, path=path)])
    return text


def read_env_file(path: Path) -> dict[str, str]:
    """Return the values of a ``.env`` file; a file that does not exist has none. ``${NAME}`` is not expanded.

    Raises `SettingsError` if the file cannot be read, or is in another encoding than UTF-8 and UTF-16.
    """
    try:
        if not path.is_file():
            return {}
        text = _decoded(path.read_bytes())
    except OSError as error:  # this user may not enter its folder
        raise SettingsError([_("{path} cannot be read: {reason}", path=path, reason=error.strerror)]) from error
    except UnicodeError as error:
        raise SettingsError([_("{path} is not UTF-8; save it as UTF-8", path=path)]) from error
    from dotenv import dotenv_values  # noqa: PLC0415 - a start without such files does not pay for the import

    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def _decoded(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark, as PowerShell writes it. Raises `UnicodeError`."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    if "\0" in text:  # UTF-16 without the mark, or UTF-32
        raise UnicodeError
    return text
