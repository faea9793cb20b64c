"""Build the prompt of a turn from a conversation's messages; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from msgspec.structs import replace

from chatkeep.domain.conversation import CONTENT_FILTER, Prompt, PromptMessage, Role, Said
from chatkeep.errors import ContextTooLong
from chatkeep.provider.thinking import split_unopened


def build_prompt(
    model: str,
    system: str | None,
    latest: Sequence[Said],
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> Prompt:
    """Return the prompt of a turn: the system prompt, then the last messages, oldest first.

    The first message is a question: replies before the first question of ``latest`` are left out. Messages without text
    are left out, such as replies that failed before the first token, because many providers refuse empty messages.
    Questions that spoil every prompt are left out: too long by themselves, or filtered by the provider.
    """
    leading = [PromptMessage(Role.SYSTEM, system)] if system and system.strip() else []
    followed = zip(latest, [*latest[1:], None], strict=False)
    spoken = [PromptMessage(one.role, _sent(one)) for one, reply in followed if _is_sent(one, reply)]
    return Prompt(model, (*leading, *_from_first_question(spoken)), temperature, max_tokens)


def alternating(prompt: Prompt) -> Prompt:
    """Return a prompt for strict chat templates: at most one system prompt, then user and assistant alternating.

    Consecutive messages of one role, such as two questions of which the first has no answer, become one message.
    """
    roles = [message.role for message in prompt.messages]
    if Role.SYSTEM not in roles[1:] and all(role is not after for role, after in pairwise(roles)):
        return prompt
    system = [message.content for message in prompt.messages if message.role is Role.SYSTEM]
    spoken = (message for message in prompt.messages if message.role is not Role.SYSTEM)
    runs = [(role, [message.content for message in run]) for role, run in groupby(spoken, lambda message: message.role)]
    if system:
        runs.insert(0, (Role.SYSTEM, system))
    return replace(prompt, messages=tuple(PromptMessage(role, "\n\n".join(texts)) for role, texts in runs))


def answered_prompt(prompt: Prompt) -> Prompt | None:
    """Return a prompt without the earlier questions that have no answer, or None if there are none.

    The provider may have refused one of them for its content, and would refuse every prompt that repeats it.
    """
    followed = zip(prompt.messages, [*prompt.messages[1:], None], strict=False)
    kept = tuple(one for one, after in followed if not (after and one.role is after.role is Role.USER))
    return replace(prompt, messages=kept) if len(kept) < len(prompt.messages) else None


def shorter_prompts(prompt: Prompt) -> Iterator[Prompt]:
    """Yield a prompt with only the newer half of its turns, then with only the last one.

    A turn is a question with its reply. The system prompt and the newest question always stay.
    """
    questions = [index for index, message in enumerate(prompt.messages) if message.role is Role.USER]
    starts = sorted({questions[-max(len(questions) // 2, 1)], questions[-1]}) if questions else []
    for start in starts:
        dropped, newest = prompt.messages[:start], prompt.messages[start:]
        system = tuple(message for message in dropped if message.role is Role.SYSTEM)
        if system != dropped:
            yield replace(prompt, messages=system + newest)


def _sent(one: Said) -> str:
    """Return a message's text without reasoning, including reasoning that was not recognized as such."""
    return one.content if one.role is not Role.ASSISTANT else split_unopened(one.content)[1]


def _is_sent(one: Said, reply: Said | None) -> bool:
    """Return whether a message is sent, given the next one; the newest question always is."""
    has_text = bool(_sent(one).strip()) or (reply is None and one.role is Role.USER)
    return has_text and not _blames_its_question(reply)


def _from_first_question(spoken: Sequence[PromptMessage]) -> list[PromptMessage]:
    first = next((index for index, one in enumerate(spoken) if one.role is Role.USER), len(spoken))
    return [one for index, one in enumerate(spoken) if index >= first or one.role is Role.SYSTEM]


def _blames_its_question(reply: Said | None) -> bool:
    """Return whether a reply has no text because its question was too long by itself, or filtered."""
    if reply is None or reply.content:
        return False
    return reply.error == ContextTooLong.code or reply.finish_reason == CONTENT_FILTER
