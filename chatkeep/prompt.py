"""From what a conversation holds to what the provider is sent; pure."""

from __future__ import annotations

from collections.abc import Sequence

from chatkeep.model import Prompt, PromptMessage, Role


def build_prompt(
    model: str,
    system: str | None,
    latest: Sequence[tuple[Role, str]],
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> Prompt:
    """Return the prompt of a turn: the system prompt, then the last messages, oldest first.

    Replies without text (failed or stopped before the first token) are left out: many providers refuse an empty one.
    """
    leading = [PromptMessage(Role.SYSTEM, system)] if system else []
    spoken = [PromptMessage(role, content) for role, content in latest if content]
    return Prompt(model, (*leading, *spoken), temperature, max_tokens)
