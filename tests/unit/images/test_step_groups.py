"""What bounds a RUN step: where its control groups go, what is written, what is said of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmorch.config import load_settings
from vmorch.errors import UsageError
from vmorch.images import stepgroups
from vmorch.images.stepgroups import Bounds, Hierarchy, StepGroups, hierarchies_of_host
from vmorch.images.workshop import Outcome

BOUNDS = Bounds(processes=77, memory_bytes=300 << 20)
V1_OWN = "8:pids:/ours\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n"
V1_MOUNTS = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 / /cg/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 /ours /cg/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / V2 rw,relatime - cgroup2 cgroup2 rw
"""


@pytest.fixture(autouse=True)
def plain_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel removes a group's files with it."""

    def remove(paths: Sequence[Path]) -> None:
        for path in paths:
            shutil.rmtree(path)

    monkeypatch.setattr(stepgroups, "_remove", remove)


def process(directory: Path, own: str, mounts: str, controllers: str = "") -> Path:
    place = directory / "process"
    place.mkdir()
    (directory / "cgroup.controllers").write_text(controllers)
    (place / "cgroup").write_text(own)
    (place / "mountinfo").write_text(mounts.replace("V2", str(directory)))
    return place


def test_version_1_is_bounded_beneath_our_own_group(tmp_path: Path) -> None:
    found = hierarchies_of_host(process(tmp_path, V1_OWN, V1_MOUNTS))
    assert [(h.version, h.controllers, str(h.parent)) for h in found] == [
        ("cgroup", ("memory",), "/cg/memory/a/b"),
        ("cgroup", ("pids",), "/cg/pids"),
    ]


def test_a_controller_comes_from_where_it_is(tmp_path: Path) -> None:
    mounts = "".join(line + "\n" for line in V1_MOUNTS.splitlines() if "/cg/pids" not in line)
    found = hierarchies_of_host(process(tmp_path, V1_OWN, mounts, "cpu memory pids\n"))
    assert [(h.version, h.controllers) for h in found] == [
        ("cgroup", ("memory",)),
        ("cgroup2", ("pids",)),
    ]
    assert hierarchies_of_host(tmp_path / "none") == []


async def _inside(groups: StepGroups) -> dict[str, str]:
    async with groups.step() as step:
        (entrance,) = map(Path, step.entrances)
        assert entrance.name == "cgroup.procs"
        return {file.name: file.read_text() for file in entrance.parent.iterdir()}


@pytest.mark.parametrize(
    ("version", "controllers", "written"),
    [
        ("cgroup", ("memory",), {"memory.limit_in_bytes": str(300 << 20)}),
        ("cgroup", ("pids",), {"pids.max": "77"}),
        ("cgroup2", ("pids", "memory"), {"pids.max": "77", "memory.max": str(300 << 20)}),
    ],
)
def test_a_step_s_group_has_its_bounds_and_goes_with_it(
    tmp_path: Path, version: str, controllers: tuple[str, ...], written: dict[str, str]
) -> None:
    hierarchy = Hierarchy(version, controllers, tmp_path, tmp_path)
    groups = StepGroups("abc123", BOUNDS, [hierarchy])
    assert asyncio.run(_inside(groups)) == written
    lacking = {"processes": "pids", "memory": "memory"}
    assert groups.unbounded() == [n for n, c in lacking.items() if c not in controllers]
    assert [path.name for path in tmp_path.iterdir()] == (
        ["cgroup.subtree_control"] if version == "cgroup2" else []
    )


def test_where_no_group_can_be_made_a_step_has_none(tmp_path: Path) -> None:
    groups = StepGroups(
        "abc123", BOUNDS, [Hierarchy("cgroup", ("pids",), tmp_path, tmp_path / "x")]
    )
    assert groups.unbounded() == ["processes", "memory"]

    async def entrances() -> tuple[str, ...]:
        async with groups.step() as step:
            assert step.exceeded() == ""
            return step.entrances

    assert asyncio.run(entrances()) == ()


def test_a_sweep_takes_what_bears_our_name_wherever_it_is(tmp_path: Path) -> None:
    ours, deep = tmp_path / "abc123-step-7-1", tmp_path / "a/b/abc123-step-7-2"
    others = [tmp_path / "abc124-step-7-1", tmp_path / "abc123-env-web-1"]
    for path in (ours, deep, *others):
        path.mkdir(parents=True)
    StepGroups("abc123", BOUNDS, [Hierarchy("cgroup", ("pids",), tmp_path, tmp_path)]).sweep()
    assert [path.exists() for path in (ours, deep, *others)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("version", "controller", "file", "text", "said"),
    [
        (
            "cgroup",
            "memory",
            "memory.oom_control",
            "under_oom 0\noom_kill 2\n",
            "300 MiB of memory",
        ),
        ("cgroup2", "memory", "memory.events", "max 9\noom 1\noom_kill 1\n", "300 MiB of memory"),
        ("cgroup", "pids", "pids.events", "max 3\n", "77 processes at once"),
        ("cgroup", "memory", "memory.oom_control", "under_oom 0\noom_kill 0\n", ""),
        ("cgroup2", "pids", "pids.events", "max 0\n", ""),
    ],
)
def test_what_a_step_wanted_more_of(
    tmp_path: Path, version: str, controller: str, file: str, text: str, said: str
) -> None:
    (tmp_path / file).write_text(text)
    group = stepgroups.Group(tmp_path, Hierarchy(version, (controller,), tmp_path, tmp_path))
    assert group.exceeded(BOUNDS) == (f"it needed more than {said}" if said else "")


def test_a_failure_names_the_bound() -> None:
    outcome = Outcome(exit_code=137, exceeded="it needed more than 1.0 GiB of memory")
    message, hint = outcome.failure(60)
    assert message == "the command was killed: it needed more than 1.0 GiB of memory"
    assert "build_memory_bytes" in hint
    outcome.exit_code = 2
    assert outcome.failure(60)[0].startswith("the command ended with code 2: it needed")
    outcome.timed_out = True
    assert "60 s" in outcome.failure(60)[0]
    assert "1.0 GiB" in outcome.failure(60)[0]


@pytest.mark.parametrize(("key", "value"), [("BUILD_PROCESSES", "0"), ("BUILD_MEMORY_BYTES", "-1")])
def test_bounds_that_cannot_be(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(UsageError, match=key.lower()):
        load_settings({f"VMORCH_{key}": value}, tmp_path / "none")
