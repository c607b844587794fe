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
    epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A qcow2 file and where in it the root file system lies; `length` 0: to the end."""

    path: str
    offset: int = 0
    length: int = 0
    file_system: str = "ext4"
    sector: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MountAction:
    """A mount of one RUN step at `target`; `kind` is cache, secret, bind or tmpfs.

    `path` is a directory of the host (cache), or a path in the image `source` (bind; an index of
    the job's sources). A bind of the context has `items` instead. `content` is a secret, base64.
    `size` is a tmpfs's limit, 0 for none.
    """

    kind: str
    target: str
    path: str = ""
    source: int = -1
    items: tuple[Item, ...] = ()
    content: str = field(default="", repr=False)
    writable: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAction:
    """`namespace` is a path for setns, "" for an empty network. `certificates` is the host's
    bundle or "". `script` is written to a file that `argv` then is. `groups` are the entrances of
    control groups that bound the step."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    user: str
    working_dir: str
    script: str
    namespace: str
    resolv_conf: str
    certificates: str
    mounts: tuple[MountAction, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`disk` is a fresh overlay over `backing`. None: nothing is written, and either `digest` names
    paths in the only source whose content is to be digested, or, with `examine`, that source is
    somebody else's whole disk, to be looked at (`partition`: where its root is).

    `sources` are images, mounted read-only; COPY --from reads the first. `work` is a private
    directory. `directories` are made first (WORKDIR)."""

    parent: int
    disk: Volume | None
    backing: str
    sources: tuple[Volume, ...]
    work: str
    directories: tuple[str, ...] = ()
    copy: CopyAction | None = None
    run: RunAction | None = None
    digest: tuple[str, ...] = ()
    examine: bool = False
    partition: int | None = None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def job_from_json(text: str) -> Job:
    data: dict[str, Any] = json.loads(text)
    copy, run, disk = data["copy"], data["run"], data["disk"]
    if copy is not None:
        sources = [Source(**{**s, "items": _items(s)}) for s in copy["sources"]]
        copy = CopyAction(**{**copy, "sources": tuple(sources)})
    if run is not None:
        mounts = [MountAction(**{**m, "items": _items(m)}) for m in run["mounts"]]
        lists = {"argv": tuple(run["argv"]), "groups": tuple(run["groups"])}
        run = RunAction(**{**run, **lists, "mounts": tuple(mounts)})
    values = {
        **data,
        "disk": disk and Volume(**disk),
        "sources": tuple(Volume(**source) for source in data["sources"]),
        "directories": tuple(data["directories"]),
        "digest": tuple(data["digest"]),
        "copy": copy,
        "run": run,
    }
    return Job(**values)


def _items(owner: dict[str, Any]) -> tuple[Item, ...]:
    return tuple(Item(**item) for item in owner["items"])
