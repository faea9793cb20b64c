"""Check the services that the server calls: provider, Redis and OpenID provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatkeep.cli.checks.finding import Finding, broken, doubtful, fine
from chatkeep.config.settings import Settings
from chatkeep.domain.quota import Defaults
from chatkeep.errors import ProviderBusy, ProviderError, SettingsError, SignInFailed

if TYPE_CHECKING:
    from chatkeep.runtime.redis import RedisClient

OPENID = "OpenID provider"
# Characters of an issuer's metadata to show.
MOST_SHOWN = 200
REDIS_TIMEOUT_S = 2.0
WITHOUT_REDIS = (
    "check REDIS_URL; until then each process has a cache of its own, and limits are counted in the database"
)


def provider(settings: Settings) -> Iterator[Finding]:
    """Check that the provider is reachable and accepts the key, without calling a model."""
    from chatkeep.provider import check  # noqa: PLC0415 - not needed if settings are wrong

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
    """Check that Redis runs the commands that the server uses, if one is configured."""
    from chatkeep.limiting import redis_windows  # noqa: PLC0415 - not needed if settings are wrong
    from chatkeep.runtime.redis import RedisClient  # noqa: PLC0415
    from chatkeep.turns import cache  # noqa: PLC0415 - not needed if settings are wrong

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
        redis_windows.try_out(client)
    except OSError as error:
        yield doubtful("Redis", f"it answers, and cannot be used: {error}", WITHOUT_REDIS)
        return
    yield fine("Redis", "it answers")
    if settings.limits != Defaults():
        yield from _forgetting(client)


def _forgetting(redis: RedisClient) -> Iterator[Finding]:
    """Check that Redis persists the counters of quotas."""
    names = ("save", "appendonly", "maxmemory", "maxmemory-policy")
    try:
        found = {name: value for asked in names for name, value in redis.demand("config_get", asked).items()}
    except OSError:  # hosted Redis services often refuse it
        return
    if not found.get("save") and found.get("appendonly") == "no":
        told = "it keeps nothing on disk: when it restarts, the limits of the minute and the day begin anew"
        yield doubtful("Redis", told, "set appendonly yes in Redis, or remove REDIS_URL: the database counts then")
    if found.get("maxmemory") != "0" and found.get("maxmemory-policy") != "noeviction":
        told = "it drops keys when it is full: limits may begin anew"
        yield doubtful("Redis", told, "set maxmemory-policy noeviction in Redis: the database counts when it is full")


def oidc(settings: Settings) -> Iterator[Finding]:
    """Check the OpenID provider's documents, if one is configured."""
    from chatkeep.auth.oidc import Oidc  # noqa: PLC0415 - not needed if settings are wrong

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
    from chatkeep.auth import signatures  # noqa: PLC0415 - not needed if settings are wrong

    expected = settings.oidc_algorithm
    if supported and not set(supported) & set(signatures.names_of(expected)):
        told = f"it signs with {', '.join(supported)[:MOST_SHOWN]!a}, and not with {expected}"
        return broken(OPENID, told, "set CHATKEEP_OIDC_ALGORITHM to what it signs this server's tokens with")
    if not keys:
        told = f"it publishes no key for {expected}"
        return broken(OPENID, told, "set CHATKEEP_OIDC_ALGORITHM to what it signs this server's tokens with")
    return fine(OPENID, f"{settings.oidc_issuer} answers; its keys for {expected}: {keys}")
