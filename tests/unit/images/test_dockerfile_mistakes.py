"""Every mistake has its line, and all of them come at once."""

from __future__ import annotations

import pytest

from vmorch.errors import InvalidSpec
from vmorch.images.dockerfile.parse import parse
from vmorch.images.dockerfile.stage import StageState
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
    ],
)
def test_mistakes_of_value(text: str, fragment: str) -> None:
    dockerfile = parse(f"FROM a\n{text}", "Dockerfile")
    state = StageState(RunConfig(), global_args={}, build_args={})
    with pytest.raises(BadWord) as caught:
        for instruction in dockerfile.stages[0].instructions:
            state.apply(instruction)
    assert fragment in str(caught.value)
