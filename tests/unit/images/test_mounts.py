"""Mounts of RUN steps: what was written, resolved; secrets that must not show."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from vmorch.images.dockerfile.parse import parse
from vmorch.images.dockerfile.stage import StageState
from vmorch.images.dockerfile.steps import MountStep, RunStep
from vmorch.images.dockerfile.words import BadWord
from vmorch.images.mounting import Mounting
from vmorch.images.protocol import BuildRequest
from vmorch.images.selection import Context
from vmorch.images.workshop import LINE_CHARACTERS, Output
from vmorch.model.image import RunConfig


def resolved(lines: str) -> RunStep:
    instructions = parse(f"FROM tiny AS made\nFROM tiny\n{lines}", "D").stages[-1].instructions
    state = StageState(RunConfig(), global_args={}, build_args={})
    step = [state.apply(instruction) for instruction in instructions][-1]
    assert isinstance(step, RunStep)
    return step


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", {"kind": "bind", "target": "/x", "source": "", "writable": False}),
        ("type=bind,dst=/x,src=/a/../b,rw", {"source": "b", "writable": True}),
        ("from=made,target=/x,source=/o", {"source_stage": "made", "source": "o"}),
        (
            "type=cache,target=/c",
            {"name": "/c", "writable": True, "sharing": "shared", "mode": 0o755},
        ),
        ("type=cache,target=c,id=i,ro,mode=0700,uid=3", {"target": "/w/c", "name": "i", "uid": 3}),
        ("type=cache,target=/c,sharing=locked", {"sharing": "locked"}),
        ("type=secret,id=t", {"target": "/run/secrets/t", "name": "t", "mode": 0o400}),
        ("type=secret,target=/etc/t", {"target": "/etc/t", "name": "t"}),
        ("type=secret,id=t,env=T", {"target": "", "env": "T"}),
        ("type=secret,id=t,required", {"required": True}),
        ("type=tmpfs,target=/t,size=2m", {"size_bytes": 2 << 20}),
        ("type=cache,target=$P/c", {"target": "/var/c"}),
    ],
)
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    (mount,) = resolved(f"ENV P=/var\nWORKDIR /w\nRUN --mount={text} x").mounts
    for name, value in expected.items():
        assert getattr(mount, name) == value, name


@pytest.mark.parametrize(
    "text", ["target=/", "type=tmpfs,target=/t,size=x", "target=/x,source=none"]
)
def test_what_cannot_be_mounted(text: str) -> None:
    with pytest.raises(BadWord):
        Mounting(resolved(f"RUN --mount={text} x").mounts, Context(()), {})


def secret(text: str) -> dict[str, str]:
    return {"t": base64.b64encode(text.encode()).decode()}


def test_a_secret_that_was_not_given() -> None:
    mounts = resolved("RUN --mount=type=secret,id=t x").mounts
    assert asyncio.run(actions(mounts, {})) == ()
    required = resolved("RUN --mount=type=secret,id=t,required x").mounts
    with pytest.raises(BadWord, match="--secret id=t"):
        Mounting(required, Context(()), {})


async def actions(mounts: tuple[MountStep, ...], secrets: dict[str, str]) -> tuple[Any, ...]:
    from contextlib import AsyncExitStack

    nothing: Any = None
    async with AsyncExitStack() as stack:
        return await Mounting(mounts, Context(()), secrets).actions(nothing, nothing, stack)


def test_secrets_do_not_show_where_values_are_shown() -> None:
    mounts = resolved("RUN --mount=type=secret,id=t x").mounts
    (action,) = asyncio.run(actions(mounts, secret("hush")))
    request = BuildRequest(
        name="a", dockerfile="", dockerfile_name="D", context=(), secrets=secret("hush")
    )
    for shown in (repr(action), repr(request), repr(Mounting(mounts, Context(()), {}).key({}))):
        assert secret("hush")["t"] not in shown
        assert "hush" not in shown


def test_output_conceals_secrets_line_by_line() -> None:
    said: list[str] = []
    output = Output(said.append, ["first line\nsecond\n", "sec"])
    output.feed(b"a first line b\nthe sec")
    output.feed(b"ond\nsec")
    output.close()
    assert said == ["a *** b", "the ***", "***"]
    assert "second" not in output.tail
    output = Output(said.append, ["s" * 50])
    output.feed(b"x" * (LINE_CHARACTERS * 2 - 20) + b"s" * 50 + b"y" * LINE_CHARACTERS)
    output.close()
    assert "s" * 25 not in said[-1]
