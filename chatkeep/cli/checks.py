"""What `chatkeep doctor` looks at: a function for each thing, which yields what it found and changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chatkeep.cli import health
from chatkeep.config.environment import env_files, read_env_file
from chatkeep.config.settings import Settings, described, unknown_names
from chatkeep.domain.quota import Defaults
from chatkeep.errors import ProviderBusy, ProviderError, SettingsError, SignInFailed, StoreProblem
from chatkeep.redaction.policies import Redaction
from chatkeep.runtime import files as private
from chatkeep.server import listening, serving

if TYPE_CHECKING:
    from chatkeep.runtime.redis import RedisClient
    from chatkeep.store.engine import Database

# Less room than this is a reason to act, or to act at once.
LOW_BYTES, TOO_LOW_BYTES = 1_000_000_000, 100_000_000
# Machines that expire each other's conversations may differ by this much; a database tells whole seconds.
CLOCK_S = 2.0
OPENID = "OpenID provider"
# Characters of what an issuer says of itself.
MOST_SHOWN = 200
# A key that ends within this time is worth a word.
SOON_DAYS = 7
REDIS_TIMEOUT_S = 2.0
WITHOUT_REDIS = (
    "check REDIS_URL; until then each process has a cache of its own, and limits are counted in the database"
)
# What a worker is measured with; each has a file for its client and one for the provider.
STREAMS, FILES_OF_A_STREAM, OTHER_FILES = 1_000, 2, 100


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing, and what to do about it."""

    status: Literal["ok", "warn", "fail"]
    about: str
    told: str
    advice: str = ""


def fine(about: str, told: str) -> Finding:
    """Return that a thing is as it should be."""
    return Finding("ok", about, told)


def doubtful(about: str, told: str, advice: str) -> Finding:
    """Return that the server works, and somebody should know something."""
    return Finding("warn", about, told, advice)


def broken(about: str, told: str, advice: str) -> Finding:
    """Return that the server does not start, or does not do what it is for."""
    return Finding("fail", about, told, advice)


def findings() -> Iterator[Finding]:
    """Yield everything, one after the other; with wrong settings there is nothing else to look at."""
    try:
        yield from names()
        settings = Settings.from_env()
        Redaction.from_settings(settings)
    except SettingsError as error:
        yield from (
            broken("settings", problem, "mend it; all else is looked at after that") for problem in error.problems
        )
        return
    yield fine("settings", "every value can be read")
    for look in CHECKS:
        yield from look(settings)


def names() -> Iterator[Finding]:
    """Look at where settings come from, and for names that nothing reads."""
    files = env_files(os.environ, Path.cwd())
    unknown = unknown_names(os.environ, files)  # reads them, and says which of them it cannot
    read = ", ".join(str(path) for path in files if path.is_file())
    chosen = files[0].name.removeprefix(".env.")
    yield fine("environment", f"{chosen}; files that are read: {read}" if read else f"{chosen}; no .env file is here")
    for name in unknown:
        yield doubtful("environment", f"{name} is no setting", "is it misspelt? docs/settings.md has all names")


def folders(settings: Settings) -> Iterator[Finding]:
    """Look whether files can be written, and how much room there is."""
    places = {"data folder": settings.data_dir, "exports folder": settings.exports_dir}
    if settings.database.startswith("sqlite:///"):
        places["database folder"] = _file(settings).parent
    seen: dict[Path, str] = {}
    for about, path in places.items():
        if seen.setdefault(path.absolute(), about) == about:
            yield from _folder(about, path.absolute())


def _folder(about: str, path: Path) -> Iterator[Finding]:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        told = f"{path} cannot be written: {error.strerror}"
        yield broken(about, told, "let the server's user write there, or set CHATKEEP_DATA_DIR")
        return
    told = f"{path}: {free / 1e9:,.1f} GB are free"
    if free < TOO_LOW_BYTES:
        yield broken(about, told, "make room: nothing can be stored on a full disk")
    elif free < LOW_BYTES:
        yield doubtful(about, told, "make room soon: nothing can be stored on a full disk")
    else:
        yield fine(about, told)


def permissions(settings: Settings) -> Iterator[Finding]:
    """Look whether other users of this machine can read or write what is the server's alone."""
    if sys.platform == "win32":
        there = settings.data_dir.absolute()
        yield fine("permissions", f"Windows has no file modes: the rights of {there} decide, and icacls shows them")
        return
    places = [settings.data_dir, settings.exports_dir, *filter(_holds_secrets, env_files(os.environ, Path.cwd()))]
    if settings.database.startswith("sqlite:///"):
        places += [Path(f"{_file(settings)}{end}") for end in ("", "-wal", "-shm")]
    if settings.socket_path and not settings.socket_mode & private.OTHERS:
        places.append(Path(settings.socket_path))
    exposed = [place.absolute() for place in places if private.is_exposed(place)]
    for place in exposed:
        told = f"every user of this machine can read or write {place}"
        yield doubtful("permissions", told, f"run: chmod o-rwx {place}")
    if not exposed:
        yield fine("permissions", "other users of this machine can open nothing of the server's")


