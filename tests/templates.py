"""Chat templates like those of open models: strict about roles, in three ways.

A model server renders the messages with its model's template, and refuses the request if the template raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import jinja2

_ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
_TURNS = """
{%- for message in turns %}
  {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}{{ refuse(alternate) }}{% endif %}
  {%- if not message.content.strip() %}{{ refuse("Message content must not be empty") }}{% endif %}
  {%- if message.role == "user" %}[user]{{ message.content }}
  {%- elif message.role == "assistant" %}[model]{{ message.content }}[end]
  {%- else %}{{ refuse("Only user and assistant roles are supported!") }}
  {%- endif %}
{%- endfor %}
{%- if turns[-1].role != "user" %}{{ refuse("The last message must be from the user") }}{% endif %}
"""
_OPTIONAL_SYSTEM = """
{%- set turns = messages[1:] if messages[0].role == "system" else messages %}
{%- if turns != messages %}[system]{{ messages[0].content }}{% endif %}
"""
TEMPLATES = {
    "llama": _OPTIONAL_SYSTEM + _TURNS,
    "mistral": "{% set turns = messages %}" + _TURNS,  # the first versions: a system prompt breaks the order
    "gemma": """
{%- set turns = messages %}
{%- if messages[0].role == "system" %}{{ refuse("System role not supported") }}{% endif %}
"""
    + _TURNS,
}


class Refused(Exception):
    """The template refuses the messages; the message says why."""


def render(name: str, messages: Sequence[Mapping[str, str]]) -> str:
    """Return a model's prompt. Raises `Refused`."""
    return _COMPILED[name].render(messages=messages, alternate=_ALTERNATE, refuse=_refuse)


def _refuse(reason: str) -> NoReturn:
    raise Refused(reason)


_ENVIRONMENT = jinja2.Environment(autoescape=False)  # noqa: S701 - it makes no HTML
_COMPILED = {name: _ENVIRONMENT.from_string(text) for name, text in TEMPLATES.items()}
