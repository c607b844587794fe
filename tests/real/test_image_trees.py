"""Docker's documented semantics as a table: files of a context and a Dockerfile, and the tree that
they make. (Configurations and mistakes have their tables among the unit tests.)"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_bench import Bench, bench_at

from vmorch.errors import BuildFailed, InvalidSpec

FILES = ("a.txt", "b.txt", "c.md", "d/e.txt", "d/f/g.txt", "d/f/h.md", "sp ace", "[x].txt", ".hid")
SHOW = (
    "RUN mkdir -p /x && cd /x && find . -type f | sort | "
    'while read -r f; do echo "$f=$(cat "$f")"; done; find . -type d | sort | tail -n +2; '
    "find . -type l | sort"
)

# (name, .dockerignore, lines after FROM tiny, what is in /x: files with content, then directories)
TREES: list[tuple[str, str, str, list[str]]] = [
    ("a file to a name", "", "COPY a.txt /x/new", ["./new=a.txt"]),
    ("a file into a directory", "", "COPY a.txt /x/", ["./a.txt=a.txt"]),
    ("a file into one that exists", "", "RUN mkdir /x\nCOPY a.txt /x", ["./a.txt=a.txt"]),
    ("several files", "", "COPY a.txt b.txt /x/", ["./a.txt=a.txt", "./b.txt=b.txt"]),
    (
        "a directory gives its contents",
        "",
        "COPY d /x",
        ["./e.txt=d/e.txt", "./f/g.txt=d/f/g.txt", "./f/h.md=d/f/h.md", "./f"],
    ),
    (
        "a slash behind it changes nothing",
        "",
        "COPY d/f/ /x/",
        ["./g.txt=d/f/g.txt", "./h.md=d/f/h.md"],
    ),
    (
        "star stays in its directory",
        "",
        "COPY *.txt /x/",
        ["./[x].txt=[x].txt", "./a.txt=a.txt", "./b.txt=b.txt"],
    ),
    ("star in the middle", "", "COPY d/*/g.txt /x/", ["./g.txt=d/f/g.txt"]),
    ("question mark", "", "COPY ?.md /x/", ["./c.md=c.md"]),
    ("a class", "", "COPY [ab].txt /x/", ["./a.txt=a.txt", "./b.txt=b.txt"]),
    ("an escaped class", "", "COPY [[]x].txt /x/", ["./[x].txt=[x].txt"]),
    (
        "a pattern that matches a directory",
        "",
        "COPY d/f* /x/",
        ["./g.txt=d/f/g.txt", "./h.md=d/f/h.md"],
    ),
    ("hidden files match a star", "", "COPY .h* /x/", ["./.hid=.hid"]),
    ("the JSON form takes spaces", "", 'COPY ["sp ace", "/x/"]', ["./sp ace=sp ace"]),
    ("upwards ends at the context", "", "COPY ../../a.txt /x/", ["./a.txt=a.txt"]),
    ("an absolute source begins at the context", "", "COPY /d/e.txt /x/", ["./e.txt=d/e.txt"]),
    (
        "WORKDIR is made, and is where . is",
        "",
        "WORKDIR /x/w\nCOPY a.txt .",
        ["./w/a.txt=a.txt", "./w"],
    ),
    ("WORKDIRs add up", "", "WORKDIR /x\nWORKDIR w\nWORKDIR ../v", ["./v", "./w"]),
    ("ENV in paths", "", "ENV D=/x/y\nCOPY a.txt $D/", ["./y/a.txt=a.txt", "./y"]),
    ("ARG in sources", "", "ARG S=b\nCOPY ${S}.txt /x/", ["./b.txt=b.txt"]),
    ("a heredoc is a file", "", "ENV V=1\nCOPY <<E /x/f\nv=$V\nE", ["./f=v=1"]),
    ("a quoted heredoc is literal", "", "ENV V=1\nCOPY <<'E' /x/f\nv=$V\nE", ["./f=v=$V"]),
    ("heredocs beside files", "", "COPY a.txt <<one /x/\n1\none", ["./a.txt=a.txt", "./one=1"]),
    ("a heredoc without tabs", "", "COPY <<-E /x/f\n\tin\n\tE", ["./f=in"]),
    ("a script as heredoc", "", "RUN <<E\nmkdir /x\necho 1 > /x/f\nE", ["./f=1"]),
    ("later files win", "", "COPY a.txt /x/f\nCOPY b.txt /x/f", ["./f=b.txt"]),
    ("RUN with cd does not last", "", "RUN mkdir /x; cd /x\nRUN echo > rel; pwd > /x/p", ["./p=/"]),
    (
        "stages by number and name",
        "",
        "RUN echo 1 > /1\nFROM tiny AS two\nRUN echo 2 > /2\nFROM tiny\nCOPY --from=0 /1 /x/\n"
        "COPY --from=TWO /2 /x/",
        ["./1=1", "./2=2"],
    ),
    ("only the last stage counts", "", "RUN mkdir /x; echo 1 > /x/1\nFROM tiny AS a", []),
    (
        "a stage on a stage",
        "",
        "RUN true\nFROM tiny AS a\nRUN mkdir /x; echo 1 > /x/1\nFROM a",
        ["./1=1"],
    ),
    (
        "a stage inherits the ARGs of the stage that it stands on",
        "",
        "RUN true\nFROM tiny AS a\nARG V=2\nFROM a\nRUN mkdir /x; echo $V > /x/1",
        ["./1=2"],
    ),
    (
        "into a link to a directory",
        "",
        "RUN mkdir /x; ln -s x /l\nCOPY a.txt /l",
        ["./a.txt=a.txt"],
    ),
    (
        "over a link to a file",
        "",
        "RUN mkdir /x; ln -s /etc/none /x/f\nCOPY a.txt /x/f",
        ["./f=a.txt"],
    ),
    ("a file and a pattern", "", "COPY c.md d/e* /x/", ["./c.md=c.md", "./e.txt=d/e.txt"]),
    (
        "tabs, quotes and patterns",
        "",
        "ENV\tF a.txt.gz\nCOPY\t--chown='1'\t${F%.*} /x/",
        ["./a.txt=a.txt"],
    ),
    # .dockerignore
    (
        "ignored files are not there",
        "*.txt",
        "COPY . /x/",
        [
            "./.dockerignore=*.txt",
            "./.hid=.hid",
            "./Dockerfile=x",
            "./c.md=c.md",
            "./d/e.txt=d/e.txt",
            "./d/f/g.txt=d/f/g.txt",
            "./d/f/h.md=d/f/h.md",
            "./sp ace=sp ace",
            "./d",
            "./d/f",
        ],
    ),
    (
        "at any depth",
        "**/*.txt\n.*\nD*\nsp*",
        "COPY . /x/",
        ["./c.md=c.md", "./d/f/h.md=d/f/h.md", "./d", "./d/f"],
    ),
    ("taken back in", "*\n!d/f\nd/f/h*", "COPY . /x/", ["./d/f/g.txt=d/f/g.txt", "./d", "./d/f"]),
    ("the last line wins", "*\n!a.txt\na.txt\n!b.txt", "COPY . /x/", ["./b.txt=b.txt"]),
    (
        "comments and slashes",
        "# a.txt\n/*.md\n/d/\n.*\nD*\nsp*\n[[]*",
        "COPY . /x/",
        ["./a.txt=a.txt", "./b.txt=b.txt"],
    ),
]

# What cannot be done, and how it is said.
WRONG = [
    ("two files without a slash", "", "COPY a.txt b.txt /x", "need a directory"),
    ("a pattern without a slash", "", "COPY *.txt /x", "need a directory"),
    ("nothing matches", "", "COPY *.none /x/", "matches no file"),
    ("nothing is there", "", "COPY a.tx /x/", "did you mean 'a.txt'"),
    ("what is ignored is not there", "a.txt", "COPY a.txt /x/", "not in the context"),
    ("a bad pattern", "", "COPY [a.txt /x/", "no pattern"),
    ("a bad ignore line", "[a", "COPY a.txt /x/", "pattern"),
    ("a file where a directory is", "", "COPY a.txt /x/f\nCOPY d /x/f/g", "not a directory"),
]


@pytest.fixture
def bench(images_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    for bench in bench_at(images_dir, tmp_path):
        for name in (*FILES, "Dockerfile"):
            bench.file(name, "x" if name == "Dockerfile" else name)
        yield bench


def ignore(bench: Bench, lines: str) -> None:
    file = bench.context / ".dockerignore"
    file.unlink(missing_ok=True)
    if lines:
        file.write_text(lines)


def test_trees(bench: Bench) -> None:
    """One store for all: what a case made must not be found by another."""
    for name, ignored, lines, expected in TREES:
        ignore(bench, ignored)
        # With its name: of a step that is cached nothing would be seen.
        said = bench.output(f"FROM tiny\n{lines}\n{SHOW}; : '{name}'").splitlines()
        assert said == expected, name


def test_what_cannot_be_done(bench: Bench) -> None:
    for name, ignored, lines, fragment in WRONG:
        ignore(bench, ignored)
        with pytest.raises((InvalidSpec, BuildFailed), match=fragment):
            bench.build(f"FROM tiny\n{lines}")
            pytest.fail(name)
