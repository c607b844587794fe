from __future__ import annotations

from pathlib import Path

import pytest

from vmorch.cli.common import Session
from vmorch.cli.project import (
    default_name,
    find_environment,
    find_project,
    require_environment,
    require_project,
)
from vmorch.errors import NotFound, UsageError


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    inner = tmp_path / "My Shop" / "deep" / "er"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return tmp_path / "My Shop"


def session(*files: str, project: str | None = None) -> Session:
    made = Session()
    made.files, made.project = files, project
    return made


def test_files_are_found_upwards_ours_first(directory: Path) -> None:
    (directory / "compose.yaml").write_text("services: {}\n")
    assert require_project(session()).files == (directory / "compose.yaml",)
    (directory / "vmorch.yml").write_text("services: {}\n")
    assert require_project(session()).files == (directory / "vmorch.yml",)
    (directory / "deep" / "docker-compose.yml").write_text("services: {}\n")
    found = require_project(session())
    assert found.files == (directory / "deep" / "docker-compose.yml",)
    assert found.directory == directory / "deep"


def test_an_override_comes_along_unless_files_are_named(directory: Path) -> None:
    (directory / "compose.yaml").touch()
    (directory / "compose.override.yml").touch()
    files = require_project(session()).files
    assert [file.name for file in files] == ["compose.yaml", "compose.override.yml"]
    assert len(require_project(session(str(directory / "compose.yaml"))).files) == 1


def test_variables_name_files_and_options_win(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "a.yaml").touch()
    (directory / "b.yaml").touch()
    monkeypatch.setenv("VMORCH_FILE", f"{directory}/a.yaml:{directory}/b.yaml")
    monkeypatch.setenv("VMORCH_PROJECT", "from-env")
    assert [f.name for f in require_project(session()).files] == ["a.yaml", "b.yaml"]
    assert find_environment(session()) == "from-env"
    assert find_environment(session(project="option")) == "option"


def test_no_file_is_no_project(directory: Path) -> None:
    assert find_project(session()) is None
    assert find_environment(session()) is None
    for call in (require_project, require_environment):
        with pytest.raises(NotFound, match="no vmorch file"):
            call(session())
    with pytest.raises(NotFound, match=r"nope\.yaml"):
        require_project(session("nope.yaml"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: shop\nservices: {}\n", "shop"),
        ("name: 'shop'  # ours\nservices: {}\n", "shop"),
        ('name: "shop"\n', "shop"),
        ("services:\n  x:\n    image: debian:12\n    labels:\n      name: inner\n", "myshop"),
        ("# name: commented\nservices: {}\n", "myshop"),
        ("name: ${N:-expanded}\nservices: {x: {image: 'debian:12'}}\n", "expanded"),
        ("{name: flow, services: {x: {image: 'debian:12'}}}\n", "flow"),
    ],
)
def test_the_environments_name(directory: Path, text: str, name: str) -> None:
    (directory / "vmorch.yaml").write_text(text)
    assert find_environment(session()) == name


def test_names_from_directories() -> None:
    assert default_name(Path("/x/My Project_1.0-")) == "myproject_10"
    with pytest.raises(UsageError):
        default_name(Path("/"))
