"""Every mistake has its line, and all of them come at once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.errors import InvalidSpec
from vmorch.images.dockerfile.instructions import Cmd
from vmorch.images.dockerfile.parse import parse
from vmorch.images.dockerfile.stage import StageState, global_variables
from vmorch.images.dockerfile.words import BadWord
from vmorch.model.image import RunConfig


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("", 1, "no FROM"),
        ("# only a comment", 1, "no FROM"),
        ("RUN x\nFROM a", 1, "only ARG"),
        ("FROM a\nRUNN x", 2, "did you mean 'RUN'"),
        ("FROM a\nCOPPY a b", 2, "did you mean 'COPY'"),
        ("FROM a\n\n# c\nCOPY a", 4, "COPY SOURCE"),
        ("FROM a\nRUN", 2, "nothing follows"),
        ("FROM a\nRUN x \\\n  y\nBAD z", 4, "unknown instruction 'BAD'"),
        ("FROM a AS", 1, "FROM IMAGE"),
        ("FROM a b c", 1, "FROM IMAGE"),
        ("FROM a AS 1x", 1, "cannot name a stage"),
        ("FROM a\nONBUILD RUN x", 2, "not supported"),
        ("FROM a\nVOLUME /data", 2, "declare 'volumes:'"),
        ("FROM a\nCOPY --chwon=1 a b", 2, "did you mean 'chown'"),
        ("FROM a\nCOPY --chown a b", 2, "needs a value"),
        ("FROM a\nCOPY --chown=1 --chown=2 a b", 2, "twice"),
        ("FROM a\nRUN --mount=type=cache y", 2, "needs a target"),
        ("FROM a\nRUN --mount=type=cash,target=/x y", 2, "did you mean 'cache'"),
        ("FROM a\nRUN --mount=type=cache,targt=/x y", 2, "did you mean 'target'"),
        ("FROM a\nRUN --mount=type=cache,target=/x,sharing=some y", 2, "one of shared"),
        ("FROM a\nRUN --mount=type=ssh y", 2, "use a secret"),
        ("FROM a\nRUN --mount=type=secret y", 2, "needs an id"),
        ("FROM a\nRUN --mount=from=9,target=/x y", 2, "no stage 9"),
        ("FROM a\nRUN --mount=from=b,target=/x,rw y", 2, "read-only"),
        ("FROM a\nRUN --mount=type=cache,target=/x,uid=me y", 2, "is no number"),
        ("FROM a\nRUN --network=host y", 2, "or none"),
        ("FROM a\nADD https://example.org/f /", 2, "needs --checksum"),
        ("FROM a\nADD --checksum=sha256:1 https://example.org/f /", 2, "64 hexadecimal"),
        ("FROM a\nADD --checksum=sha256:1 f /", 2, "for a URL"),
        ("FROM a\nADD git@example.org:x /", 2, "git sources"),
        ("FROM a AS one\nCOPY --from=one a b", 2, "the stage itself"),
        ("FROM a\nCOPY --from=two a b\nFROM b AS two", 2, "comes later"),
        ("FROM a\nCOPY --from=7 a b", 2, "no stage 7"),
        ("FROM a\nCOPY --from=$X a b", 2, "takes no variables"),
        ("FROM a\nENV A", 2, "has no value"),
        ("FROM a\nENV A=1 B", 2, "has no value"),
        ("FROM a\nARG 1A", 2, "cannot name a variable"),
        ("FROM a\nRUN <<EOF\nx", 2, "has no end"),
        ("# escape=x\nFROM a", 1, "escape character"),
        ("FROM a\nSHELL sh -c", 2, "SHELL ["),
        ("FROM a\nHEALTHCHECK curl x", 2, "HEALTHCHECK"),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", 2, "no duration"),
        ("FROM a\nHEALTHCHECK --retries=0 CMD x", 2, "no count"),
        ("FROM a\nHEALTHCHECK --retries=² CMD x", 2, "no count"),
        (f"FROM a\nHEALTHCHECK --retries={'9' * 5000} CMD x", 2, "no count"),
        ("FROM a\nCMD [1]", 2, "strings alone"),
        ('FROM a\nCMD ["a", ["b"]]', 2, "strings alone"),
        ('FROM a\nCMD ["\\ud800"]', 2, "is no text"),
        ('FROM a\nCMD ["a\\u0000"]', 2, "is no text"),
        ("FROM a\nENV A=1\nENV B=\0", 3, "zero byte"),
        ("FROM a\nRUN []", 2, "names no program"),
        ("FROM a\nRUN cat <<E>/f\nx\nE", 2, "has no end"),
    ],
)
def test_mistakes_of_form(text: str, line: int, fragment: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(text, "app/Dockerfile")
    assert [p.line for p in caught.value.problems] == [line]
    assert fragment in caught.value.message
    assert caught.value.message.startswith(f"app/Dockerfile:{line}:")


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse("FROM a\nRUNN x\nCOPY a\nCOPY --from=9 a b\nEXPOSE 80\nUSR x", "D")
    assert [p.line for p in caught.value.problems] == [2, 3, 4, 6]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("EXPOSE 0", "no port"),
        ("EXPOSE 80000", "no port"),
        ("EXPOSE x", "no port"),
        ("EXPOSE 53/udp", "only TCP"),
        ("EXPOSE 90-80", "ends before"),
        ("USER a b", "no user"),
        ("USER a:b:c", "no user"),
        ("USER $NONE", "no user"),
        ("COPY a b /c", "end '/c' with '/'"),
        ("COPY --chmod=999 a b", "octal"),
        ("COPY --chmod=u+x a b", "octal"),
        ("COPY --chown=a:b:c a b", "USER[:GROUP]"),
        ("STOPSIGNAL SIGFOO", "no signal"),
        ("STOPSIGNAL SIGRTMFOO", "no signal"),
        ("STOPSIGNAL 65", "no signal"),
        ("ENV A=${B", "without its '}'"),
        ("ENV A=${B:=x}", "no known form"),
        ('ENV A="${B:?must be}"', "must be"),
        ("ENV A='x", "not closed"),
        ('ENV A="x', "not closed"),
        ("ENV A=${}", "names no variable"),
        ("ENV A=${B/x}", "without its '/'"),
        (f"ENV A={'${x:-' * 3000}{'}' * 3000}", "more than"),
        ("ENV $NONE=1", "has no name"),
        ("EXPOSE ²", "no port"),
        (f"EXPOSE {'9' * 5000}", "no port"),
        ("USER 4294967295", "no user"),
        (f"USER a:{'9' * 5000}", "no user"),
        ("COPY --chown=99999999999 a b", "USER[:GROUP]"),
        ("COPY --chmod=0o755 a b", "octal"),
        ("COPY --from=a /x/[b /c", "no pattern"),
        ("COPY --chmod=٧٥٥ a b", "octal"),
        ("ENV U=me\nRUN --mount=type=cache,target=/x,uid=$U y", "no number"),
        (f"RUN --mount=type=tmpfs,target=/x,size={'9' * 5000} y", "no size"),
        ("ENV U=https://example.org/f\nADD $U /", "needs --checksum"),
        ("ENV C=1\nADD --checksum=$C https://example.org/f /", "64 hexadecimal"),
    ],
)
def test_mistakes_of_value(text: str, fragment: str) -> None:
    dockerfile = parse(f"FROM a\n{text}", "Dockerfile")
    state = StageState(RunConfig(), global_args={}, build_args={})
    with pytest.raises(BadWord) as caught:
        for instruction in dockerfile.stages[0].instructions:
            state.apply(instruction)
    assert fragment in str(caught.value)


def test_an_array_without_end_is_a_command_as_any_text_is() -> None:
    deep = "[" * 100_000
    stage = parse(f"FROM a\nCMD {deep}", "Dockerfile").stages[0]
    assert isinstance(stage.instructions[0], Cmd)
    assert stage.instructions[0].command.words == (deep,)


def test_a_wrong_default_before_the_first_from_has_its_own_line() -> None:
    with pytest.raises(InvalidSpec) as caught:
        global_variables(parse("ARG A=1\nARG B=${A\nFROM a", "D"), {}, {})
    assert [p.line for p in caught.value.problems] == [2]


ODD = st.lists(
    st.one_of(
        st.sampled_from(
            [*"[]{}$\"'\\<>=:,#-/%\n\t ", "<<E", "--", "${A", "sha256:", "²", "9" * 20]
        ),
        st.sampled_from(["FROM a\n", "RUN ", "COPY ", "ADD ", "ENV ", "ARG ", "USER ", "EXPOSE "]),
        st.sampled_from(["HEALTHCHECK ", "--mount=type=cache,", "target=", "uid=", "--interval="]),
        st.sampled_from(["CMD ", "LABEL ", "WORKDIR ", "SHELL ", "STOPSIGNAL ", "a", "b c", "7"]),
    ),
    max_size=25,
)


@given(ODD)
def test_whatever_a_file_holds_is_followed_or_said_to_be_wrong(parts: list[str]) -> None:
    try:
        dockerfile = parse("FROM a\n" + "".join(parts), "D")
        global_variables(dockerfile, {}, {})
    except InvalidSpec as error:
        assert all(problem.line > 0 for problem in error.problems)
        return
    for stage in dockerfile.stages:
        state = StageState(RunConfig(), global_args={}, build_args={}, escape=dockerfile.escape)
        for instruction in stage.instructions:
            with contextlib.suppress(BadWord):
                state.apply(instruction)
