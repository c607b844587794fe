"""What a Dockerfile says, before any variable is substituted. Each value knows its line."""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.images.dockerfile.lines import Heredoc
from vmorch.images.dockerfile.mounts import Mount
from vmorch.images.dockerfile.values import number_of


@dataclass(frozen=True, slots=True)
class Command:
    """Shell form: `words` is the one line, for the SHELL of the moment. Exec form: the argv."""

    words: tuple[str, ...]
    is_shell: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """None: no default."""

    values: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """`network` is false with `--network=none`."""

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY, or ADD when `is_add`. `source_stage` is `--from`; `checksum` that of the one source
    that is a URL."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    is_add: bool = False
    chown: str = ""
    chmod: str = ""
    source_stage: str = ""
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """`command` None: HEALTHCHECK NONE. Times are seconds; defaults are Docker's."""

    command: Command | None
    interval_seconds: float = 30.0
    timeout_seconds: float = 30.0
    start_period_seconds: float = 0.0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM and what follows it. `index` counts from 0, as in `COPY --from=0`."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def title(self) -> str:
        return self.base.name or f"stage {self.index}"


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file. `global_args` stand before the first FROM."""

    file: str
    escape: str
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    def stage(self, reference: str) -> Stage | None:
        """By name (the last of that name wins, case is ignored) or by number."""
        for stage in reversed(self.stages):
            if stage.base.name and stage.base.name == reference.lower():
                return stage
        number = number_of(reference)
        if number is not None and number < len(self.stages):
            return self.stages[number]
        return None
