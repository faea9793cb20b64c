"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatkeep.i18n import Text


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, with advice."""

    status: Literal["ok", "warn", "fail"]
    about: Text
    told: Text
    advice: Text | None = None


def fine(about: Text, told: Text) -> Finding:
    """Report success."""
    return Finding("ok", about, told)


def doubtful(about: Text, told: Text, advice: Text) -> Finding:
    """Report a warning: the server works, but the operator should know this."""
    return Finding("warn", about, told, advice)


def broken(about: Text, told: Text, advice: Text) -> Finding:
    """Report a failure: the server does not start or does not work."""
    return Finding("fail", about, told, advice)
