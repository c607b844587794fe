"""The forms that single values take. A form reads a value, says how two files' values merge, and
gives its JSON Schema: the validator and the schema cannot differ, as both come from here.

Containers of forms are in `containers`.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmorch.model.compose import quantities
from vmorch.model.compose.availability import not_available
from vmorch.model.compose.nodes import Node, Scalar, describe, one_line
from vmorch.model.compose.reading import Reading, Wrong, did_you_mean

Schema = dict[str, Any]
# Before interpolation, a text with a variable in it may stand for any scalar.
VARIABLE: Schema = {"type": "string", "pattern": r"\$"}


class Form(abc.ABC):
    """One way to write a value. `expects` completes "expected …" in messages."""

    expects: str

    @abc.abstractmethod
    def read(self, node: Node, path: str, reading: Reading) -> Any:
        """The value of `node`. Problems inside it are added to `reading`.

        Raises:
            Wrong: the node as a whole is not of this form.
        """

    @abc.abstractmethod
    def schema(self) -> Schema:
        """Its patterns must mean the same to ECMAScript, which editors use, and to Python."""

    def merge(self, old: Node, new: Node) -> Node:
        """What stays when a later file says `new` where an earlier one said `old`. Never fails:
        values of the wrong form are reported where they are read."""
        return new


@dataclass(frozen=True)
class Word(Form):
    """A scalar. Text must match `pattern` whole; numbers are taken if `integers` gives a range
    or `numbers` is set, booleans if `booleans` is. `parse` gets the text as written and may
    raise ValueError with a sentence."""

    expects: str
    pattern: str = ""
    parse: Callable[[str], Any] = str
    integers: range | None = None
    numbers: bool = False
    booleans: bool = False

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node, Scalar) or not self._fits(node):
            raise Wrong(f"Expected {self.expects}, found {describe(node)}.{self._advice(node)}")
        if "\0" in node.text:
            raise Wrong("A text cannot hold the character NUL.")
        try:
            return self.parse(self._text(node))
        except ValueError as error:
            raise Wrong(str(error)) from error

    def _fits(self, node: Scalar) -> bool:
        match node.value:
            case bool():
                return self.booleans
            case int() | float() as number:
                whole = self.integers is not None and float(number).is_integer()
                return self.numbers or (whole and int(number) in (self.integers or ()))
            case str() as text:
                return not self.pattern or re.fullmatch(self.pattern, text) is not None
        return False

    def _text(self, node: Scalar) -> str:
        if isinstance(node.value, bool):
            return node.text.lower()
        if self.integers is not None and isinstance(node.value, (int, float)):
            return str(int(node.value)) if float(node.value).is_integer() else str(node.value)
        return node.text

    def _advice(self, node: Node) -> str:
        if self.pattern or not isinstance(node, Scalar) or node.value is None:
            return ""
        return f' Put it in quotes: "{one_line(node.text, 60)}".'

    def schema(self) -> Schema:
        any_of: list[Schema] = [{"type": "string"}]
        if self.pattern:
            any_of = [{"type": "string", "pattern": f"^(?:{self.pattern})$"}, VARIABLE]
        if self.numbers:
            any_of.append({"type": "number"})
        elif self.integers is not None:
            low, high = self.integers.start, self.integers.stop - 1
            any_of.append({"type": "integer", "minimum": low, "maximum": high})
        if self.booleans:
            any_of.append({"type": "boolean"})
        return any_of[0] if len(any_of) == 1 else {"anyOf": any_of}


@dataclass(frozen=True)
class Choice(Form):
    """One of a few words. `later` are those that a later version of vmorch will know."""

    words: tuple[str, ...]
    later: tuple[str, ...] = ()

    @property
    def expects(self) -> str:  # type: ignore[override]
        return " or ".join(self.words)

    def read(self, node: Node, path: str, reading: Reading) -> str:
        if isinstance(node, Scalar) and node.value in self.words:
            return node.text
        if isinstance(node, Scalar) and node.value in self.later:
            raise Wrong(not_available(node.text))
        near = did_you_mean(node.text, self.words) if isinstance(node, Scalar) else ""
        raise Wrong(f"Expected {self.expects}, found {describe(node)}.{near}")

    def schema(self) -> Schema:
        return {"anyOf": [{"enum": list(self.words)}, VARIABLE]}


_TRUE = ("true", "yes", "on", "y", "t", "1")
_FALSE = ("false", "no", "off", "n", "f", "0")
_LARGE = range(2**63)

TEXT = Word("a text")
# As in an environment, where every value is text in the end.
VALUE = Word("a text, a number or a boolean", numbers=True, booleans=True)
BOOLEAN = Word(
    "true or false",
    "|".join(case(word) for word in _TRUE + _FALSE for case in (str, str.title, str.upper)),
    lambda text: text.lower() in _TRUE,
    booleans=True,
)
COUNT = Word("a whole number", "[0-9]{1,9}", int, integers=range(10**9))
CPUS = Word("a number of CPUs such as 0.5", quantities.DECIMAL, float, numbers=True)
BYTES = Word("a size such as 512M or 2G", quantities.BYTES, quantities.byte_count, integers=_LARGE)
DURATION = Word("a time such as 10s or 1m30s", quantities.DURATION, quantities.duration_seconds)
PORT = Word("a port from 1 to 65535", quantities.PORT, int, integers=range(1, 65536))
PATH = Word("an absolute path", r"/[^\n]*")
ADDRESS = Word("an IPv4 address", quantities.IPV4)
