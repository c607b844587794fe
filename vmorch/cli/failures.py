"""How an error reaches the user: what happened, what to do, and the exit code."""

from __future__ import annotations

import sys

from vmorch.cli.output import clean
from vmorch.errors import BuildFailed, VmorchError

_OUTPUT_LINES = 30


def tell(error: Exception) -> int:
    """Write `error` to standard error; the exit code."""
    if not isinstance(error, VmorchError):
        _write(f"error: vmorch failed unexpectedly: {type(error).__name__}: {error}")
        _write("Run the command again as 'vmorch --debug …' and report the traceback.")
        return 1
    if isinstance(error, BuildFailed) and error.output:
        for line in error.output.splitlines()[-_OUTPUT_LINES:]:
            _write(f"  | {line}")
    place = f"{error.file}:{error.line}: " if isinstance(error, BuildFailed) and error.file else ""
    _write(f"error: {place}{error.message}" if error.code != "invalid-spec" else error.message)
    if error.hint:
        _write(error.hint)
    return error.exit_code


def _write(text: str) -> None:
    for line in text.splitlines() or [""]:
        print(clean(line), file=sys.stderr)
