"""Docker's documented semantics as a table: a Dockerfile's lines and what a guest gets."""

from __future__ import annotations

from typing import Any

import pytest

from vmorch.images.dockerfile.parse import parse
from vmorch.images.dockerfile.stage import StageState, global_variables, with_bases
from vmorch.images.dockerfile.steps import CopyStep, DirectoryStep, RunStep, Step
from vmorch.images.graph import parent_stage
from vmorch.model.image import RunConfig
from vmorch.model.spec import HealthKind

BASE = RunConfig(
    environment={"PATH": "/bin", "BASE": "b"}, command=("base-cmd",), labels={"from": "base"}
)


def followed(text: str, **args: str) -> tuple[RunConfig, list[Step]]:
    """The last stage of `text` (FROM debian:12 is put before it if it has none)."""
    text = text if "FROM " in text else f"FROM debian:12\n{text}"
    dockerfile = parse(text, "Dockerfile")
    state = StageState(
        BASE,
        global_args=global_variables(dockerfile, args, {"TARGETARCH": "amd64"}),
        build_args=args,
        escape=dockerfile.escape,
    )
    steps = [state.apply(i) for i in dockerfile.stages[-1].instructions]
    return state.run, [step for step in steps if step is not None]


SH = ("/bin/sh", "-c")
ABC = "abcabc"


def abc(**more: str) -> dict[str, str]:
    return {**BASE.environment, "A": ABC, **more}


