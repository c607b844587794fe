"""Shapes the root file system of a base: our files, the kernel's modules, what is left out.

Everything here works on a directory of the host and runs nothing inside it. Paths from a
definition are taken below that directory, symbolic links of the root included.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from vmorch.errors import BuildFailed
from vmorch.images.base_definition import BaseDefinition
from vmorch.images.base_process import Say, run

_HELPERS = "usr/lib/vmorch"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_NULL_UNIT = "/dev/null"


def inside(root: Path, path: str) -> Path:
    """`path` of the root, its symbolic links followed as the guest would: absolute targets begin
    at `root`."""
    place = root
    pending = [part for part in path.split("/") if part]
    for _ in range(len(pending) + 40 * 8):
        if not pending:
            return place
        part = pending.pop(0)
        if part == "..":
            place = root if place == root else place.parent
            continue
        place = place / part
        if place.is_symlink():
            target = str(place.readlink())
            place = root if target.startswith("/") else place.parent
            pending = [step for step in target.split("/") if step not in {"", "."}] + pending
    raise BuildFailed(f"{path} is a loop of symbolic links.")


def lay_out(definition: BaseDefinition, root: Path, guest: Path) -> None:
    """Directories, links and the trees of `images/guest`, all owned by root."""
    for target, link in ((target, link) for link, target in definition.links.items()):
        place = root / link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
    for name in definition.directories:
        inside(root, name).mkdir(parents=True, exist_ok=True)
    for tree in definition.trees:
        _lay_tree(guest / tree, root)
    for unit in definition.mask:
        _link(root / "etc/systemd/system" / unit, _NULL_UNIT)
    for target, units in definition.wants.items():
        for unit in units:
            wants = root / f"etc/systemd/system/{target}.wants"
            _link(wants / unit, f"/lib/systemd/system/{unit}")


def _lay_tree(tree: Path, root: Path) -> None:
    for source in sorted(path for path in tree.rglob("*") if path.is_file()):
        directory = inside(root, str(source.parent.relative_to(tree)))
        directory.mkdir(parents=True, exist_ok=True)
        place = directory / source.name
        place.unlink(missing_ok=True)
        # A checkout's or a wheel's own modes depend on somebody's umask.
        mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
        place.write_bytes(source.read_bytes())
        place.chmod(mode)


def _link(place: Path, target: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


async def add_helpers(root: Path, guest: Path, packages: Path, say: Say) -> None:
    """The static busybox and our own program, in the place that the guest contract names."""
    helpers = inside(root, _HELPERS)
    helpers.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(inside(packages, "bin/busybox"), helpers / "busybox")
    (helpers / "busybox").chmod(0o755)
    sources = sorted((guest / "src").glob("*.c"))
    compiler = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-static", "-Os", "-Wall", "-Wextra", "-s"]
    await run(
        [*compiler, "-o", helpers / "vmorch-guest", *sources],
        say=say,
        hint="The guest's program is compiled on the host: apt-get install gcc libc6-dev.",
    )
    (helpers / "vmorch-guest").chmod(0o755)


async def add_applets(root: Path) -> None:
    """A symbolic link for each of busybox's commands that the root lacks."""
    applets = await run([root / _HELPERS / "busybox", "--list"], say=lambda line: None)
    programs = inside(root, "bin")
    _link(programs / "busybox", "../lib/vmorch/busybox")
    for applet in applets:
        if not (programs / applet).exists() and not (root / "usr/sbin" / applet).exists():
            _link(programs / applet, "busybox")
    for name in ("init", "poweroff", "reboot", "halt"):
        if not (root / "usr/sbin" / name).exists():
            _link(root / "usr/sbin" / name, "../bin/busybox")


async def add_programs(names: Iterable[str], packages: Path, root: Path) -> None:
    """Programs out of unpacked packages, with the shared libraries that they need."""
    pending = list(names)
    done: set[str] = set()
    while pending:
        name = pending.pop()
        if name in done:
            continue
        done.add(name)
        source = _find(packages, name)
        place = inside(root, str(Path(name).parent)) / Path(name).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        place.chmod(0o755)
        pending += await _needed(source)


def _find(packages: Path, name: str) -> Path:
    """A program by its path, a library by its name in the two places Debian has for them."""
    for place in (name, name.removeprefix("/usr")):
        found = inside(packages, place)
        if found.is_file():
            return found
    raise BuildFailed(
        f"None of the packages has {name}.", hint="Add its package to the base's definition."
    )


async def _needed(program: Path) -> list[str]:
    lines = await run(["readelf", "--dynamic", "--program-headers", program], say=lambda line: None)
    needed = []
    for line in lines:
        if "(NEEDED)" in line:
            library = line.rpartition("[")[2].rstrip("]")
            if not library.startswith("ld-linux"):
                needed.append(f"/{_LIBRARIES}/{library}")
        elif "program interpreter:" in line:
            needed.append(line.rpartition(": ")[2].rstrip("]"))
    return needed


async def add_modules(kernel: Path, root: Path, patterns: Iterable[str], version: str) -> None:
    """The modules of the unpacked kernel package that match a pattern (relative to the kernel's
    module directory), and depmod's index of them."""
    source = kernel / "lib/modules" / version
    kept = tuple(patterns)
    if not kept:
        return
    target = inside(root, "lib") / "modules" / version
    for path in sorted(source.rglob("*")):
        relative = str(path.relative_to(source))
        is_module = ".ko" in path.name
        if path.is_file() and (not is_module or any(fnmatchcase(relative, p) for p in kept)):
            place = target / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    await run(["depmod", "--basedir", root, version], say=lambda line: None)


def remove(root: Path, patterns: Iterable[str]) -> None:
    """Delete what matches a pattern; a pattern that ends in `/*` empties a directory."""
    for pattern in patterns:
        # By its parent: glob takes a plain name whose link leads nowhere (on the host) as absent.
        directory, _, name = pattern.rpartition("/")
        found = [path for path in (root / directory).glob("*") if fnmatchcase(path.name, name)]
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
