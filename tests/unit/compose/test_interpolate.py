"""`${…}` by Compose's table, and files of variables."""

from __future__ import annotations

import pytest

from vmorch.model.compose.dotenv import BadLine, parse_env, parse_raw
from vmorch.model.compose.interpolate import BadTemplate, expand

VARIABLES = {"SET": "value", "EMPTY": "", "OTHER": "other", "_x1": "low"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$SET", "value"),
        ("${SET}", "value"),
        ("${UNSET}", ""),
        ("${EMPTY}", ""),
        ("a${SET}b$SET-c", "avaluebvalue-c"),
        ("$_x1", "low"),
        ("${SET:-default}", "value"),
        ("${EMPTY:-default}", "default"),
        ("${UNSET:-default}", "default"),
        ("${SET-default}", "value"),
        ("${EMPTY-default}", ""),
        ("${UNSET-default}", "default"),
        ("${UNSET-}", ""),
        ("${SET:?no}", "value"),
        ("${SET?no}", "value"),
        ("${EMPTY?no}", ""),
        ("${SET:+new}", "new"),
        ("${EMPTY:+new}", ""),
        ("${UNSET:+new}", ""),
        ("${SET+new}", "new"),
        ("${EMPTY+new}", "new"),
        ("${UNSET+new}", ""),
        ("${UNSET:-${OTHER}}", "other"),
        ("${UNSET:-${EMPTY:-${SET}}}", "value"),
        ("${UNSET-$OTHER/x}", "other/x"),
        ("${SET:+${OTHER}}", "other"),
        ("${SET:-${UNSET:?never asked}}", "value"),
        ("${UNSET:-a:-b?c+d}", "a:-b?c+d"),
        ('${UNSET:-{"a": 1}}', '{"a": 1}'),
        ("${UNSET:- a b }", " a b "),
        ("$$", "$"),
        ("$$SET", "$SET"),
        ("$${SET}", "${SET}"),
        ("$$$SET", "$value"),
        ("${UNSET:-$$5}", "$5"),
        ("no variable", "no variable"),
        ("", ""),
    ],
)
def test_template(template: str, expected: str) -> None:
    assert expand(template, VARIABLES) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${UNSET:?}", "'UNSET' must be set."),
        ("${UNSET?}", "must be set"),
        ("${EMPTY:?is empty}", "'EMPTY' must be set: is empty"),
        ("${UNSET:?see ${OTHER}}", "see other"),
        ("${SET", "no closing brace"),
        ("${UNSET:-${SET}", "no closing brace"),
        ("${}", "is no variable"),
        ("${SET:}", "is no variable"),
        ("${SET:=x}", "is no variable"),
        ("${ SET}", "is no variable"),
        ("$", "dollar sign"),
        ("cost: $5", "dollar sign"),
        ("$é", "dollar sign"),
        ("${UNSET:-" * 20 + "}" * 20, "nested"),
        ("${SET}" * 300_000, "grows beyond"),
    ],
)
def test_bad_template(template: str, message: str) -> None:
    with pytest.raises(BadTemplate, match=message.replace("(", r"\(")):
        expand(template, VARIABLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n# comment\n  \nA=1\n", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A=1", {"A": "1"}),
        ("A = 1 ", {"A": "1"}),
        ("A: 1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("A=x # comment", {"A": "x"}),
        ("A=x#y", {"A": "x#y"}),
        ("A=# nothing", {"A": ""}),
        ("A='x # y' # comment", {"A": "x # y"}),
        ("A='$SET'", {"A": "$SET"}),
        (r"A='it\'s'", {"A": "it's"}),
        ('A="x\\ny"', {"A": "x\ny"}),
        ('A="a \\"b\\" \\$SET"', {"A": 'a "b" $SET'}),
        ('A="$SET ${UNSET:-d}"', {"A": "value d"}),
        ("A='two\nlines'\nB=1", {"A": "two\nlines", "B": "1"}),
        ("A=$SET\nB=${A}!", {"A": "value", "B": "value!"}),
        ("SET\nUNSET\nB=1", {"SET": "value", "B": "1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("\ufeffA=1", {"A": "1"}),
    ],
)
def test_env_file(text: str, expected: dict[str, str]) -> None:
    assert parse_env(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\n=2", 2),
        ("A=1\n\n1A=x", 3),
        ("A B=1", 1),
        ("A='x", 1),
        ("B=1\nA='x\ny\nz", 2),
        ("A='x' y", 1),
        ("A=${B", 1),
        ("{}", 1),
    ],
)
def test_bad_env_file(text: str, line: int) -> None:
    with pytest.raises(BadLine) as caught:
        parse_env(text, VARIABLES)
    assert caught.value.line == line


def test_raw_env_file() -> None:
    assert parse_raw("# c\n\nA='$SET' # x\nB=a=b\n") == {"A": "'$SET' # x", "B": "a=b"}
    with pytest.raises(BadLine):
        parse_raw("A=1\nB\n")