TABLE: list[tuple[str, str, Any]] = [
    # ENTRYPOINT x CMD
    ("CMD a b", "command", (*SH, "a b")),
    ('CMD ["a", "b"]', "command", ("a", "b")),
    ('CMD ["a", "b"]', "entrypoint", ()),
    ('ENTRYPOINT ["a"]', "command", ()),  # resets what the base had
    ('CMD ["c"]\nENTRYPOINT ["a"]', "command", ("c",)),  # but not what this file says
    ('ENTRYPOINT ["a"]\nCMD ["c"]', "command", ("c",)),
    ("ENTRYPOINT exec top -b", "entrypoint", (*SH, "exec top -b")),
    ("CMD ['a']", "command", (*SH, "['a']")),  # single quotes are no JSON
    ('CMD ["a"', "command", (*SH, '["a"')),
    ("CMD echo $HOME", "command", (*SH, "echo $HOME")),  # left for the shell
    ("CMD first\nCMD second", "command", (*SH, "second")),
    ("USER nobody", "command", ("base-cmd",)),
    ('SHELL ["/bin/bash", "-eu", "-c"]\nCMD a', "command", ("/bin/bash", "-eu", "-c", "a")),
    ('CMD a\nSHELL ["/bin/bash", "-c"]', "command", (*SH, "a")),
    # ENV
    ("ENV A=1 B=2", "environment", {**BASE.environment, "A": "1", "B": "2"}),
    ("ENV A one two", "environment", {**BASE.environment, "A": "one two"}),
    (
        'ENV A="one two" B=three\\ four',
        "environment",
        {**BASE.environment, "A": "one two", "B": "three four"},
    ),
    ("ENV A='$BASE'", "environment", {**BASE.environment, "A": "$BASE"}),
    ("ENV A=\\$BASE", "environment", {**BASE.environment, "A": "$BASE"}),
    ('ENV A="x-${BASE}-y"', "environment", {**BASE.environment, "A": "x-b-y"}),
    ("ENV A=$BASE/$NONE/z", "environment", {**BASE.environment, "A": "b//z"}),
    ("ENV A=hello\nENV A=bye B=$A", "environment", {**BASE.environment, "A": "bye", "B": "hello"}),
    ("ENV A=1 \\\n  # a comment\n\n  B=2", "environment", {**BASE.environment, "A": "1", "B": "2"}),
    ("# escape=`\nFROM d\nENV A=a`\nb", "environment", {**BASE.environment, "A": "ab"}),
    ("# escape=`\nFROM d\nENV A=c:\\dir", "environment", {**BASE.environment, "A": "c:\\dir"}),
    ("\\\n\nENV A=1\n\\", "environment", {**BASE.environment, "A": "1"}),
    ("env A=1", "environment", {**BASE.environment, "A": "1"}),
    ("ENV A=", "environment", {**BASE.environment, "A": ""}),
    ("ENV ONE TWO= THREE=world", "environment", {**BASE.environment, "ONE": "TWO= THREE=world"}),
    # substitution
    (
        "ENV A=${BASE:-x} B=${NONE:-x} C=${NONE-x}",
        "environment",
        {**BASE.environment, "A": "b", "B": "x", "C": "x"},
    ),
    ("ENV A=${BASE:+x} B=${NONE:+x}", "environment", {**BASE.environment, "A": "x", "B": ""}),
    (
        "ENV A=\nENV B=${A:-x} C=${A-x}",
        "environment",
        {**BASE.environment, "A": "", "B": "x", "C": ""},
    ),
    ("ENV A=${NONE:-${BASE}2}", "environment", {**BASE.environment, "A": "b2"}),
    ("ENV A=abcabc\nENV B=${A#a*b} C=${A##a*b}", "environment", abc(B="cabc", C="c")),
    ("ENV A=abcabc\nENV B=${A%b*c} C=${A%%b*c}", "environment", abc(B="abca", C="a")),
    (
        "ENV A=abcabc\nENV B=${A#b} C=${A%?} D=${A%}",
        "environment",
        abc(B="abcabc", C="abcab", D=ABC),
    ),
    ("ENV A=abcabc\nENV B=${A/b/X} C=${A//b?/X}", "environment", abc(B="aXcabc", C="aXaX")),
    ("ENV A=abcabc\nENV B=${A//c/} C=${A/b*b/-}", "environment", abc(B="abab", C="a-c")),
    (
        "ENV A=a/b.c\nENV B=${A##*/} C=${A%.*} D=${A//\\//-}",
        "environment",
        {**BASE.environment, "A": "a/b.c", "B": "b.c", "C": "a/b", "D": "a-b.c"},
    ),
    (
        "ENV A=a*b\nENV B=${A%\\*b} C=${NONE#x} D=${A#$BASE}",
        "environment",
        {**BASE.environment, "A": "a*b", "B": "a", "C": "", "D": "a*b"},
    ),
    ("ENV N=one\nENV ${N}_two=2", "environment", {**BASE.environment, "N": "one", "one_two": "2"}),
    ("ENV A\tone two", "environment", {**BASE.environment, "A": "one two"}),
    # WORKDIR, USER, EXPOSE, LABEL, STOPSIGNAL
    ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c", "working_dir", "/a/c"),
    ("WORKDIR a", "working_dir", "/a"),
    ("ENV D=/x\nWORKDIR $D/y", "working_dir", "/x/y"),
    ("USER app:www", "user", "app:www"),
    ("EXPOSE 80 443/tcp\nEXPOSE 80", "exposed_ports", (80, 443)),
    ("EXPOSE 7000-7002", "exposed_ports", (7000, 7001, 7002)),
    ("ENV P=8080\nEXPOSE $P", "exposed_ports", (8080,)),
    ('LABEL a=1 "b c"="d e"', "labels", {"from": "base", "a": "1", "b c": "d e"}),
    (
        "MAINTAINER Ada <ada@example.org>",
        "labels",
        {"from": "base", "maintainer": "Ada <ada@example.org>"},
    ),
    ("STOPSIGNAL term", "stop_signal", "SIGTERM"),
    ("STOPSIGNAL 9", "stop_signal", "9"),
    ("STOPSIGNAL SIGRTMIN+3", "stop_signal", "SIGRTMIN+3"),
]


@pytest.mark.parametrize(("text", "attribute", "expected"), TABLE, ids=[t[0][:50] for t in TABLE])
def test_run_config(text: str, attribute: str, expected: Any) -> None:
    run, _ = followed(text)
    assert getattr(run, attribute) == expected


def environment_of_run(text: str, **args: str) -> dict[str, str]:
    _, steps = followed(text, **args)
    step = steps[-1]
    assert isinstance(step, RunStep)
    return step.environment


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("ARG V=1\nRUN x", {}, "1"),
        ("ARG V=1\nRUN x", {"V": "2"}, "2"),
        ("ARG V\nRUN x", {}, None),
        ("ARG V\nRUN x", {"V": "2"}, "2"),
        ("RUN x", {"V": "2"}, None),  # given, never declared
        ("RUN x\nARG V=1", {}, None),  # declared after
        ("ARG V=1\nFROM d\nRUN x", {}, None),  # global ARGs are for FROM alone …
        ("ARG V=1\nFROM d\nARG V\nRUN x", {}, "1"),  # … until declared again
        ("ARG V=1\nFROM d\nARG V=2\nRUN x", {}, "2"),
        ("ARG V=1\nFROM d\nARG V\nRUN x", {"V": "3"}, "3"),
        ("ARG W=1\nARG V=$W$W\nFROM d\nARG V\nRUN x", {}, "11"),
        ("FROM a AS one\nARG V=1\nFROM d\nRUN x", {}, None),  # a stage's own
        ("ARG V=1\nENV V=env\nRUN x", {"V": "2"}, "env"),  # ENV wins
        ("ENV V=env\nARG V=1\nRUN x", {"V": "2"}, "env"),
        ("ARG V=1\nENV V=${V:-none}\nRUN x", {}, "1"),
        ("ARG TARGETARCH\nRUN x", {}, None),
        ("ARG W=1\nARG W=2 V=$W\nRUN x", {}, "1"),  # one value throughout an instruction
    ],
)
def test_arguments(text: str, args: dict[str, str], expected: str | None) -> None:
    text = text if "FROM" in text else f"FROM debian:12\n{text}"
    assert environment_of_run(text, **args).get("V") == expected


