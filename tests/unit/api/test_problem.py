from __future__ import annotations

import json

import pytest

from vmorch import errors
from vmorch.errors import BuildFailed, InvalidSpec, SpecProblem, VmorchError
from vmorch.model.problem import from_problem, to_problem

PLAIN = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, VmorchError)
    and kind not in (InvalidSpec, BuildFailed)
]


@pytest.mark.parametrize("kind", PLAIN)
def test_every_error_comes_back_as_itself(kind: type[VmorchError]) -> None:
    sent = kind("It broke.", hint="Mend it.", retryable=True)
    found = from_problem(json.loads(json.dumps(to_problem(sent))))
    assert type(found) is kind
    assert (found.message, found.hint, found.retryable) == ("It broke.", "Mend it.", True)
    assert found.exit_code == kind.exit_code


def test_problems_and_build_output_come_back() -> None:
    problems = [SpecProblem("a.yaml", 3, 5, "services.x", "no"), SpecProblem("b", 0, 0, "", "no")]
    spec = from_problem(json.loads(json.dumps(to_problem(InvalidSpec(problems, hint="h")))))
    assert isinstance(spec, InvalidSpec)
    assert (spec.problems, spec.exit_code) == (problems, 3)
    sent = BuildFailed("no", file="Dockerfile", line=4, output="tail")
    build = from_problem(json.loads(json.dumps(to_problem(sent))))
    assert isinstance(build, BuildFailed)
    assert (build.file, build.line, build.output) == ("Dockerfile", 4, "tail")


def test_a_newer_daemons_error_keeps_its_exit_code() -> None:
    found = from_problem({"code": "of-tomorrow", "exit_code": 7, "detail": "d", "hint": "h"})
    assert (found.exit_code, found.message, found.hint) == (7, "d", "h")
    assert VmorchError("x").exit_code == 1


def test_a_document_that_is_no_problem_is_an_error_all_the_same() -> None:
    assert from_problem({}).message
