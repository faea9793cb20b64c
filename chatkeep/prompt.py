"""From what a conversation holds to what the provider is sent; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from chatkeep.errors import ContextTooLong
from chatkeep.model import Prompt, PromptMessage, Role, Said


def build_prompt(
    model: str,
    system: str | None,
    latest: Sequence[Said],
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> Prompt:
    """Return the prompt of a turn: the system prompt, then the last messages, oldest first.

    Replies without text (failed or stopped before the first token) are left out: many providers refuse an empty one.
    So are questions that are too long by themselves: with one of them in it, every prompt would be refused.
    """
    leading = [PromptMessage(Role.SYSTEM, system)] if system else []
    followed = zip(latest, [*latest[1:], None], strict=False)
    spoken = [
        PromptMessage(one.role, one.content) for one, reply in followed if one.content and not _is_too_long(reply)
    ]
    return Prompt(model, (*leading, *spoken), temperature, max_tokens)


def shorter_prompts(prompt: Prompt) -> Iterator[Prompt]:
    """Yield what is left of a prompt without its oldest turns: the newer half of them, then the last one alone.

    A turn is a question with its reply. The system prompt stays, and so does the newest question.
    """
    questions = [index for index, message in enumerate(prompt.messages) if message.role is Role.USER]
    starts = sorted({questions[-max(len(questions) // 2, 1)], questions[-1]}) if questions else []
    for start in starts:
        dropped, newest = prompt.messages[:start], prompt.messages[start:]
        system = tuple(message for message in dropped if message.role is Role.SYSTEM)
        if system != dropped:
            yield replace(prompt, messages=system + newest)


def _is_too_long(reply: Said | None) -> bool:
    """Return whether a reply tells that the question before it is too long: no prompt with it was short enough."""
    return reply is not None and reply.error == ContextTooLong.code and not reply.content
