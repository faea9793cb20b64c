"""Requests adapt to the dialect that a provider's refusals ask for, and keep it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest
from openai import OpenAI

from chatkeep.config.parsing import DialectRule
from chatkeep.config.settings import Settings
from chatkeep.domain.conversation import Prompt, PromptMessage, Role, Usage
from chatkeep.errors import ProviderError, ProviderRefused, SettingsError
from chatkeep.provider import Provider, failures
from chatkeep.provider.dialects import MOST_MODELS, UNSTREAMED_SECONDS, Dialect, Dialects
from chatkeep.provider.openai_http import OpenAIHttp
from chatkeep.provider.openai_sdk import OpenAISdk
from tests.answer_parts import SENTENCE, THOUGHT
from tests.provider.asking import Outcome
from tests.provider.conftest import KEY
from tests.refusals import REFUSALS
from tests.upstream import Upstream, generate

WANTED = {
    "limit": Dialect(max_tokens="max_completion_tokens"),
    "usage": Dialect(stream_options=False),
    "system": Dialect(system="user"),
    "developer": Dialect(system="developer"),
    "temperature": Dialect(temperature=False),
    "stream": Dialect(stream=False),
}
EVERYTHING = "limit-renamed+usage-extra+system-value+temperature-default+stream-unsupported"
# Refusals that no other dialect avoids.
TEACH_NOTHING = [
    (400, {"error": {"message": "max_tokens is too large: 99999. This model supports at most 4096 completion tokens"}}),
    (400, {"error": {"message": "Invalid value for 'temperature': must be between 0 and 2", "param": "temperature"}}),
    (400, {"error": {"message": "temperature 3 is not supported: at most 2 is", "param": "temperature"}}),
    (422, {"detail": [{"loc": ["body", "temperature"], "msg": "Input should be less than or equal to 1"}]}),
    (400, {"error": {"message": "The prompt was flagged by the content filter", "code": "content_filter"}}),
    (400, {"error": {"message": "Unsupported parameter: 'top_k'", "param": "top_k", "code": "unsupported_parameter"}}),
    (400, {"error": {"message": "max_tokens (99999) exceeds the limit of 4096, which is not allowed"}}),
    (400, {"error": {"message": "max_tokens should be positive"}}),
    (400, {"error": "Invalid messages", "request": {"max_tokens": 9, "temperature": 0.5, "stream": True}}),
    (401, {"error": {"message": "Invalid key: only the roles admin and developer may use it"}}),
    (403, {"error": {"message": "not allowed to assume the role"}}),
    (404, {"error": {"message": "The model 'm' is unknown", "code": "model_not_found"}}),
    (429, {"error": {"message": "Only 3 streams at once: stream is not allowed now"}}),
    (500, {"error": {"message": "Unexpected end of the stream"}}),
    (503, {"error": {"message": "The system is overloaded"}}),
]


def asking(refuse: str, *, model: str = "m", question: str = "") -> Prompt:
    """Return a prompt with everything that a provider may refuse."""
    system = PromptMessage(Role.SYSTEM, "Be brief.")
    said = PromptMessage(Role.USER, f"{question}#n=3,refuse={refuse}#")
    return Prompt(model, (system, said), temperature=0.5, max_tokens=9)


def answer(provider: Provider, prompt: Prompt) -> Outcome:
    return Outcome().collect(provider.stream_reply(prompt))


@pytest.mark.parametrize("refuse", REFUSALS)
def test_refused_request_is_adapted_once_per_model(refuse: str, provider: Provider, upstream: Upstream) -> None:
    first = answer(provider, asking(refuse))
    assert (first.error, first.text) == (None, "".join(generate(3)))
    assert len(upstream.requests) == 2
    assert answer(provider, asking(refuse, question="again")).error is None
    assert len(upstream.requests) == 3, "what is learnt costs no request any more"
    assert answer(provider, asking(refuse, model="other")).error is None
    assert len(upstream.requests) == 5, "another model is another dialect"
    wanted = WANTED[refuse.partition("-")[0]]
    bodies = [request.body for request in upstream.requests]
    for body in (bodies[1], bodies[2], bodies[4]):
        assert body.get("max_tokens" if wanted.max_tokens == "max_tokens" else "max_completion_tokens") == 9
        assert ("stream_options" in body) is (wanted.stream_options and wanted.stream)
        assert ("temperature" in body) is wanted.temperature
        assert ("stream" in body) is wanted.stream
        assert body["messages"][0]["role"] == wanted.system
    assert bodies[0] == bodies[3] | {"model": "m"}, "the first request to a model is written as most take it"


def test_several_refusals_are_learned_in_turn(provider: Provider, upstream: Upstream) -> None:
    assert answer(provider, asking(EVERYTHING)).error is None
    assert len(upstream.requests) == 6
    assert answer(provider, asking(EVERYTHING)).error is None
    assert upstream.requests[6].body == {
        "model": "m",
        "messages": [{"role": "user", "content": f"Be brief.\n\n#n=3,refuse={EVERYTHING}#"}],
        "max_completion_tokens": 9,
    }
    assert len(upstream.requests) == 7


def test_unstreamed_reply_has_text_usage_and_finish_reason(provider: Provider) -> None:
    outcome = answer(provider, asking("stream-unsupported"))
    assert outcome.finish is not None
    assert (outcome.text, outcome.finish.reason) == ("".join(generate(3)), "stop")
    assert outcome.finish.usage == Usage(2, 3)


@pytest.mark.parametrize(("status", "body"), TEACH_NOTHING)
def test_unrelated_refusals_change_nothing(status: int, body: dict[str, object]) -> None:
    error = failures.from_response(status, lambda _name: None, msgspec.json.encode(body))
    assert Dialects().changes_for(error, asking(""), Dialect()) == {}


@pytest.mark.parametrize(
    "body",
    [{"stream_options": ["Extra fields are not allowed"]}, {"errors": {"stream_options": "unknown"}}],
)
def test_rejected_field_may_be_a_key_of_the_error(body: dict[str, object]) -> None:
    error = failures.from_response(400, lambda _name: None, msgspec.json.encode(body))
    assert Dialects().changes_for(error, asking(""), Dialect()) == {"stream_options": False}


def test_unrelated_refusal_is_passed_on(provider: Provider, upstream: Upstream) -> None:
    error = answer(provider, Prompt("m", (PromptMessage(Role.USER, "#status=400#"),))).error
    assert isinstance(error, ProviderRefused)
    assert "Scripted failure 400." in error.detail
    assert len(upstream.requests) == 1


def test_dialect_refused_again_is_not_learned(provider: Provider, upstream: Upstream) -> None:
    """The first refusal was about something else, so the original request is tried again."""
    prompt = asking("usage-extra")
    upstream.script("refuse=usage-extra", "status=400", "n=1", "n=1")
    error = answer(provider, prompt).error
    assert error is not None
    assert "Scripted failure 400." in error.detail
    assert len(upstream.requests) == 2
    assert answer(provider, prompt).error is None
    assert "stream_options" in upstream.requests[2].body


def test_unset_fields_are_not_adapted(upstream: Upstream, over_http: OpenAIHttp) -> None:
    error = failures.from_payload({"message": "temperature, max_tokens and the role system are not supported"})
    assert Dialects().changes_for(error, Prompt("m", (PromptMessage(Role.USER, "hi"),)), Dialect()) == {}
    assert answer(over_http, Prompt("m", (PromptMessage(Role.USER, "#refuse=limit-renamed#"),))).error is None
    assert len(upstream.requests) == 1


def test_in_band_error_before_text_adapts_dialect(provider: Provider, upstream: Upstream) -> None:
    upstream.script("fault=error_after:0:unsupported stream_options", "n=2")
    assert answer(provider, asking("")).text == "".join(generate(2))
    upstream.script("n=5,fault=error_after:2:unsupported stream_options")
    broken = answer(provider, asking("", model="other"))
    assert (broken.text, len(upstream.requests)) == ("".join(generate(2)), 3)
    assert broken.error is not None


def test_aborted_call_is_not_repeated(provider: Provider, upstream: Upstream) -> None:
    call = provider.stream_reply(asking("usage-extra"))
    call.abort()
    assert Outcome().collect(call).items == []
    assert upstream.requests == []
    upstream.script("refuse=usage-extra", "fault=hang_headers")
    call, outcome = provider.stream_reply(asking("")), Outcome()
    thread = threading.Thread(target=outcome.collect, args=(call,))
    thread.start()
    assert upstream.wait_for(lambda it: len(it.requests) == 2)
    call.abort()
    thread.join(10)
    assert (thread.is_alive(), outcome.items, outcome.error) == (False, [], None)


# Configured dialects


@pytest.mark.parametrize("make", ["http", "sdk"])
def test_configured_dialect_is_used_at_once_and_kept(
    make: str, upstream: Upstream, open_http: Callable[..., OpenAIHttp]
) -> None:
    rule = DialectRule(max_tokens="max_completion_tokens", temperature=True)
    dialects = Dialects([("o9-mini", DialectRule()), ("o9", rule)])
    with OpenAI(api_key=KEY, base_url=upstream.url) as client:
        provider = (
            OpenAISdk(client, "m", dialects=dialects) if make == "sdk" else open_http(upstream.url, dialects=dialects)
        )
        assert answer(provider, asking("limit-renamed", model="o9-large")).error is None
        assert len(upstream.requests) == 1
        refused = answer(provider, asking("temperature-default", model="o9-large")).error
        assert isinstance(refused, ProviderError)
        assert "only the default" in refused.detail
        assert len(upstream.requests) == 2
        assert answer(provider, asking("limit-renamed", model="o9-mini-2")).error is None
        assert len(upstream.requests) == 4, "the longest name that fits counts"


@pytest.mark.parametrize("make", ["http", "sdk"])
@pytest.mark.parametrize("name", ["unopened", "unopened-nothing", "unopened-object", "think", "think-nothing"])
def test_thinking_model_begins_within_reasoning(
    make: str, name: str, upstream: Upstream, open_http: Callable[..., OpenAIHttp]
) -> None:
    dialects = Dialects([("r1", DialectRule(thinking=True))])
    upstream.script(f"fault=answer:{name}")
    with OpenAI(api_key=KEY, base_url=upstream.url) as client:
        provider = (
            OpenAISdk(client, "m", dialects=dialects) if make == "sdk" else open_http(upstream.url, dialects=dialects)
        )
        outcome = answer(provider, Prompt("r1-32b", (PromptMessage(Role.USER, "What is fog?"),)))
    assert (outcome.text, outcome.reasoning) == (SENTENCE, "" if "nothing" in name else THOUGHT)


def test_settings_define_dialect_rules() -> None:
    text = '{"": {"system": "developer"}, "gemma": {"system": "user", "stream_options": false}}'
    settings = Settings.from_env({"CHATKEEP_PROVIDER_DIALECTS": text, "CHATKEEP_STREAM_USAGE": "false"})
    dialects = Dialects(settings.provider_dialects, stream_usage=settings.stream_usage)
    assert dialects.of("gemma-3") == Dialect(system="user", stream_options=False)
    assert dialects.of("m") == Dialect(system="developer", stream_options=False)


@pytest.mark.parametrize("text", ["[]", '{"m": {"system": "assistant"}}', '{"m": {"sistem": "user"}}', "user"])
def test_invalid_dialect_rules_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="CHATKEEP_PROVIDER_DIALECTS"):
        Settings.from_env({"CHATKEEP_PROVIDER_DIALECTS": text})


def test_concurrent_calls_learn_independently() -> None:
    dialects = Dialects()
    dialects.learn("m", {"temperature": False})
    dialects.learn("m", {"system": "user"})
    assert dialects.of("m") == Dialect(temperature=False, system="user")


def test_streaming_is_tried_again_later() -> None:
    now = 1000.0
    dialects = Dialects([("set", DialectRule(stream=False))], clock=lambda: now)
    for model in ("m", "set-1"):
        dialects.learn(model, {"stream": False})
        dialects.learn(model, {"temperature": False})
    now += UNSTREAMED_SECONDS - 1
    assert dialects.of("m") == Dialect(stream=False, temperature=False)
    now += 2
    assert dialects.of("m") == Dialect(temperature=False), "nothing else is forgotten"
    assert dialects.of("set-1").stream is False
    dialects.learn("m", {"stream": False})
    assert dialects.of("m").stream is False


def test_learned_dialects_are_bounded() -> None:
    dialects = Dialects()
    for number in range(MOST_MODELS + 1):
        dialects.learn(f"m-{number}", {"temperature": False})
    assert dialects.of("m-0") == Dialect()
    assert dialects.of(f"m-{MOST_MODELS}") == Dialect(temperature=False)