def test_arguments_of_the_platform() -> None:
    assert environment_of_run("ARG TARGETARCH\nRUN x")["TARGETARCH"] == "amd64"
    assert "TARGETARCH" not in environment_of_run("RUN x")


def test_proxies_reach_run_without_being_declared_and_stay_out_of_the_environment() -> None:
    _, steps = followed("RUN x", HTTPS_PROXY="p")
    step = steps[0]
    assert isinstance(step, RunStep)
    assert step.proxies == {"HTTPS_PROXY": "p"}
    assert "HTTPS_PROXY" not in step.environment


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        ("RUN a && b", (*SH, "a && b"), ""),
        ("RUN a \\\n  && b", (*SH, "a   && b"), ""),
        ('RUN ["a", "$B"]', ("a", "$B"), ""),
        ("RUN <<EOF\na\n\tb $C\nEOF", (*SH, "a\n\tb $C\n"), ""),
        ("RUN <<-EOF\n\ta\n\tEOF", (*SH, "a\n"), ""),
        ("RUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF", (), "#!/usr/bin/python3\nprint(1)\n"),
        ("RUN cat <<EOF > /f\nx $Y\nEOF", (*SH, "cat <<EOF > /f\nx $Y\nEOF\n"), ""),
        ("RUN cat <<'A' <<B\n1\nA\n2\nB", (*SH, "cat <<'A' <<B\n1\nA\n2\nB\n"), ""),
        ("RUN\t<<E\na\nE", (*SH, "a\n"), ""),
        ("RUN --network=none\t<<\\E\na\nE", (*SH, "a\n"), ""),
        ("RUN cat <<1 <<E'O'F\na\n1\nb\nEOF", (*SH, "cat <<1 <<E'O'F\na\n1\nb\nEOF\n"), ""),
        ("RUN echo $((1<<2))", (*SH, "echo $((1<<2))"), ""),
        ('RUN echo "a <<EOF"', (*SH, 'echo "a <<EOF"'), ""),
        ("RUN a # no comment", (*SH, "a # no comment"), ""),
    ],
)
def test_run(text: str, argv: tuple[str, ...], script: str) -> None:
    _, steps = followed(text)
    step = steps[0]
    assert isinstance(step, RunStep)
    assert (step.argv, step.script) == (argv, script)


@pytest.mark.parametrize(
    ("text", "sources", "destination", "into"),
    [
        ("COPY a /b", ("a",), "/b", False),
        ("COPY a /b/", ("a",), "/b", True),
        ("COPY a b c/", ("a", "b"), "/c", True),
        ("WORKDIR /w\nCOPY a .", ("a",), "/w", True),
        ("WORKDIR /w\nCOPY . ./", ("",), "/w", True),
        ("WORKDIR /w\nCOPY a ../x", ("a",), "/x", False),
        ("COPY ../../a /b", ("a",), "/b", False),  # Docker strips what leads upwards
        ("COPY /a/./b/../c /b", ("a/c",), "/b", False),
        ('COPY ["a b", "/c d/"]', ("a b",), "/c d", True),
        ("ENV N=x\nCOPY $N.txt /$N", ("x.txt",), "/x", False),
        ("COPY --chown=1:2 --chmod=755 a /b", ("a",), "/b", False),
        ('COPY --chown="1:2"\t--chmod=755\ta\t/b', ("a",), "/b", False),
        ('COPY <<"a b" c /x/\n$A\na b', ("c",), "/x", True),
    ],
)
def test_copy(text: str, sources: tuple[str, ...], destination: str, into: bool) -> None:
    _, steps = followed(text)
    step = steps[-1]
    assert isinstance(step, CopyStep)
    assert (step.sources, step.destination, step.into_directory) == (sources, destination, into)


