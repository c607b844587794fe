"""Instructions that change files, resolved: nothing is left to substitute."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmorch.images.dockerfile.lines import Heredoc


@dataclass(frozen=True, slots=True, kw_only=True)
class MountStep:
    """One `--mount` with nothing left to substitute. `target` is absolute; "" for a secret that
    is only a variable, `env`. `source` is a path in the context or in `source_stage`; `name` is
    the id of a cache or secret. `size_bytes` 0: no limit."""

    kind: str
    target: str
    source: str = ""
    source_stage: str = ""
    name: str = ""
    writable: bool = False
    required: bool = False
    sharing: str = "shared"
    env: str = ""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """A command with nothing left to substitute. `script` is a heredoc that names its own
    interpreter: the command is that file."""

    line: int
    text: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    proxies: dict[str, str]
    user: str
    working_dir: str
    script: str = ""
    mounts: tuple[MountStep, ...] = ()
    network: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep:
    """Files from the context, or from `source_stage`, to an absolute `destination`. `url` and
    `checksum` are those of a source that is fetched. `into_directory`: the destination was
    written with a final slash (or as `.`). `epoch` is the time that files get (seconds)."""

    line: int
    text: str
    sources: tuple[str, ...]
    documents: tuple[Heredoc, ...]
    destination: str
    into_directory: bool
    is_add: bool
    chown: str
    chmod: int | None
    source_stage: str
    url: str = ""
    checksum: str = ""
    proxies: dict[str, str] = field(default_factory=dict)
    epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStep:
    """WORKDIR: the directory is made if it is not there."""

    line: int
    text: str
    path: str


Step = RunStep | CopyStep | DirectoryStep
