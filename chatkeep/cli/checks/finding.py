"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, with advice."""

    status: Literal["ok", "warn", "fail"]
    about: str
    told: str
    advice: str = ""


def fine(about: str, told: str) -> Finding:
    """Report success."""
    return Finding("ok", about, told)


def doubtful(about: str, told: str, advice: str) -> Finding:
    """Report a warning: the server works, but the operator should know this."""
    return Finding("warn", about, told, advice)


def broken(about: str, told: str, advice: str) -> Finding:
    """Report a failure: the server does not start or does not work."""
    return Finding("fail", about, told, advice)
