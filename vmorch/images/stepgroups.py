"""Control groups of RUN steps: the bound on their processes and memory, and what came of it.

A step has a group in each hierarchy that has a controller for it. Version 1: beneath our own
group, and so under whatever bounds we are under. Version 2: at the top of what we see, as it
gives no controllers to a group beneath one that holds processes. Where none can be made the step
runs without that bound.

The kernel ends a step with its worker, but its groups stay until somebody removes them: their
names begin with the installation's, for the sweep at the daemon's next start. Blocking, but for
`step`; call from a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_GONE_SECONDS = 5.0
_V1, _V2 = "cgroup", "cgroup2"
_PROCESSES, _MEMORY = "pids", "memory"
# Not there where the kernel does not account for swap.
_OF_SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")
# (version, controller) -> the file that counts what was refused or killed, and under which word.
_EVENTS = {
    (_V1, _PROCESSES): ("pids.events", "max"),
    (_V2, _PROCESSES): ("pids.events", "max"),
    (_V1, _MEMORY): ("memory.oom_control", "oom_kill"),
    (_V2, _MEMORY): ("memory.events", "oom_kill"),
}


def default_memory_bytes() -> int:
    """Half of the host's."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one step. `processes` counts threads too; memory that a tmpfs holds counts as the
    step's, the cache of files only as long as nothing else needs it."""

    processes: int
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.processes} processes and {_size(self.memory_bytes)} of memory"

    def files(self, version: str, controller: str) -> dict[str, int]:
        """What to write, in this order."""
        if controller == _PROCESSES:
            return {"pids.max": self.processes}
        if version == _V1:
            limit = self.memory_bytes
            return {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
        return {"memory.max": self.memory_bytes, "memory.swap.max": 0}

    def exceeded(self, controller: str) -> str:
        if controller == _PROCESSES:
            return f"it needed more than {self.processes} processes at once"
        return f"it needed more than {_size(self.memory_bytes)} of memory"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups can be made beneath `parent`; `mount` is the whole that we see."""

    version: str
    controllers: tuple[str, ...]
    mount: Path
    parent: Path


@dataclass(frozen=True, slots=True)
class Group:
    path: Path
    hierarchy: Hierarchy

    def exceeded(self, bounds: Bounds) -> str:
        """What the step wanted more of; "" when it was content."""
        for controller in self.hierarchy.controllers:
            file, name = _EVENTS[self.hierarchy.version, controller]
            with contextlib.suppress(OSError):
                words = (self.path / file).read_text().split()
                counts = dict(zip(words[::2], words[1::2], strict=False))
                if counts.get(name, "0") != "0":
                    return bounds.exceeded(controller)
        return ""


@dataclass(frozen=True, slots=True)
class StepGroup:
    """Those of one step. `entrances` are files into which a process writes itself."""

    groups: tuple[Group, ...]
    bounds: Bounds

    @property
    def entrances(self) -> tuple[str, ...]:
        return tuple(str(group.path / "cgroup.procs") for group in self.groups)

    def exceeded(self) -> str:
        return next(filter(None, (group.exceeded(self.bounds) for group in self.groups)), "")


class StepGroups:
    """Those of one installation; `prefix` begins the names of its own."""

    def __init__(
        self, prefix: str, bounds: Bounds, hierarchies: Sequence[Hierarchy] | None = None
    ) -> None:
        self.bounds = bounds
        self._name = f"{prefix}-step-"
        self._hierarchies = hierarchies_of_host() if hierarchies is None else hierarchies
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[StepGroup]:
        groups = await asyncio.to_thread(self._made)
        try:
            yield StepGroup(groups, self.bounds)
        finally:
            await asyncio.to_thread(_remove, [group.path for group in groups])

    def unbounded(self) -> list[str]:
        """What steps have no bound for on this host: "memory", "processes"; found by trying."""
        groups = self._made()
        _remove([group.path for group in groups])
        have = {controller for group in groups for controller in group.hierarchy.controllers}
        names = {_PROCESSES: "processes", _MEMORY: "memory"}
        return [name for controller, name in names.items() if controller not in have]

    def sweep(self) -> None:
        """Remove what a killed daemon left. Before the first step only."""
        mounts = {hierarchy.mount for hierarchy in self._hierarchies}
        _remove([path for mount in mounts for path in mount.rglob(f"{self._name}*")])

    def _made(self) -> tuple[Group, ...]:
        made = []
        for hierarchy in self._hierarchies:
            with contextlib.suppress(OSError):
                path = self._fresh(hierarchy.parent)
                try:
                    self._bound(path, hierarchy)
                except OSError:
                    _remove([path])
                    raise
                made.append(Group(path, hierarchy))
        return tuple(made)

    def _fresh(self, parent: Path) -> Path:
        while True:
            path = parent / f"{self._name}{os.getpid()}-{next(self._numbers)}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path

    def _bound(self, path: Path, hierarchy: Hierarchy) -> None:
        if hierarchy.version == _V2:
            wanted = " ".join(f"+{controller}" for controller in hierarchy.controllers)
            (hierarchy.parent / "cgroup.subtree_control").write_text(wanted)
        for controller in hierarchy.controllers:
            for name, value in self.bounds.files(hierarchy.version, controller).items():
                if name not in _OF_SWAP or (path / name).exists():
                    (path / name).write_text(str(value))


def hierarchies_of_host(process: Path = Path("/proc/self")) -> list[Hierarchy]:
    """Those that have a controller that we want, each controller once. `process` is a directory of
    /proc."""
    own = dict(line.split(":", 2)[1:] for line in _lines(process / "cgroup"))
    found: list[Hierarchy] = []
    for line in _lines(process / "mountinfo"):
        left, _, right = line.partition(" - ")
        root, target = left.split()[3:5]
        version, _, options = right.split(maxsplit=2)
        if version == _V1:
            offered = options.split(",")
            names = next((n for n in own if n and set(n.split(",")) <= set(offered)), "")
            inside = os.path.relpath(own.get(names, "/"), root)
            parent = Path(target) / ("" if inside.startswith("..") else inside)
        elif version == _V2:
            offered = " ".join(_lines(Path(target) / "cgroup.controllers")).split()
            parent = Path(target)
        else:
            continue
        taken = {controller for hierarchy in found for controller in hierarchy.controllers}
        wanted = [c for c in (_PROCESSES, _MEMORY) if c in offered and c not in taken]
        if wanted:
            found.append(Hierarchy(version, tuple(wanted), Path(target), parent))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _remove(paths: Sequence[Path]) -> None:
    """A group goes when the last process in it has gone. What does not go in time is left to the
    next sweep."""
    deadline = time.monotonic() + _GONE_SECONDS
    for path in paths:
        while not _removed(path) and time.monotonic() < deadline:
            for process in _members(path):
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.005)


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def _members(path: Path) -> Iterator[int]:
    """0 stands for one that our PID namespace does not show."""
    for line in _lines(path / "cgroup.procs"):
        if int(line) > 0:
            yield int(line)


def _size(count: int) -> str:
    gibibytes = count / (1 << 30)
    return f"{gibibytes:.1f} GiB" if gibibytes >= 1 else f"{count >> 20} MiB"
