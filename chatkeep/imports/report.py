"""The report of an import: outcomes, problems, and what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from chatkeep.imports.left_out import OTHER, Kind
from chatkeep.imports.records import BadRecord

# Problems listed in a report. Any beyond that are only counted.
PROBLEMS = 1_000
# Kinds of skipped content that get their own count.
KINDS = 100


class Outcome(StrEnum):
    """The outcome of importing one conversation."""

    ADDED = "added"
    PRESENT = "present"  # already stored in full
    UPDATED = "updated"
    DELETED = "deleted"
    EXPIRED = "expired"  # skipped
    NOTHING = "nothing"  # to be deleted, but not stored
    FOREIGN = "foreign"  # its id belongs to another owner: import it under derived ids
    BURIED = "buried"  # rows of its deleted or expired predecessor are in the way: remove them first


@dataclass(slots=True)
class Report:
    """What an import did."""

    conversations: Counter[str] = field(default_factory=Counter)
    """Conversations by `Outcome`."""
    messages: int = 0
    """Messages stored."""
    problems: list[BadRecord] = field(default_factory=list)
    """The first `PROBLEMS` records that could not be imported."""
    problem_count: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Content of other programs that was skipped, by kind."""

    def add_left_out(self, counts: Counter[str]) -> None:
        """Count skipped content. Unknown kinds beyond `KINDS` are counted as `OTHER`."""
        for kind, count in counts.items():
            is_named = kind in self.left_out or kind in set(Kind) or len(self.left_out) < KINDS
            self.left_out[kind if is_named else OTHER] += count

    def add_problem(self, problem: BadRecord) -> None:
        """Count a bad record, and list it if it is one of the first."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(problem)