def _holds_secrets(file: Path) -> bool:
    """Return whether a .env file has a value of a secret setting."""
    named = read_env_file(file)
    return any(named.get(item.metadata["env"]) for item in described() if item.metadata["secret"])


def database(settings: Settings) -> Iterator[Finding]:
    """Look whether the database answers, and what is in it."""
    from chatkeep.store import diagnosis  # noqa: PLC0415 - wrong settings are told without it
    from chatkeep.store.engine import Database  # noqa: PLC0415

    if settings.database.startswith("sqlite:///") and not _file(settings).exists():
        yield fine("database", f"{_file(settings)} is not there yet; the first start makes it")
        yield _without_keys(settings)
        return
    try:
        with diagnosis.explained(settings.database):
            found = Database(settings.database)
            found.now_s()
    except SettingsError as error:
        yield from (broken("database", problem, "check DATABASE_URL") for problem in error.problems)
        return
    try:
        yield fine("database", f"{_file(settings)} answers" if found.embedded else f"{found.url.host} answers")
        yield from (*_character_set(found), *_schema(found), *_writing(found), *_clock(found), *_keys(settings, found))
    finally:
        found.close()


def _character_set(found: Database) -> Iterator[Finding]:
    try:
        found.check()
    except SettingsError as error:
        yield from (
            broken("character set", problem, "run what it says, then start again") for problem in error.problems
        )
        return
    yield fine("character set", "every character of every language can be stored")


def _schema(found: Database) -> Iterator[Finding]:
    from chatkeep.store import migrations  # noqa: PLC0415 - as above

    schema, head = migrations.schema_of(found), migrations.HEAD
    revision = schema.revision
    if not schema.is_begun:
        yield fine("schema", "it has no tables of chatkeep yet; the first start makes them")
    elif revision is None:
        yield doubtful("schema", "its tables are not complete yet", "start the server, or run: chatkeep migrate")
    elif revision == head:
        yield fine("schema", f"it is {head}, as this version needs it")
    elif revision == migrations.UNFINISHED:
        told = "chatkeep copy has not copied everything into this database yet"
        yield broken("schema", told, "run it again, with the same FROM and TO")
    elif schema.can_serve:
        yield fine("schema", f"it is {revision}, of a newer chatkeep, beside which this version can serve")
    elif schema.is_newer:
        yield broken("schema", f"it is {revision}, of a newer chatkeep; this version needs {head}", "upgrade chatkeep")
    elif found.embedded:
        told = f"it is {revision}; the next start migrates it to {head}"
        yield doubtful("schema", told, "make a backup first: chatkeep backup FILE")
    else:
        told = f"it is {revision}, this version needs {head}"
        yield broken("schema", told, "make a backup, then run: chatkeep migrate")


def _writing(found: Database) -> Iterator[Finding]:
    from chatkeep.store import counters, diagnosis, migrations  # noqa: PLC0415 - as above

    if not migrations.schema_of(found).can_serve:
        return
    try:
        with found.connection() as connection:
            connection.begin()
            counters.try_out(connection)
            connection.rollback()
    except StoreProblem as error:
        advice = "check that the database is not read-only, has room and lets this user write"
        yield broken("writing", diagnosis.reason(error, found.url), advice)
    else:
        yield fine("writing", "a row was written and rolled back")


def _clock(found: Database) -> Iterator[Finding]:
    if found.embedded:
        return
    before = time.time()
    theirs = found.now_s()
    # Between asking and the answer the database looked at its clock.
    off = max(before - theirs, theirs - time.time(), 0.0)
    if off > CLOCK_S:
        told = f"this machine's and the database's differ by {off:,.0f} s"
        yield doubtful("clock", told, "let both follow one time server (NTP): conversations expire by it")
    else:
        yield fine("clock", "this machine's and the database's agree")


def _keys(settings: Settings, found: Database) -> Iterator[Finding]:
    from chatkeep.domain.conversation import now_us  # noqa: PLC0415 - as above
    from chatkeep.store import keys, migrations  # noqa: PLC0415

    schema = migrations.schema_of(found)
    if schema.revision is not None and not schema.can_serve:
        return
    if schema.revision is None or not found.read(keys.changes):
        yield _without_keys(settings)
        return
    now = now_us()
    live, ending = found.read(lambda connection: keys.count_live(connection, now, now + SOON_DAYS * 86_400_000_000))
    if not live:
        yield broken("keys", "all have ended: nobody comes in", "run: chatkeep keys create NAME")
    elif ending:
        told = f"{live:,} let callers in; {ending:,} of them end within {SOON_DAYS} days"
        yield doubtful("keys", told, "chatkeep keys list tells which; chatkeep keys rotate makes one in a key's place")
    else:
        yield fine("keys", f"{live:,} let callers in")


