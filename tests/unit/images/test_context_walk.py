"""What a client sends: `.dockerignore` by Docker's rules, digests, and what cannot be sent."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from vmorch.context import read_context
from vmorch.errors import InvalidSpec, NotFound, UsageError
from vmorch.model.context import glob_expression, parse_ignore

# (lines, path, ignored)
IGNORE = [
    ([], "a", False),
    (["# a", "", "  "], "a", False),
    (["#a"], "#a", False),
    (["a"], "a", True),
    (["a"], "a/b/c", True),
    (["a"], "b/a", False),
    (["/a"], "a", True),
    (["a/"], "a", True),
    (["./a/../b"], "b", True),
    (["*/temp*"], "x/temporary.txt", True),
    (["*/temp*"], "temporary.txt", False),
    (["*/temp*"], "x/y/temporary.txt", False),
    (["*/*/temp*"], "x/y/temporary.txt", True),
    (["temp?"], "tempa", True),
    (["temp?"], "temp", False),
    (["temp?"], "temp/", False),
    (["**/*.go"], "a.go", True),
    (["**/*.go"], "x/y/a.go", True),
    (["**/*.go"], "x/y/a.god", False),
    (["**"], "x/y", True),
    (["a/**"], "a/b", True),
    (["a/**"], "a", False),
    (["a/**/b"], "a/b", True),
    (["a/**/b"], "a/x/y/b", True),
    (["**/b/**"], "x/b/c", True),
    (["*.md", "!README.md"], "README.md", False),
    (["*.md", "!README.md"], "x.md", True),
    (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
    (["*.md", "README-secret.md", "!README*.md"], "README-secret.md", False),
    (["*", "!src"], "src/a/b", False),
    (["*", "!src/a"], "src/b", True),
    (["*", "!src/a"], "src/a/x", False),
    (["!a"], "a", False),
    (["! a", "b"], "b", True),
    (["[ab].txt"], "a.txt", True),
    (["[a-c].txt"], "d.txt", False),
    (["[^a].txt"], "b.txt", True),
    (["a\\*b"], "a*b", True),
    (["a\\*b"], "axb", False),
    (["a.b"], "aXb", False),
    (["a+(b)|c$"], "a+(b)|c$", True),
    (["."], "a", False),
]


@pytest.mark.parametrize(("lines", "path", "ignored"), IGNORE)
def test_ignore(lines: list[str], path: str, ignored: bool) -> None:
    assert parse_ignore(lines).ignores(path) is ignored


def test_a_malformed_pattern_has_its_line() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_ignore(["a", "[b"])


def test_globs_do_not_cross_directories() -> None:
    assert glob_expression("*.py").fullmatch("a.py")
    assert not glob_expression("*.py").fullmatch("a/b.py")
    assert not glob_expression("?").fullmatch("/")


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def test_entries_have_kinds_modes_and_digests(tmp_path: Path) -> None:
    tree(tmp_path, "b/file", "a.txt")
    (tmp_path / "a.txt").chmod(0o4755)
    (tmp_path / "link").symlink_to("/etc/passwd")
    context = read_context(tmp_path)
    by_path = {entry.path: entry for entry in context.entries}
    assert list(by_path) == ["a.txt", "b", "b/file", "link"]
    assert by_path["a.txt"].mode == 0o4755
    assert by_path["a.txt"].digest == "sha256:" + hashlib.sha256(b"a.txt").hexdigest()
    assert by_path["a.txt"].size == 5
    assert (by_path["link"].kind, by_path["link"].target) == ("symlink", "/etc/passwd")
    assert by_path["b"].kind == "directory"
    assert set(context.files) == {by_path["a.txt"].digest, by_path["b/file"].digest}


def test_a_reincluded_file_brings_its_directories_and_nothing_else(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/keep", "a/b/drop", "a/c/drop", "d/drop", ".dockerignore")
    (tmp_path / ".dockerignore").write_text("*\n!a/b/keep\n")
    assert [e.path for e in read_context(tmp_path).entries] == ["a", "a/b", "a/b/keep"]


def test_ignored_directories_are_not_even_read(tmp_path: Path) -> None:
    tree(tmp_path, "a", "cache/x", ".dockerignore")
    (tmp_path / ".dockerignore").write_text("cache\n.dockerignore\n")
    os.mkfifo(tmp_path / "cache/pipe")  # could not be sent
    assert [e.path for e in read_context(tmp_path).entries] == ["a"]


def test_the_ignore_file_of_the_dockerfile_wins(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "D.dockerignore").write_text("b\n*ignore\n")
    entries = read_context(tmp_path, dockerfile=tmp_path / "D").entries
    assert [e.path for e in entries] == ["a"]


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_context(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe"):
        read_context(tmp_path)
    (tmp_path / ".dockerignore").write_text("[x")
    with pytest.raises(InvalidSpec, match="line 1"):
        read_context(tmp_path)


def test_a_remembered_digest_is_used(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    context = read_context(tmp_path, digest=lambda path, status: f"sha256:{status.st_size}")
    assert context.entries[0].digest == "sha256:1"


def test_a_name_that_is_no_text_is_refused_unless_it_is_ignored(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    with pytest.raises(UsageError, match=r"name that is not UTF-8") as refused:
        read_context(tmp_path)
    assert "caf" in refused.value.message
    assert ".dockerignore" in refused.value.hint
    (tmp_path / ".dockerignore").write_text("caf*\n")
    assert [entry.path for entry in read_context(tmp_path).entries] == [".dockerignore"]


def test_a_link_to_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(os.fsdecode(b"caf\xe9"))
    with pytest.raises(UsageError, match=r"target that is not UTF-8"):
        read_context(tmp_path)


def test_an_ignore_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_bytes(b"caf\xe9\n")
    with pytest.raises(UsageError, match=r"\.dockerignore is not UTF-8"):
        read_context(tmp_path)


def test_a_directory_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()

    def scandir(folder: Path) -> Any:
        if folder.name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scan(folder)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)  # the tests run as root, who may read anything
    with pytest.raises(UsageError, match=r"closed of the build context cannot be read"):
        read_context(tmp_path)
