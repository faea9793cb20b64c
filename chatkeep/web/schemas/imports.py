"""The JSON of imports."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.imports import Outcome, Report
from chatkeep.imports.left_out import noun
from chatkeep.imports.writer import PROBLEMS
from chatkeep.runtime.i18n import Language, translated


class ImportQuery(Struct, forbid_unknown_fields=True):
    """How to import."""

    ttl: (
        Annotated[
            str,
            Meta(
                max_length=32,
                description="Keep every conversation of the file for this long from now on, also those that are there"
                " already: seconds, a duration such as `30d`, or `never`. Without it those of other programs do not"
                " expire, and chatkeep's own keep their ttl.",
            ),
        ]
        | None
    ) = None


class ImportedConversations(Struct):
    """What became of the file's conversations."""

    added: int
    present: Annotated[int, Meta(description="They were there already, and nothing of them was missing.")]
    updated: Annotated[int, Meta(description="They were brought up to date, or got messages that were missing.")]
    deleted: Annotated[int, Meta(description="An increment said that they are gone.")]
    expired: Annotated[int, Meta(description="Their time was over, so they were left out.")]


class ImportProblem(Struct):
    """A record that was not imported."""

    line: Annotated[int, Meta(description="Where it begins in its document, counted from 1.")]
    message: str


class LeftOut(Struct):
    """Something that other programs' conversations hold, and that was not imported."""

    kind: Annotated[str, Meta(description="Such as `tool_call`, `picture` or `file`, or the program's own type.")]
    count: int
    message: Annotated[str, Meta(description="Both in words, in the caller's language.")]


class Import(Struct, kw_only=True):
    """What an import did."""

    object: Literal["import"] = "import"
    conversations: ImportedConversations
    messages: Annotated[int, Meta(description="How many were stored.")]
    left_out: Annotated[list[LeftOut], Meta(description="What is not imported, the most frequent first.")]
    problem_count: int
    problems: Annotated[list[ImportProblem], Meta(description="The first thousand of them.")]


def import_of(reports: list[Report], language: Language) -> Import:
    """Return the shape of the reports on a file's documents; what is wrong with their records is told in a language."""
    counts = sum((report.conversations for report in reports), Counter[str]())
    left_out = sum((report.left_out for report in reports), Counter[str]())
    problems = [problem for report in reports for problem in report.problems]
    return Import(
        conversations=ImportedConversations(
            added=counts[Outcome.ADDED],
            present=counts[Outcome.PRESENT],
            updated=counts[Outcome.UPDATED],
            deleted=counts[Outcome.DELETED],
            expired=counts[Outcome.EXPIRED],
        ),
        messages=sum(report.messages for report in reports),
        left_out=[
            LeftOut(kind, count, f"{count} {translated(noun(kind, count), language)}")
            for kind, count in left_out.most_common()
        ],
        problem_count=sum(report.problem_count for report in reports),
        problems=[ImportProblem(problem.line, translated(problem.reason, language)) for problem in problems[:PROBLEMS]],
    )