def _without_keys(settings: Settings) -> Finding:
    if settings.is_private:
        return fine("keys", f"there is none yet: whoever reaches {settings.place} comes in and may do everything")
    return broken("keys", "there is none yet: nobody comes in", "run: chatkeep keys create NAME")


def provider(settings: Settings) -> Iterator[Finding]:
    """Look whether the provider is reached and takes the key; no model is called."""
    from chatkeep.provider import check  # noqa: PLC0415 - as above

    if settings.demo:
        advice = "set OPENAI_API_KEY (and OPENAI_BASE_URL, CHATKEEP_MODEL) to talk to a real one"
        yield doubtful("provider", "none is configured: the offline demo model answers", advice)
        return
    try:
        listed = check.models(settings)
    except SettingsError as error:
        yield from (broken("provider", problem, "mend it") for problem in error.problems)
    except ProviderBusy as error:
        yield doubtful("provider", error.detail, "it is reached; ask again later")
    except ProviderError as error:
        yield broken("provider", error.detail, "until it answers, every message gets an error")
    else:
        yield _listed(settings.model, listed)


def _listed(model: str, listed: set[str] | None) -> Finding:
    if listed is None:
        advice = "check that OPENAI_BASE_URL ends where /chat/completions begins, often with /v1; then send a message"
        return doubtful("provider", "it answers, but has no list of models to try the key with", advice)
    if listed and model not in listed:
        return doubtful("provider", f"it answers, and does not list the model {model}", "check CHATKEEP_MODEL")
    return fine("provider", f"it answers and takes the key; the model is {model}")


def redis(settings: Settings) -> Iterator[Finding]:
    """Look whether Redis does what the server uses it for, where there is one."""
    from chatkeep.limiting import limiter  # noqa: PLC0415 - as above
    from chatkeep.runtime.redis import RedisClient  # noqa: PLC0415
    from chatkeep.turns import cache  # noqa: PLC0415 - as above

    if settings.redis_url is None:
        return
    try:
        client = RedisClient(settings.redis_url, "doctor", REDIS_TIMEOUT_S)
        client.demand("ping")
    except ImportError:
        yield broken("Redis", "the package redis is missing", "run: pip install 'chatkeep[redis]'")
        return
    except (OSError, ValueError) as error:
        yield doubtful("Redis", f"it does not answer: {error}", WITHOUT_REDIS)
        return
    try:
        cache.try_out(client)
        limiter.try_out(client)
    except OSError as error:
        yield doubtful("Redis", f"it answers, and cannot be used: {error}", WITHOUT_REDIS)
        return
    yield fine("Redis", "it answers")
    if settings.limits != Defaults():
        yield from _forgetting(client)


def _forgetting(redis: RedisClient) -> Iterator[Finding]:
    """Look whether Redis keeps what it counts for limits."""
    names = ("save", "appendonly", "maxmemory", "maxmemory-policy")
    try:
        found = {name: value for asked in names for name, value in redis.demand("config_get", asked).items()}
    except OSError:  # services that run Redis for others often refuse it
        return
    if not found.get("save") and found.get("appendonly") == "no":
        told = "it keeps nothing on disk: when it restarts, the limits of the minute and the day begin anew"
        yield doubtful("Redis", told, "set appendonly yes in Redis, or remove REDIS_URL: the database counts then")
    if found.get("maxmemory") != "0" and found.get("maxmemory-policy") != "noeviction":
        told = "it drops keys when it is full: limits may begin anew"
        yield doubtful("Redis", told, "set maxmemory-policy noeviction in Redis: the database counts when it is full")


def oidc(settings: Settings) -> Iterator[Finding]:
    """Look whether people can sign in with the OpenID provider, if there is one."""
    from chatkeep.auth.oidc import Oidc  # noqa: PLC0415 - as above

    if settings.oidc_issuer is None:
        return
    try:
        issuer = Oidc(settings).issuer
        discovery = issuer.read_discovery()
        if cause := issuer.fault_of(discovery):
            yield _faulty(settings, cause, discovery.issuer)
        else:
            yield _signing(
                settings, discovery.id_token_signing_alg_values_supported, len(issuer.read_keys(discovery)[0])
            )
    except SettingsError as error:
        yield from (broken(OPENID, problem, "until then nobody signs in with it") for problem in error.problems)
    except SignInFailed as failure:
        told = f"{settings.oidc_issuer} does not answer as an issuer: {failure.cause}"
        yield broken(OPENID, told, "check CHATKEEP_OIDC_ISSUER, and that this machine reaches it")


