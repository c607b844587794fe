"""Splits a command written as one line into its words, as a POSIX shell would."""

from __future__ import annotations

import shlex

# shlex takes a time that grows with the square of the length.
LONGEST_COMMAND = 16 * 1024


def split_words(line: str) -> tuple[str, ...]:
    """The words of `line`; quotes and backslashes as in a shell, nothing is expanded.

    Raises:
        ValueError: a quote is not closed, or the line is too long.
    """
    if len(line) > LONGEST_COMMAND:
        raise ValueError(
            f"A command of more than {LONGEST_COMMAND} characters must be a list of words."
        )
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        reason = str(error).lower()
        raise ValueError(f"The command cannot be split into words: {reason}.") from error
