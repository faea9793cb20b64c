"""The JSON of imports."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkeep.i18n import Language, translated
from chatkeep.imports import Outcome, Report
from chatkeep.imports.left_out import noun
from chatkeep.imports.report import PROBLEMS


class ImportQuery(Struct, forbid_unknown_fields=True):
    """How to import."""

    ttl: (
        Annotated[
            str,
            Meta(
                max_length=32,
                description="How long to keep the file's conversations from now on: seconds, a duration such as `30d`,"
                " or `never`. By default, chatkeep's own keep their `ttl`, and others don't expire.",
            ),
        ]
        | None
    ) = None


class ImportedConversations(Struct):
    """What the import did with the conversations in the file."""

    added: int
    present: Annotated[int, Meta(description="Already stored and complete.")]
    updated: Annotated[int, Meta(description="Updated, or missing messages added.")]
    deleted: Annotated[int, Meta(description="Deleted because of a tombstone in an incremental export.")]
    expired: Annotated[int, Meta(description="Skipped because they had expired.")]


class ImportProblem(Struct):
    """A record that was not imported."""

    line: Annotated[int, Meta(description="The line where the record begins.")]
    message: str


class LeftOut(Struct):
    """A kind of content from another program that was not imported."""

    kind: Annotated[str, Meta(description="For example `tool_call`, `picture` or `file`.")]
    count: int
    message: Annotated[str, Meta(description="Count and kind in the caller's language.")]


class Import(Struct, kw_only=True):
    """The result of an import."""

    object: Literal["import"] = "import"
    conversations: ImportedConversations
    messages: Annotated[int, Meta(description="Messages stored.")]
    left_out: Annotated[list[LeftOut], Meta(description="Content that was not imported, most frequent first.")]
    problem_count: int
    problems: Annotated[list[ImportProblem], Meta(description="The first 1,000 problems.")]


def import_of(reports: list[Report], language: Language) -> Import:
    """Return the JSON of the reports on a file's documents, with texts in a language."""
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
