"""A text is a str in English, and can be translated with its values."""

from __future__ import annotations

import re
import time

import msgspec
import pytest

from chatkeep import errors
from chatkeep.config import parsing
from chatkeep.errors import Problem
from chatkeep.i18n import Text, language_of, text_of, translated, verbatim
from chatkeep.i18n.decoding import reason_of
from chatkeep.i18n.stored import recognized
from chatkeep.turns.live import StopReason
from docs import catalogue

IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
KINDS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Problem)]
# The rooms whose messages are stored as the error of a reply.
SAYERS = ("chatkeep/provider/", "chatkeep/turns/live.py", "chatkeep/httpclient/compression.py")
GAPPED = sorted(
    {found.message for found in catalogue.messages() if found.path.startswith(SAYERS) and "{" in found.message}
)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[1,]",
        '{"a":1,}',
        '{"a" 1}',
        '{"a":1 "b"}',
        "[1 2]",
        "{1:2}",
        "nul",
        "[.1]",
        "[01]",
        "1 2",
        '["\\x"]',
        '["\\u12"]',
        '["\\uzzzz"]',
        '["\\ud800"]',
        '["\\ud800\\u0041"]',
        '["a\nb"]',
        "[1.]",
    ],
)
def test_malformed_json_is_explained_in_chinese(body: str) -> None:
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(body)
    reason = reason_of(raised.value)
    assert reason == str(raised.value).removeprefix("JSON is malformed: ")
    assert not re.search("[a-z]{3}", translated(reason, "zh").replace("Unicode", ""))


@pytest.mark.parametrize(
    ("rules", "chinese"),
    [
        ('{"m":{"stream":1}}', "应为 bool | null，实为 int（位于 $[...].stream）"),
        ('{"m":{"x":1}}', "对象含有未知字段 x（位于 $[...]）"),
    ],
)
def test_wrong_dialects_are_explained_in_chinese(rules: str, chinese: str) -> None:
    with pytest.raises(ValueError, match="JSON object") as raised:
        parsing.dialects(rules)
    assert chinese in translated(text_of(raised.value), "zh")


def test_text_equals_its_english() -> None:
    text = Text("There is no file {path}.", path="a {b}")
    assert text == "There is no file a {b}."
    assert translated(text, "en") == text
    assert type(translated(text, "en")) is str


def test_nested_texts_are_translated_and_other_values_are_not() -> None:
    inner = Text("The provider is overloaded ({status})", status=503)
    said = Text("{error}. It said: {words}", error=inner, words="Key")
    assert translated(said, "zh") == "模型服务过载（503）。它说：Key"
    assert translated(verbatim("Key"), "zh") == "Key"
    assert translated(Text("Key"), "zh") != "Key"


def test_untranslated_text_stays_english() -> None:
    assert translated(Text("Something new {here}", here=1), "zh") == "Something new 1"
    assert translated(Text(""), "zh") == ""


def test_exceptions_keep_their_text() -> None:
    said = Text("There is no file {path}.", path="x")
    assert text_of(ValueError(said)) is said
    assert translated(text_of(OSError(2, "No such file")), "zh") == "[Errno 2] No such file"


def test_rewriting_changes_only_values() -> None:
    said = Text("{error}. It said: {words}", error=Text("The provider failed ({status})", status=500), words="call me")
    masked = said.rewritten(lambda words: words.replace("call me", "***"))
    assert translated(masked, "zh") == "模型服务出错（500）。它说：***"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_problem_has_chinese(kind: type[Problem]) -> None:
    assert IDEOGRAPH.search(translated(kind.title, "zh"))
    assert IDEOGRAPH.search(translated(kind().detail, "zh"))


@pytest.mark.parametrize("message", GAPPED)
def test_every_stored_message_is_recognized(message: str) -> None:
    names = re.findall(r"\{(\w+)\}", message)
    said = Text(message, **dict.fromkeys(names, "17"))
    assert recognized(str(said)).message == message


@pytest.mark.parametrize("ending", [StopReason.SLOW_START, StopReason.GAP, StopReason.TOTAL])
def test_stored_text_is_translated_with_its_values(ending: StopReason) -> None:
    said = Text("The provider was given up: {reason}.", reason=Text(ending.value))
    assert translated(recognized(str(said)), "zh") == translated(said, "zh")
    assert ending.value not in translated(said, "zh")


def test_unknown_stored_text_stays_as_it_is() -> None:
    assert translated(recognized("Said {years} ago"), "zh") == "Said {years} ago"


@pytest.mark.parametrize("message", GAPPED)
def test_stored_text_is_recognized_in_linear_time(message: str) -> None:
    """The worst text for a message repeats what stands between its gaps, and does not end as it does."""
    first, *others = re.split(r"\{\w+\}", message)
    worst = f"{first}x" + "x".join(others) * (100_000 // len(message))
    begun = time.process_time()
    recognized(worst)
    assert time.process_time() - begun < 0.5  # it is about a millisecond; quadratic time is minutes


def test_deeply_nested_stored_text_is_limited() -> None:
    assert recognized("The provider was given up: " * 10_000 + "x" + "." * 10_000) is not None


@pytest.mark.parametrize(
    ("locale", "language"), [("zh_CN.UTF-8", "zh"), ("zh", "zh"), ("en_GB", "en"), ("C", "en"), ("", "en")]
)
def test_language_follows_the_locale(locale: str, language: str) -> None:
    assert language_of(locale) == language
