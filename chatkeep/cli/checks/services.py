"""Check the services that the server calls: provider, Redis and OpenID provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatkeep.cli.checks.finding import Finding, broken, doubtful, fine
from chatkeep.config.settings import Settings
from chatkeep.domain.quota import Defaults
from chatkeep.errors import ProviderBusy, ProviderError, SettingsError, SignInFailed
from chatkeep.i18n import _, text_of, verbatim

if TYPE_CHECKING:
    from chatkeep.runtime.redis import RedisClient

OPENID = _("OpenID provider")
REDIS = verbatim("Redis")
# Characters of an issuer's metadata to show.
MOST_SHOWN = 200
REDIS_TIMEOUT_S = 2.0
WITHOUT_REDIS = _(
    "check REDIS_URL; until Redis answers, each process has its own cache, and limits are counted in the database"
)


def provider(settings: Settings) -> Iterator[Finding]:
    """Check that the provider is reachable and accepts the key, without calling a model."""
    from chatkeep.provider import check  # noqa: PLC0415 - not needed if settings are wrong

    if settings.demo:
        advice = _("to use a real model, set OPENAI_API_KEY (and OPENAI_BASE_URL, CHATKEEP_MODEL)")
        yield doubtful(_("provider"), _("no provider is configured, so the offline demo model answers"), advice)
        return
    try:
        listed = check.models(settings)
    except SettingsError as error:
        yield from (broken(_("provider"), problem, _("fix it")) for problem in error.problems)
    except ProviderBusy as error:
        yield doubtful(_("provider"), error.detail, _("the server reaches it; try again later"))
    except ProviderError as error:
        yield broken(_("provider"), error.detail, _("until it answers, every message gets an error"))
    else:
        yield _listed(settings.model, listed)


def _listed(model: str, listed: set[str] | None) -> Finding:
    if listed is None:
        advice = _(
            "check that OPENAI_BASE_URL is the part before /chat/completions, often ending in /v1; then send a message"
        )
        return doubtful(_("provider"), _("it answers, but has no list of models, so the key is not checked"), advice)
    if listed and model not in listed:
        return doubtful(
            _("provider"), _("it answers, but does not list the model {model}", model=model), _("check CHATKEEP_MODEL")
        )
    return fine(_("provider"), _("it answers and accepts the key; the model is {model}", model=model))


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
        yield broken(REDIS, _("the package redis is missing"), _("run: pip install 'chatkeep[redis]'"))
        return
    except (OSError, ValueError) as error:
        yield doubtful(REDIS, _("it does not answer: {reason}", reason=text_of(error)), WITHOUT_REDIS)
        return
    try:
        cache.try_out(client)
        redis_windows.try_out(client)
    except OSError as error:
        yield doubtful(REDIS, _("it answers, but cannot be used: {reason}", reason=text_of(error)), WITHOUT_REDIS)
        return
    yield fine(REDIS, _("it answers"))
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
        told = _("it does not persist data, so a restart of Redis resets the limits per minute and per day")
        yield doubtful(
            REDIS, told, _("set appendonly yes in Redis, or remove REDIS_URL to count limits in the database")
        )
    if found.get("maxmemory") != "0" and found.get("maxmemory-policy") != "noeviction":
        told = _("it evicts keys when its memory is full, which can reset limits")
        yield doubtful(REDIS, told, _("set maxmemory-policy noeviction in Redis; if it is full, the database counts"))


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
        yield from (broken(OPENID, problem, _("until then, users cannot sign in")) for problem in error.problems)
    except SignInFailed as failure:
        told = _(
            "{issuer} does not answer like an OpenID issuer: {reason}",
            issuer=settings.oidc_issuer,
            reason=failure.cause,
        )
        yield broken(OPENID, told, _("check CHATKEEP_OIDC_ISSUER, and that this machine can reach it"))


def _faulty(settings: Settings, cause: str, named: str) -> Finding:
    if cause == "discovery_issuer_mismatch":
        told = _("the issuer {issuer} calls itself {name}", issuer=settings.oidc_issuer, name=f"{named[:MOST_SHOWN]!a}")
        return broken(OPENID, told, _("if that is the right issuer, set CHATKEEP_OIDC_ISSUER to exactly that name"))
    return broken(
        OPENID,
        _("{issuer} names an endpoint without TLS", issuer=settings.oidc_issuer),
        _("configure the issuer to use https for every endpoint"),
    )


def _signing(settings: Settings, supported: tuple[str, ...], keys: int) -> Finding:
    from chatkeep.auth import signatures  # noqa: PLC0415 - not needed if settings are wrong

    expected = settings.oidc_algorithm
    if supported and not set(supported) & set(signatures.names_of(expected)):
        told = _(
            "it signs with {algorithms}, not with {expected}",
            algorithms=f"{', '.join(supported)[:MOST_SHOWN]!a}",
            expected=expected,
        )
        return broken(OPENID, told, _("set CHATKEEP_OIDC_ALGORITHM to the algorithm that signs this server's tokens"))
    if not keys:
        told = _("it publishes no key for {algorithm}", algorithm=expected)
        return broken(OPENID, told, _("set CHATKEEP_OIDC_ALGORITHM to the algorithm that signs this server's tokens"))
    return fine(
        OPENID,
        _(
            "{issuer} answers; its keys for {algorithm}: {count}",
            issuer=settings.oidc_issuer,
            algorithm=expected,
            count=keys,
        ),
    )