def _faulty(settings: Settings, cause: str, named: str) -> Finding:
    if cause == "discovery_issuer_mismatch":
        told = f"the issuer {settings.oidc_issuer} calls itself {named[:MOST_SHOWN]!a}"
        return broken(OPENID, told, "set CHATKEEP_OIDC_ISSUER to exactly that, if it is yours")
    return broken(
        OPENID, f"{settings.oidc_issuer} names an endpoint without TLS", "let the issuer use https everywhere"
    )


def _signing(settings: Settings, supported: tuple[str, ...], keys: int) -> Finding:
    from chatkeep.auth import signatures  # noqa: PLC0415 - as above

    expected = settings.oidc_algorithm
    if supported and not set(supported) & set(signatures.names_of(expected)):
        told = f"it signs with {', '.join(supported)[:MOST_SHOWN]!a}, and not with {expected}"
        return broken(OPENID, told, "set CHATKEEP_OIDC_ALGORITHM to what it signs this server's tokens with")
    if not keys:
        told = f"it publishes no key for {expected}"
        return broken(OPENID, told, "set CHATKEEP_OIDC_ALGORITHM to what it signs this server's tokens with")
    return fine(OPENID, f"{settings.oidc_issuer} answers; its keys for {expected}: {keys}")


def place(settings: Settings) -> Iterator[Finding]:
    """Look whether the server can listen, or listens already."""
    try:
        answer = health.answer(settings, "/health")
    except (ConnectionRefusedError, FileNotFoundError):
        yield _free(settings)
    except TimeoutError:
        told = f"whatever listens on {settings.place} does not answer"
        yield broken("place", told, "set another PORT (or HOST), or end that program")
    except OSError as error:
        advice = "set another PORT (or HOST), or end what listens there"
        yield broken("place", f"{settings.place} cannot be used: {error}", advice)
    else:
        yield _answered(settings.place, answer)


def _answered(there: str, answer: bytes) -> Finding:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b'"cache"' not in body or b'"provider"' not in body:
        return broken("place", f"another program answers on {there}", "set another PORT (or HOST), or end that program")
    if head.startswith(health.READY):
        return fine("place", f"chatkeep answers on {there} already")
    return broken("place", f"chatkeep answers on {there}, and says that it is not well", "look at its log")


def _free(settings: Settings) -> Finding:
    if settings.socket_path:
        folder = Path(settings.socket_path).absolute().parent
        if os.access(folder, os.W_OK):
            return fine("place", f"{settings.place} is free")
        if not folder.exists():
            advice = "make the folder for the server's user; the systemd unit does so when it starts"
            return doubtful("place", f"{folder} does not exist", advice)
        return broken("place", f"{folder} cannot be written", "let the server's user write there")
    try:
        listening.listen(settings.host, settings.port).close()
    except OSError as error:
        told = f"{settings.place} cannot be used: {error.strerror or error}"
        return broken("place", told, "set another PORT (or HOST)")
    return fine("place", f"{settings.place} is free")


def files(settings: Settings) -> Iterator[Finding]:
    """Look how many files a process may open: every stream takes some."""
    if not hasattr(os, "sysconf"):
        return
    most = os.sysconf("SC_OPEN_MAX")
    streams = STREAMS if serving.best() == "gunicorn" else settings.threads
    if 0 <= most < streams * FILES_OF_A_STREAM + OTHER_FILES:
        fit = max(most - OTHER_FILES, 0) // FILES_OF_A_STREAM
        told = f"a process may have {most:,}, which is enough for {fit:,} streams at once"
        yield doubtful("open files", told, "raise it: ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit")
    else:
        yield fine("open files", f"enough for {streams:,} streams at once in each process")


def pages(_settings: Settings) -> Iterator[Finding]:
    """Look whether what the pages load of others was built."""
    from chatkeep.web.files import missing  # noqa: PLC0415 - as above

    if lacking := ", ".join(missing()):
        told = f"not built: {lacking}; replies are shown as plain text"
        yield doubtful("pages", told, "in a checkout run: ./dev assets; else install a wheel, which has them")
    else:
        yield fine("pages", "everything is built")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    folders,
    permissions,
    database,
    provider,
    redis,
    oidc,
    place,
    files,
    pages,
)


def _file(settings: Settings) -> Path:
    """Return the file of an embedded database."""
    return Path(settings.database.removeprefix("sqlite:///"))
