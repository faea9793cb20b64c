"""The settings of a server: read, checked, and what follows from them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chatkeep.config import database_url as urls
from chatkeep.config.environment import FILE, env_files, read_env_file, secret
from chatkeep.config.fields import SettingsFields
from chatkeep.errors import SettingsError
from chatkeep.i18n import Text, _, text_of
from chatkeep.runtime.hosts import SOCKET, is_loopback

PLACEHOLDERS = ("changeme", "change-me", "your-api-key", "your_api_key", "sk-xxx", "xxx", "replace-me", "todo")


class Settings(SettingsFields):
    """The settings of one server; build it with `from_env`, or directly in tests and embedding programs."""

    __slots__ = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
        """Read the environment and the ``.env`` files in ``folder`` (by default the current one).

        Raises `SettingsError`, which lists every wrong value with advice.
        """
        found = dict(os.environ if environ is None else environ)
        folder = folder or Path.cwd()
        layers = [found, *map(read_env_file, env_files(found, folder))]
        problems: list[Text] = []
        values: dict[str, Any] = {}
        for item in fields(cls):
            try:
                values |= _value(item, layers, folder)
            except SettingsError as error:
                problems += error.problems
        settings = cls(**values)
        problems += settings.dangers()
        if problems:
            raise SettingsError(problems)
        return settings._with_password()

    def _with_password(self) -> Settings:
        """Insert DATABASE_PASSWORD into DATABASE_URL. Raises `SettingsError` if the URL has a password or no user."""
        if self.database_password is None:
            return self
        try:
            url = urls.with_password(self.database_url or "", self.database_password)
        except ValueError as error:
            raise SettingsError([_("DATABASE_PASSWORD: {advice}", advice=text_of(error))]) from None
        return replace(self, database_url=url)

    def dangers(self) -> list[Text]:
        """Return why these settings are unsafe in production, a sentence each; empty in other environments."""
        if self.env != "production":
            return []
        found: list[Text] = []
        if self.openai_api_key and self.openai_api_key.lower().startswith(PLACEHOLDERS):
            found.append(
                _("OPENAI_API_KEY: the value is a placeholder; set the real key, or remove it to use the demo model")
            )
        return found

    @property
    def socket_path(self) -> str | None:
        """The path of the Unix socket to listen on, if HOST names one."""
        return self.host.removeprefix(SOCKET) if self.host.startswith(SOCKET) else None

    @property
    def is_private(self) -> bool:
        """Whether only users of this machine can reach the server, so that it may run without keys."""
        needs_key = self.require_keys or self.oidc_issuer is not None or self.public_url is not None
        return is_loopback(self.host) and not needs_key

    @property
    def oidc_label(self) -> str:
        """The display name of the OpenID provider; empty without one."""
        return self.oidc_name or urlsplit(self.oidc_issuer or "").netloc

    @property
    def place(self) -> str:
        """The address to listen on in gunicorn's form: `host:port` or `unix:/path`."""
        return self.host if self.socket_path else f"{self.host}:{self.port}"

    @property
    def database(self) -> str:
        """The database's URL; by default a SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'chatkeep.sqlite3').as_posix()}"

    @property
    def exports_dir(self) -> Path:
        """The folder for the files of export jobs."""
        return self.data_dir / "exports"

    @property
    def demo(self) -> bool:
        """Whether the offline demo model is used because no provider is configured."""
        return not self.openai_api_key and not self.openai_base_url


def unknown_names(environ: Mapping[str, str], files: Iterable[Path]) -> list[str]:
    """Return names that begin with CHATKEEP_ and are not settings."""
    named = {name for names in (environ, *map(read_env_file, files)) for name in names if name.startswith("CHATKEEP_")}
    return sorted(named - variables())


def variables() -> set[str]:
    """Return the names of all environment variables that settings use."""
    about = [item.metadata for item in described()]
    return {one["env"] for one in about} | {f"{one['env']}{FILE}" for one in about if one["secret"]}


def _value(item: Field[Any], layers: Iterable[Mapping[str, str]], folder: Path) -> dict[str, Any]:
    """Parse a field from the first layer that sets it. Raises `SettingsError`."""
    name, is_secret = item.metadata["env"], item.metadata["secret"]
    text = secret(name, layers, folder) if is_secret else next(filter(None, (one.get(name) for one in layers)), None)
    if not text:
        return {}
    try:
        return {item.name: item.metadata["read"](text)}
    except ValueError as error:
        # Text before an @ may be a password, even in the wrong setting.
        advice = text_of(error)
        if is_secret or "@" in text:
            problem = _("{name}: the value is invalid; {advice}", name=name, advice=advice)
        else:
            problem = _("{name}: {value} is invalid; {advice}", name=name, value=repr(text), advice=advice)
        raise SettingsError([problem]) from None


def described() -> list[Field[Any]]:
    """Return the fields of `Settings` in order, each with ``env``, ``text``, ``doc`` and ``secret`` in its metadata."""
    return [item for item in fields(Settings) if item.default is not MISSING]
