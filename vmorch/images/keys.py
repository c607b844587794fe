"""The keys of layers and images: digests of everything that can change their bytes. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from vmorch.images.dockerfile.steps import CopyStep, MountStep, RunStep
from vmorch.images.selection import Selected
from vmorch.model.codec import run_config_to_json
from vmorch.model.context import ContextEntry
from vmorch.model.image import BootConfig, RunConfig

# Raised when the worker comes to write other bytes for the same step, which
# tests/real/test_image_bytes.py notices.
BUILDER_VERSION = 2


def digest_of(document: Any) -> str:
    """Of a JSON value, whatever the order of its objects' keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def run_key(
    parent: str, directories: Sequence[str], step: RunStep, mounts: Sequence[Any] = ()
) -> str:
    """Proxies are left out: they say how the step reaches the outside, not what it does.
    `mounts` are the parts that `mount_part` gave."""
    return _key(
        parent,
        directories,
        {
            "run": step.argv,
            "script": step.script,
            "environment": step.environment,
            "user": step.user,
            "working_dir": step.working_dir,
            "mounts": mounts,
            "network": step.network,
        },
    )


def mount_part(mount: MountStep, *, files: Selected | None, source_layer: str) -> list[Any]:
    """What of a mount can change a layer's bytes: contents of binds, but only the names of caches
    and secrets."""
    entries = [_entry(entry) for entry in files.entries] if files else []
    place = [mount.kind, mount.target, mount.writable, mount.name, mount.env]
    rights = [mount.mode, mount.uid, mount.gid, mount.size_bytes]
    return [*place, *rights, entries, source_layer, mount.source if source_layer else ""]


def copy_key(
    parent: str,
    directories: Sequence[str],
    step: CopyStep,
    *,
    files: Sequence[Selected],
    source_content: str,
) -> str:
    """`files` are what the sources named in the context, heredocs among them; `source_content` is
    the digest of what --from reads. A file that is not copied, and the order of a directory's
    listing, have no part in it."""
    return _key(
        parent,
        directories,
        {
            "copy": [[file.name, [_entry(e) for e in file.entries]] for file in files],
            "from": source_content,
            "destination": [step.destination, step.into_directory],
            "unpack": step.is_add,
            "owner": step.chown,
            "epoch": step.epoch,
            "mode": step.chmod,
        },
    )


def directory_key(parent: str, directories: Sequence[str]) -> str:
    return _key(parent, directories, {})


def flat_key(top: str) -> str:
    """Of the one layer that stands for `top` and all between it and its base."""
    return _key(top, (), {"flat": True})


def image_digest(layer: str, run: RunConfig, boot: BootConfig) -> str:
    return digest_of(
        {
            "version": BUILDER_VERSION,
            "layer": layer,
            "run": run_config_to_json(run),
            "boot": [boot.kernel, boot.initrd, boot.command_line, sorted(boot.supports)],
        }
    )


def _key(parent: str, directories: Sequence[str], step: dict[str, Any]) -> str:
    document = {"version": BUILDER_VERSION, "parent": parent, "directories": directories}
    return digest_of({**document, "step": step})


def _entry(entry: ContextEntry) -> list[Any]:
    mode = 0 if entry.kind == "symlink" else entry.mode
    return [entry.path, entry.kind, mode, entry.digest, entry.target]
