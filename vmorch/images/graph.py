"""Which stages of a Dockerfile need which, and what counts as a step. Pure."""

from __future__ import annotations

import platform

from vmorch.images.dockerfile.instructions import Arg, Copy, Dockerfile, Run, Stage, Workdir
from vmorch.images.dockerfile.parse import references

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def host_platform() -> dict[str, str]:
    """The ARGs that every Dockerfile has without declaring them globally (Docker's reference)."""
    machine = platform.machine()
    architecture = _ARCHITECTURES.get(machine, machine)
    values = {}
    for side in ("BUILD", "TARGET"):
        values[f"{side}PLATFORM"] = f"linux/{architecture}"
        values[f"{side}OS"], values[f"{side}ARCH"] = "linux", architecture
        values[f"{side}VARIANT"] = ""
    return values


def needed_stages(dockerfile: Dockerfile, target: Stage) -> list[Stage]:
    """The target and all that it reads from, in the file's order."""
    needed: set[int] = set()
    pending = [target]
    while pending:
        stage = pending.pop()
        if stage.index not in needed:
            needed.add(stage.index)
            pending += sources_of(dockerfile, stage)
    return [stage for stage in dockerfile.stages if stage.index in needed]


def sources_of(dockerfile: Dockerfile, stage: Stage) -> list[Stage]:
    read = [reference for i in stage.instructions for reference in references(i)]
    found = [dockerfile.stage(reference) for reference in read]
    return [s for s in (*found, parent_stage(dockerfile, stage)) if s is not None]


def parent_stage(dockerfile: Dockerfile, stage: Stage) -> Stage | None:
    """FROM an earlier stage, by its name alone: a number there would be an image."""
    wanted = stage.base.image.lower()
    earlier = [s for s in dockerfile.stages[: stage.index] if s.base.name == wanted]
    return earlier[-1] if earlier else None


def step_lines(stage: Stage) -> list[int]:
    """Which instructions count as steps. WORKDIRs are part of the next step, if there is one."""
    lines = [stage.base.line]
    changing = [i for i in stage.instructions if isinstance(i, (Run, Copy, Workdir))]
    lines += [i.line for i in changing if not isinstance(i, Workdir)]
    if changing and isinstance(changing[-1], Workdir):
        lines.append(changing[-1].line)
    return lines


def declared_arguments(stage: Stage) -> set[str]:
    return {name for i in stage.instructions if isinstance(i, Arg) for name, _ in i.values}
