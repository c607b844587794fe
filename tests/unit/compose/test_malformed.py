"""Every mistake is one line with its place; nothing else is ever raised."""

from __future__ import annotations

import pytest
from compose_loading import load_texts, problems
from compose_malformed import MALFORMED, web

from vmorch.errors import InvalidSpec
from vmorch.model.compose import SourceFile, load
from vmorch.model.compose.reading import MOST_PROBLEMS


@pytest.mark.parametrize("name", MALFORMED)
def test_each_mistake_is_reported_at_its_line(name: str) -> None:
    text, expected = MALFORMED[name]
    found = problems(text)
    assert sorted({p.line for p in found}) == sorted(expected), [str(p) for p in found]
    for line, part in expected.items():
        assert any(part in p.message for p in found if p.line == line), [str(p) for p in found]
    for problem in found:
        assert problem.file == "0.yaml"
        assert problem.column > 0
        assert "\n" not in str(problem)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(MALFORMED) >= 60


def test_a_problem_says_file_line_column_path_and_what_was_meant() -> None:
    text = web("deploy:\n  replcas: 2")
    assert [str(p) for p in problems(text)] == [
        "0.yaml:5:7: services.web.deploy.replcas: There is no key 'replcas' here. "
        "Did you mean 'replicas'?"
    ]


def test_all_problems_of_all_files_come_at_once_and_in_order() -> None:
    first = web("usr: x\nscale: many\ndepends_on: [nobody]")
    second = "services:\n  web:\n    cpus: '-1'\n  api:\n    image: tiny\n    ports: [x]\n"
    places = [(p.file, p.line) for p in problems(first, second)]
    assert places == [("0.yaml", 4), ("0.yaml", 5), ("1.yaml", 3), ("1.yaml", 6)]


def test_problems_come_in_the_order_in_which_the_files_were_given() -> None:
    files = [SourceFile(name, web("usr: x")) for name in ("b.yaml", "a.yaml")]
    with pytest.raises(InvalidSpec) as caught:
        load(files, variables={}, read=lambda path: None, default_name="x")
    assert [p.file for p in caught.value.problems] == ["b.yaml", "a.yaml"]


def test_mistakes_across_services_come_with_those_of_form() -> None:
    text = web("depends_on: [nobody]") + "  api:\n    image: tiny\n    usr: x\n"
    assert [p.line for p in problems(text)] == [4, 7]


def test_a_yaml_error_of_one_file_does_not_hide_those_of_another() -> None:
    found = problems("services: [", web("usr: x"))
    assert [(p.file, p.line) for p in found] == [("0.yaml", 1), ("1.yaml", 4)]


def test_a_mistake_in_a_value_that_a_later_file_replaces_is_still_one() -> None:
    assert [p.line for p in problems(web("scale: x"), web("scale: 2"))] == [4]


def test_a_file_that_another_names_is_named_with_its_line() -> None:
    [problem] = problems(web("env_file: bad.env"))
    assert (problem.file, problem.line) == ("bad.env", 2)
    [problem] = problems(web("cloud_init: {file: no-header}"))
    assert (problem.file, problem.line) == ("no-header", 1)


def test_bytes_that_are_not_utf8_are_a_problem_with_a_place() -> None:
    file = SourceFile.from_bytes("f", "a: 1\nb: caf\xe9\n".encode("latin-1"))
    with pytest.raises(InvalidSpec) as caught:
        load([file], variables={}, read=lambda path: None, default_name="x")
    assert [(p.line, p.column) for p in caught.value.problems] == [(2, 7)]


def test_no_more_problems_than_anybody_reads() -> None:
    text = web("\n".join(f"key{i}: x" for i in range(3000)))
    with pytest.raises(InvalidSpec) as caught:
        load_texts(text)
    assert len(caught.value.problems) == MOST_PROBLEMS
    assert str(MOST_PROBLEMS) in caught.value.hint


def test_no_file_at_all_is_a_problem() -> None:
    assert "No file" in problems()[0].message
