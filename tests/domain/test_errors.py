"""The exception tree matches its docstring, and each leaf is a complete problem."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from chatkeep import errors
from chatkeep.errors import ChatkeepError, InternalError, Problem, problem_of_code
from chatkeep.i18n import verbatim
from chatkeep.web import problems

PICTURE = errors.__doc__ or ""
DRAWN = re.compile(r"─ (\w+)(?: +(\d{3}) +([\w, ]+))?")


def below(root: type[ChatkeepError]) -> Iterator[type[ChatkeepError]]:
    """Yield the tree's own classes; other modules may add what never reaches a caller."""
    for child in root.__subclasses__():
        if child.__module__.startswith(f"{errors.__name__}."):
            yield child
            yield from below(child)


PROBLEMS = [kind for kind in below(Problem) if issubclass(kind, Problem)]


def test_docstring_shows_the_whole_tree() -> None:
    drawn = {match[1] for match in DRAWN.finditer(PICTURE)}
    kinds = {kind.__name__: kind for kind in below(ChatkeepError)}
    assert drawn <= kinds.keys()
    # A kind that shares its parent's status stands there as a code.
    assert all(f" {kinds[name].code}" in PICTURE for name in kinds.keys() - drawn)  # type: ignore[attr-defined]


def test_docstring_shows_statuses_and_codes() -> None:
    for name, status, codes in DRAWN.findall(PICTURE):
        kind = getattr(errors, name)
        if status:
            assert str(kind.status) == status
            assert kind.code in {code.split()[0] for code in codes.split(", ")}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_problem_has_a_status_and_a_detail(kind: type[Problem]) -> None:
    assert 400 <= kind.status < 600
    assert kind().detail == (kind.advice or kind.title)
    assert kind(verbatim("Because.")).detail == str(kind(verbatim("Because."))) == "Because."


def test_codes_are_unique() -> None:
    leaves = [kind for kind in PROBLEMS if not kind.__subclasses__() or "code" in vars(kind)]
    codes = [kind.code for kind in leaves if kind is not errors.ProviderError]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("kind", [kind for kind in PROBLEMS if kind is not errors.ProviderError])
def test_stored_code_becomes_its_problem(kind: type[Problem]) -> None:
    assert problem_of_code(kind.code).status == kind.status
    assert problem_of_code(kind.code).title == kind.title


def test_unknown_code_is_an_internal_error() -> None:
    assert type(problem_of_code("no_such_code")) is InternalError


def test_problem_is_rendered_with_its_fields() -> None:
    wrong = errors.InvalidFields(verbatim("Look."), errors=[errors.FieldError("a.b", verbatim("is odd"))])
    shape = problems.shape(wrong, "id-1")
    assert (shape.type, shape.status, shape.request_id) == ("urn:chatkeep:problem:invalid_fields", 422, "id-1")
    assert [(error.field, error.message) for error in shape.errors] == [("a.b", "is odd")]
