"""What the daemon tells the worker, and what it says back. JSON on stdin and stderr; the output
of a RUN step goes to stdout unchanged."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file to place. `path` is relative to its source; "" is the source itself. `content`
    is a path on the host (a blob), `target` a symlink's."""

    path: str
    kind: str
    mode: int
    content: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source of a COPY, wildcards resolved. `name` is its last part; `archive`: unpack it.
    With `stage` it is the path or pattern `path` inside that mounted image, and has no items."""

    name: str
    items: tuple[Item, ...] = ()
    archive: bool = False
    stage: bool = False
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyAction:
    sources: tuple[Source, ...]
    destination: str
    into_directory: bool
    chown: str
    chmod: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAction:
    """`namespace` is a path for setns, "" for an empty network. `certificates` is the host's
    bundle or "". `script` is written to a file that `argv` then is."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    user: str
    working_dir: str
    script: str
    namespace: str
    resolv_conf: str
    certificates: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`disk` is a fresh overlay over `backing`; `source_disk` is mounted read-only for COPY
    --from. `work` is a private directory. `directories` are made first (WORKDIR)."""

    parent: int
    disk: str
    backing: str
    source_disk: str
    work: str
    directories: tuple[str, ...] = ()
    copy: CopyAction | None = None
    run: RunAction | None = field(default=None)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def job_from_json(text: str) -> Job:
    data: dict[str, Any] = json.loads(text)
    copy, run = data["copy"], data["run"]
    if copy is not None:
        sources = [
            Source(**{**source, "items": tuple(Item(**item) for item in source["items"])})
            for source in copy["sources"]
        ]
        copy = CopyAction(**{**copy, "sources": tuple(sources)})
    if run is not None:
        run = RunAction(**{**run, "argv": tuple(run["argv"])})
    return Job(**{**data, "directories": tuple(data["directories"]), "copy": copy, "run": run})
