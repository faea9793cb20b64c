"""An offline demo model, to try chatkeep without a provider."""

# ruff: noqa: RUF001 - Chinese punctuation

from __future__ import annotations

import re
import threading

from chatkeep.domain.conversation import Delta, Finish, Prompt, Role, Usage
from chatkeep.provider import Receive

_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_CHARACTERS = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# A word with the white space before it. Of scripts without spaces, two characters.
_TOKEN = re.compile(rf"\s*(?:[{_WIDE}]{{1,2}}|[^\s{_WIDE}]+)|\s+")
_QUOTE_LIMIT = 200

_SET_UP = """\
```sh
OPENAI_API_KEY=...        # {key}
OPENAI_BASE_URL=...       # {url}
CHATKEEP_MODEL=...        # {model}
```"""
_ENGLISH = """\
You said: “{question}”

I am chatkeep's **demo model**. I run offline and know nothing, but I show that everything around me works:

- this reply is streamed word by word, and stored as it appears;
- I was given {count} of this conversation as context{first}.

For real answers, set a provider in `.env` and start chatkeep again:

""" + _SET_UP.format(
    key="the provider's key",
    url="for any other OpenAI-compatible API",
    model="the model that answers",
)
_CHINESE = """\
你说的是：“{question}”

我是 chatkeep 的**演示模型**。我离线运行，什么都不懂，但可以证明周围的一切都正常：

- 这条回复逐字流式输出，并且边显示边保存；
- 作为上下文，我收到了本次对话的 {count} 条消息{first}。

想要真正的回答，请在 `.env` 中设置模型服务，然后重新启动 chatkeep：

""" + _SET_UP.format(key="模型服务的密钥", url="其他兼容 OpenAI 的接口地址", model="回答问题的模型")


class DemoProvider:
    """A provider without a network that answers in the language of the question."""

    name = "demo"
    default_model = "demo"

    def __init__(self, pace: float = 0.02) -> None:
        """Set the seconds between two tokens."""
        self._pace = pace

    def stream_reply(self, prompt: Prompt) -> DemoCall:
        """Return a call."""
        return DemoCall(prompt, self._pace)

    def close(self) -> None:
        """Do nothing."""


class DemoCall:
    """One answer of the demo model."""

    def __init__(self, prompt: Prompt, pace: float) -> None:
        self._prompt = prompt
        self._pace = pace
        self._aborted = threading.Event()

    def deliver(self, receive: Receive) -> None:
        """Pass the answer's words to ``receive``, then its finish."""
        tokens = _TOKEN.findall(answer(self._prompt))
        limit = self._prompt.max_tokens or len(tokens)
        for token in tokens[:limit]:
            if self._aborted.wait(self._pace):
                return
            receive(Delta(token))
        reason = "stop" if limit >= len(tokens) else "length"
        given = sum(len(_TOKEN.findall(message.content)) for message in self._prompt.messages)
        receive(Finish(reason, Usage(given, min(limit, len(tokens))), self._prompt.model))

    def abort(self) -> None:
        """End the answer before its next word."""
        self._aborted.set()


def answer(prompt: Prompt) -> str:
    """Return the demo model's whole answer to ``prompt``."""
    said = [message.content for message in prompt.messages if message.role is Role.USER]
    question = _quoted(said[-1] if said else "")
    count = sum(message.role is not Role.SYSTEM for message in prompt.messages)
    if _CHARACTERS.search(question):
        first = f"，第一条你说的是“{_quoted(said[0])}”" if len(said) > 1 else ""
        return _CHINESE.format(question=question, count=count, first=first)
    first = f", which began with “{_quoted(said[0])}”" if len(said) > 1 else ""
    return _ENGLISH.format(question=question, count=f"{count} message{'s' * (count != 1)}", first=first)


def _quoted(text: str) -> str:
    """Return ``text`` on one line, truncated, with Markdown characters escaped."""
    line = re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split())[:_QUOTE_LIMIT])
    return line + "…" * (len(text) > _QUOTE_LIMIT)
