"""COPY, ADD and WORKDIR: places files in the layer.

Runs chrooted into the layer, so that no symlink, `..` or absolute name in the image or in what
is copied leads anywhere else. What it reads was opened before, or is reached by descriptor.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from vmorch.images.worker.archive import unpack
from vmorch.images.worker.job import CopyAction, Source
from vmorch.images.worker.tree import CopyFailed, Node, blob_nodes, image_nodes, image_paths
from vmorch.images.worker.users import owner

_CHUNK = 1 << 30


def make_directories(path: str, uid: int = 0, gid: int = 0) -> None:
    """`mkdir -p`, mode 0755; what is there already keeps its owner and mode."""
    at = ""
    for part in path.strip("/").split("/"):
        at = f"{at}/{part}"
        if not part or Path(at).is_dir():
            continue
        if os.path.lexists(at):
            raise CopyFailed(f"'{at}' in the image is not a directory")
        Path(at).mkdir(0o755)
        os.chown(at, uid, gid)


class Copier:
    """One COPY. `image_root` is a descriptor of the --from image's root, or -1."""

    def __init__(self, action: CopyAction, *, host_root: int, image_root: int) -> None:
        self.action = action
        self.host_root = host_root
        self.image_root = image_root
        self.owner = owner(action.chown) if action.chown else None
        self._placed: list[str] = []

    def run(self) -> None:
        """Raises CopyFailed, UnknownUser, OSError."""
        for source in self.action.sources:
            if source.archive:
                self._unpack(source)
            elif source.stage:
                self._copy_from_image(source)
            else:
                self._place(source.name, blob_nodes(source, self.host_root))
        if self.action.epoch is not None:
            for path in reversed(self._placed):  # a directory after what was put into it
                os.utime(path, (self.action.epoch, self.action.epoch), follow_symlinks=False)

    def _copy_from_image(self, source: Source) -> None:
        paths = image_paths(self.image_root, source.path)
        if len(paths) > 1 and not self.action.into_directory:
            raise CopyFailed(
                f"'{source.path}' names {len(paths)} files: end the destination with '/'"
            )
        for path in paths:
            self._place(posixpath.basename(path), image_nodes(self.image_root, path))

    def _unpack(self, source: Source) -> None:
        make_directories(self.action.destination, *(self.owner or (0, 0)))
        node = next(iter(blob_nodes(source, self.host_root)))
        unpack(node.descriptor, self.action.destination, self.owner)

    def _place(self, name: str, nodes: Iterator[Node]) -> None:
        """A directory gives its contents, a file itself."""
        first = next(nodes)
        destination = self.action.destination
        owner_of_new = self.owner or (0, 0)
        if first.kind == "directory":
            if not Path(destination).is_dir():
                make_directories(posixpath.dirname(destination), *owner_of_new)
                self._put(destination, first)
            for node in nodes:
                self._put(posixpath.join(destination, node.path), node)
            return
        if self.action.into_directory or Path(destination).is_dir():
            destination = posixpath.join(destination, name)
        make_directories(posixpath.dirname(destination), *owner_of_new)
        self._put(destination, first)

    def _put(self, target: str, node: Node) -> None:
        uid, gid = self.owner or (node.uid, node.gid)
        mode = node.mode if self.action.chmod is None else self.action.chmod
        self._placed.append(target)
        match node.kind:
            case "directory":
                # Through a symlink to a directory too: /lib is one, and must stay one.
                if not Path(target).is_dir():
                    if os.path.lexists(target):
                        raise CopyFailed(f"'{target}' in the image is not a directory")
                    Path(target).mkdir()
                    os.chown(target, uid, gid)
                    Path(target).chmod(mode)
            case "symlink":
                self._clear(target)
                Path(target).symlink_to(node.target)
                os.lchown(target, uid, gid)
            case _:
                try:
                    self._clear(target)
                    self._write(target, node, uid, gid, mode)
                finally:
                    os.close(node.descriptor)

    def _clear(self, target: str) -> None:
        """Never write through what is there: a hard link or a symlink has another name too."""
        if Path(target).is_dir() and not Path(target).is_symlink():
            raise CopyFailed(f"'{target}' in the image is a directory")
        if os.path.lexists(target):
            Path(target).unlink()

    def _write(self, target: str, node: Node, uid: int, gid: int, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        out = os.open(target, flags, 0o600)
        try:
            while os.sendfile(out, node.descriptor, None, _CHUNK):
                pass
            os.fchown(out, uid, gid)
            os.fchmod(out, mode)  # after chown, which clears setuid
            for name, value in node.xattrs:
                os.setxattr(out, name, value)
            if node.modified_ns is not None:
                os.utime(out, ns=(node.modified_ns, node.modified_ns))
        finally:
            os.close(out)