def test_copy_flags_and_documents() -> None:
    text = "ENV A=1\nCOPY --chown=app:www --chmod=4755 <<x.conf <<'y' z /etc/\n$A\\$\nx.conf\n$A\ny"
    _, steps = followed(text)
    step = steps[0]
    assert isinstance(step, CopyStep)
    assert (step.chown, step.chmod, step.sources) == ("app:www", 0o4755, ("z",))
    assert [(d.name, d.body) for d in step.documents] == [("x.conf", "1$\n"), ("y", "$A\n")]


def test_a_working_directory_is_a_step() -> None:
    _, steps = followed("WORKDIR /a\nWORKDIR b")
    assert [step.path for step in steps if isinstance(step, DirectoryStep)] == ["/a", "/a/b"]


def test_health_checks() -> None:
    run, _ = followed("HEALTHCHECK --interval=1m30s --timeout=500ms --retries=5 CMD curl -f $U")
    assert run.healthcheck is not None
    assert run.healthcheck.kind is HealthKind.CMD_SHELL
    assert run.healthcheck.argument == ("curl -f $U",)
    assert (run.healthcheck.interval_seconds, run.healthcheck.timeout_seconds) == (90.0, 0.5)
    assert run.healthcheck.retries == 5
    run, _ = followed('SHELL ["bash", "-c"]\nHEALTHCHECK CMD a $B')
    assert run.healthcheck is not None
    assert (run.healthcheck.kind, run.healthcheck.argument) == (
        HealthKind.CMD,
        ("bash", "-c", "a $B"),
    )
    run, _ = followed('HEALTHCHECK CMD ["a", "b"]')
    assert run.healthcheck is not None
    assert (run.healthcheck.kind, run.healthcheck.argument) == (HealthKind.CMD, ("a", "b"))
    run, _ = followed('HEALTHCHECK --interval=0s --timeout=.5s --start-period="2s" CMD\ta')
    assert run.healthcheck is not None
    assert (run.healthcheck.interval_seconds, run.healthcheck.timeout_seconds) == (30.0, 0.5)
    assert run.healthcheck.start_period_seconds == 2.0
    run, _ = followed("HEALTHCHECK NONE")
    assert run.healthcheck is not None
    assert run.healthcheck.kind is HealthKind.NONE


def test_a_url_and_its_checksum_may_be_variables() -> None:
    digest = "sha256:" + "1" * 64
    text = f"ARG U=https://example.org\nARG C={digest}\nADD --checksum=$C $U/f /x"
    _, steps = followed(text)
    step = steps[0]
    assert isinstance(step, CopyStep)
    assert (step.url, step.checksum, step.sources) == ("https://example.org/f", digest, ())


def test_mounts_take_variables() -> None:
    _, steps = followed('ENV U=7\nRUN --mount="type=cache,target=/c,uid=$U,gid=${U}1" x')
    step = steps[0]
    assert isinstance(step, RunStep)
    assert (step.mounts[0].target, step.mounts[0].uid, step.mounts[0].gid) == ("/c", 7, 71)


def test_patterns_of_a_long_value_take_no_time() -> None:
    run, _ = followed(f"ENV A={'a' * 20_000}\nENV B=${{A##{'*a' * 40}*b}} C=${{A%%b{'*a' * 40}}}")
    assert run.environment["B"] == run.environment["C"] == run.environment["A"]


def test_an_image_may_be_a_variable_that_names_a_stage() -> None:
    dockerfile = parse("ARG B=two\nFROM a AS one\nFROM b AS two\nFROM ${B}", "Dockerfile")
    for name, index in (("two", 1), ("ONE", 0)):
        variables = global_variables(dockerfile, {"B": name}, {})
        substituted = with_bases(dockerfile, variables)
        parent = parent_stage(substituted, substituted.stages[2])
        assert parent is not None
        assert parent.index == index


def test_stages() -> None:
    text = "ARG B=a\nFROM ${B} AS One\nRUN x\nFROM one\nCOPY --from=ONE /x /\nFROM c"
    dockerfile = parse(text, "Dockerfile")
    assert [(s.base.image, s.base.name) for s in dockerfile.stages] == [
        ("${B}", "one"),
        ("one", ""),
        ("c", ""),
    ]
    one = dockerfile.stage("ONE")
    assert one is not None
    assert one.index == 0
    two = dockerfile.stage("2")
    assert two is not None
    assert two.base.image == "c"
    assert dockerfile.stage("3") is None
