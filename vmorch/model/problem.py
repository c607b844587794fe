"""Errors on their way through HTTP: problem+json (RFC 9457) from a VmorchError and back."""

from __future__ import annotations

from typing import Any

from vmorch import errors
from vmorch.errors import BuildFailed, InvalidSpec, SpecProblem, VmorchError

MEDIA_TYPE = "application/problem+json"


def to_problem(error: VmorchError) -> dict[str, Any]:
    """`detail` says what happened and `hint` what to do; `code` names the class of the error."""
    return {
        **error.details(),
        "type": f"urn:vmorch:error:{error.code}",
        "title": error.code.replace("-", " ").capitalize(),
        "status": error.http_status,
        "detail": error.message,
        "hint": error.hint,
        "code": error.code,
        "exit_code": error.exit_code,
        "retryable": error.retryable,
    }


def from_problem(problem: dict[str, Any]) -> VmorchError:
    """The error that `problem` was made from; an unknown code (a newer daemon's) becomes a plain
    VmorchError with the exit code that it carries."""
    message = str(problem.get("detail") or problem.get("title") or "The daemon reported an error.")
    hint = str(problem.get("hint") or "")
    kind = _by_code().get(str(problem.get("code")))
    if kind is InvalidSpec:
        return _invalid_spec(problem, message, hint)
    if kind is BuildFailed:
        return BuildFailed(
            message,
            hint=hint,
            file=str(problem.get("file") or ""),
            line=int(problem.get("line") or 0),
            output=str(problem.get("output") or ""),
        )
    error = (kind or VmorchError)(
        message, hint=hint, retryable=bool(problem.get("retryable", False))
    )
    if kind is None and isinstance(problem.get("exit_code"), int):
        # An instance attribute over the class's own: only this error differs.
        object.__setattr__(error, "exit_code", problem["exit_code"])
    return error


def _invalid_spec(problem: dict[str, Any], message: str, hint: str) -> InvalidSpec:
    rows = problem.get("problems") or []
    if not rows:
        return InvalidSpec([SpecProblem("", 0, 0, "", message)], hint=hint)
    return InvalidSpec(
        [
            SpecProblem(
                file=str(row.get("file", "")),
                line=int(row.get("line", 0)),
                column=int(row.get("column", 0)),
                path=str(row.get("path", "")),
                message=str(row.get("message", "")),
            )
            for row in rows
        ],
        hint=hint,
    )


def _by_code() -> dict[str, type[VmorchError]]:
    kinds = vars(errors).values()
    return {
        kind.code: kind
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, VmorchError)
    }
