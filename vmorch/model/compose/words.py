"""Splits a command written as one line into its words, and back, as a POSIX shell would."""

from __future__ import annotations

import shlex


def split_words(line: str) -> tuple[str, ...]:
    """The words of `line`; quotes and backslashes as in a shell, nothing is expanded.

    Raises:
        ValueError: a quote is not closed.
    """
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise ValueError(
            f"The command cannot be split into words: {error}.".lower().capitalize()
        ) from error
