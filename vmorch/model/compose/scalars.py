"""Which value a plain YAML scalar has: the core schema of YAML 1.2, as Compose reads it.

PyYAML's own resolver follows YAML 1.1, where `22:22` is the number 1342 (base 60), `no` is false
and `2024-01-01` a date. Of 1.1 only octal `0644` is kept, as Compose's own parser keeps it.
"""

from __future__ import annotations

import re

from vmorch.model.compose.nodes import Plain

# A number with more characters is text: nobody means it, and converting it takes long.
_LONGEST_NUMBER = 40
_WORDS: dict[str, Plain] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGERS = (
    (re.compile(r"[-+]?(?:0|[1-9][0-9]*)"), 10),
    (re.compile(r"0o?[0-7]+"), 8),
    (re.compile(r"0x[0-9a-fA-F]+"), 16),
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def resolve(text: str) -> Plain:
    """The value of an untagged plain scalar. May be an infinite float or NaN."""
    if len(text) > _LONGEST_NUMBER:
        return text
    if text in _WORDS:
        return _WORDS[text]
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(text):
            return int(text.replace("0o", "0", 1), base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
