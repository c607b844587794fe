"""`healthcheck:`, with vmorch's HTTP and TCP forms beside Compose's CMD, CMD-SHELL and NONE."""

from __future__ import annotations

from typing import NamedTuple

from vmorch.model.compose import quantities
from vmorch.model.compose.forms import BOOLEAN, COUNT, DURATION, PORT, TEXT, Form, Schema, Word
from vmorch.model.compose.nodes import Items, Node, Scalar, describe, quoted
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.compose.reading import Reading, Wrong, did_you_mean
from vmorch.model.spec import HealthCheck, HealthKind

_PATH = Word("a path of ASCII without spaces and apostrophes", quantities.CHECK_PATH)


class Test(NamedTuple):
    kind: HealthKind
    argument: tuple[str, ...] = ()
    port: int | None = None


# After the first word: which values follow, and how many of them must.
_ARGUMENTS: dict[str, tuple[tuple[Form, ...], int]] = {
    "HTTP": ((_PATH, PORT), 0),
    "TCP": ((PORT,), 0),
    "CMD-SHELL": ((TEXT,), 1),
    "NONE": ((), 0),
}


class TestForm(Form):
    expects = "a command, or a list that begins with HTTP, TCP, CMD, CMD-SHELL or NONE"

    def read(self, node: Node, path: str, reading: Reading) -> Test:
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
            return Test(HealthKind.CMD_SHELL, (TEXT.read(node, path, reading),))
        if not isinstance(node, Items) or not node.items:
            raise Wrong(f"Expected {self.expects}, found {describe(node)}.")
        word, *rest = node.items
        name = word.text if isinstance(word, Scalar) else ""
        if name == "CMD":
            return Test(HealthKind.CMD, self._command(word, rest, path, reading))
        if name not in _ARGUMENTS:
            near = did_you_mean(name.upper(), [*_ARGUMENTS, "CMD"])
            raise Wrong(f"{quoted(name)} is no kind of check.{near}", word.mark)
        forms, least = _ARGUMENTS[name]
        if not least <= len(rest) <= len(forms):
            raise Wrong(f"'{name}' takes {_count(least, len(forms))} after it, not {len(rest)}.")
        found = [form.read(item, path, reading) for form, item in zip(forms, rest, strict=False)]
        return self._test(HealthKind(name), found)

    def _command(
        self, word: Node, rest: list[Node], path: str, reading: Reading
    ) -> tuple[str, ...]:
        if not rest:
            raise Wrong("'CMD' needs a command after it.", word.mark)
        return tuple(TEXT.read(item, path, reading) for item in rest)

    def _test(self, kind: HealthKind, found: list[object]) -> Test:
        ports = [value for value in found if isinstance(value, int)]
        texts = tuple(value for value in found if isinstance(value, str))
        return Test(kind, texts, next(iter(ports), None))

    def schema(self) -> Schema:
        lists = [
            _list_schema(name, [form.schema() for form in forms], least)
            for name, (forms, least) in _ARGUMENTS.items()
        ]
        command = {
            "type": "array",
            "prefixItems": [{"const": "CMD"}],
            "items": {"type": "string"},
            "minItems": 2,
        }
        return {"anyOf": [{"type": "string", "minLength": 1}, *lists, command]}


def _count(least: int, most: int) -> str:
    counts = sorted({least, most})
    return " to ".join("nothing" if count == 0 else f"{count}" for count in counts)


def _list_schema(name: str, arguments: list[Schema], least: int) -> Schema:
    return {
        "type": "array",
        "prefixItems": [{"const": name}, *arguments],
        "minItems": 1 + least,
        "maxItems": 1 + len(arguments),
    }


def _build(values: Values) -> HealthCheck:
    test = values.get("test") or Test(HealthKind.UNIT)
    if values.get("disable"):
        test = Test(HealthKind.NONE)
    names = {
        "interval": "interval_seconds",
        "timeout": "timeout_seconds",
        "start_period": "start_period_seconds",
        "retries": "retries",
    }
    given = {field: values.get(key) for key, field in names.items() if key in values}
    return HealthCheck(kind=test.kind, argument=test.argument, port=test.port, **given)


HEALTHCHECK = Object(
    name="healthcheck",
    build=_build,
    keys={
        "test": Key(
            TestForm(),
            'How readiness is asked: ["HTTP", "/path", PORT], ["TCP", PORT], ["CMD", …], '
            '["CMD-SHELL", "line"], ["NONE"], or a shell line.',
        ),
        "interval": Key(DURATION, "Time between two checks."),
        "timeout": Key(DURATION, "Time after which a check has failed."),
        "retries": Key(COUNT, "Failures in a row after which an instance is not ready."),
        "start_period": Key(DURATION, "Time after the start in which failures do not count."),
        "start_interval": Key(DURATION, "Time between two checks in the start period."),
        "disable": Key(BOOLEAN, "true is the same as the test NONE."),
    },
)
