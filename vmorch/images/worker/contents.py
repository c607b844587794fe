"""The digest of files in an image: what COPY --from would place, whatever layer it lies in."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmorch.images.worker.tree import Node, image_nodes, image_paths

if TYPE_CHECKING:
    from hashlib import _Hash


def digest(root: Path, patterns: Sequence[str]) -> str:
    """Of names, kinds, modes, owners, link targets and contents. Times are left out, as they are
    for files of a context.

    Raises:
        CopyFailed: nothing is there.
    """
    whole = hashlib.sha256()
    image = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for pattern in patterns:
        for path in image_paths(image, pattern):
            whole.update(f"source\0{posixpath.basename(path)}\0".encode("utf-8", "surrogateescape"))
            for node in image_nodes(image, path):
                _add(whole, node)
    os.close(image)
    return f"sha256:{whole.hexdigest()}"


def _add(whole: _Hash, node: Node) -> None:
    head = f"{node.path}\0{node.kind}\0{node.mode:o}\0{node.uid}\0{node.gid}\0{node.target}\0"
    whole.update(head.encode("utf-8", "surrogateescape"))
    for name, value in node.xattrs:
        whole.update(f"{name}\0{value.hex()}\0".encode())
    if node.descriptor >= 0:
        with os.fdopen(node.descriptor, "rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
