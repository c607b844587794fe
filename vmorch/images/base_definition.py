"""A base as its file in `images/` declares it."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vmorch.errors import UsageError

BUILDER_VERSION = 1  # part of every base's digest; raise it when the same inputs give other bytes

_UNITS = {"M": 1024**2, "G": 1024**3}
_METHODS = ("extract", "install")
_OWN = frozenset({"aliases", "like", "name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseDefinition:
    """What `images/NAME.yaml` says, on top of what the definition says that it is `like`: a list
    or a mapping adds to that one's, anything else takes its place; names are never taken over.

    `method` "install" runs the packages' own scripts in a chroot, "extract" only takes
    `programs` (with the libraries they name) out of them. `trees` are directories of
    `images/guest` that are laid over the root. `links` maps a path to the target of a symbolic
    link, `wants` a systemd target to the units it should start. `excluded` are dpkg's patterns
    of paths that are never unpacked, `removed` glob patterns of what goes at the end, `commands`
    shell lines that run inside the root once the packages are installed.
    `modules` are those of the initramfs, `guest_modules` patterns below the kernel's module
    directory that stay in the root ("all" in the file is the pattern `*`).
    """

    name: str
    aliases: tuple[str, ...]
    suite: str
    method: str
    packages: tuple[str, ...]
    kernel: str
    trees: tuple[str, ...]
    command_line: str
    least_memory_bytes: int
    supports: frozenset[str]
    modules: tuple[str, ...]
    guest_modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    wants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mask: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    busybox_applets: bool = False
    recipe: str = ""


def load_definitions(directory: Path) -> dict[str, BaseDefinition]:
    """All definitions of a directory by name.

    Raises:
        UsageError: a file is no definition, or two claim one alias.
    """
    definitions: dict[str, BaseDefinition] = {}
    owners: dict[str, str] = {}
    for path in sorted(directory.glob("*.yaml")):
        definition = load_definition(path)
        definitions[definition.name] = definition
        for alias in definition.aliases:
            if owners.setdefault(alias, definition.name) != definition.name:
                raise UsageError(
                    f"The bases {owners[alias]} and {definition.name} both claim '{alias}'.",
                    hint=f"Remove the alias from one of them in {directory}.",
                )
    return definitions


def load_definition(path: Path) -> BaseDefinition:
    """Raises UsageError: the file cannot be read as a definition; the text says why."""
    try:
        contents = _chain(path)
        documents = [yaml.safe_load(content) for content in reversed(contents)]
        definition = _from_document(functools.reduce(_combined, documents))
        recipe = _recipe(b"".join(contents), path.parent / "guest", definition.trees)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} does not define a base: {error}.",
            hint="The definitions beside it show the form.",
        ) from error
    return replace(definition, recipe=recipe)


def _chain(path: Path) -> list[bytes]:
    """The file, and those that it is like, one after the other."""
    names: list[str] = []
    contents = []
    while path.stem not in names:
        names.append(path.stem)
        contents.append(path.read_bytes())
        other = yaml.safe_load(contents[-1]).get("like")
        if other is None:
            return contents
        path = path.parent / f"{other}.yaml"
    raise ValueError(f"'like' goes round in a circle: {', '.join(names)}")


def _combined(general: dict[str, Any], special: dict[str, Any]) -> dict[str, Any]:
    inherited = {key: value for key, value in general.items() if key not in _OWN}
    result = inherited | special
    for key in inherited.keys() & special.keys():
        one, other = inherited[key], special[key]
        if isinstance(one, list) and isinstance(other, list):
            result[key] = one + other
        elif isinstance(one, dict) and isinstance(other, dict):
            result[key] = _combined(one, other)
    return result


def _from_document(document: dict[str, Any]) -> BaseDefinition:
    document.pop("like", None)
    boot = document.pop("boot")
    if document.get("method") not in _METHODS:
        raise ValueError(f"'method' must be one of {', '.join(_METHODS)}")
    patterns = document.pop("guest_modules", "none")
    known = {"name", "suite", "method", "kernel", "links", "busybox_applets"}
    lists = {"aliases", "packages", "trees", "programs", "directories", "mask"}
    lists |= {"excluded", "removed", "commands"}
    if unknown := set(document) - known - lists - {"wants"}:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {key: document[key] for key in known if key in document}
    values |= {key: tuple(document[key]) for key in lists if key in document}
    return BaseDefinition(
        **values,
        wants={key: tuple(units) for key, units in document.get("wants", {}).items()},
        guest_modules=_module_patterns(patterns),
        command_line=" ".join(str(boot["command_line"]).split()),
        least_memory_bytes=_size(str(boot["least_memory"])),
        supports=frozenset(boot["supports"]),
        modules=tuple(boot["modules"]),
    )


def _module_patterns(value: str | list[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return {"none": (), "all": ("*",)}[value]
    return tuple(value)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([MG])", text)
    if match is None:
        raise ValueError(f"'{text}' is no size such as 64M")
    return int(match[1]) * _UNITS[match[2]]


def _recipe(content: bytes, guest: Path, trees: Iterable[str]) -> str:
    """Digest of all that we ourselves put into a base; packages come later, when resolved."""
    recipe = hashlib.sha256(f"{BUILDER_VERSION}\n".encode())
    recipe.update(content)
    files = [guest / "initramfs-init", *sorted((guest / "src").glob("*"))]
    for tree in trees:
        files += sorted(path for path in (guest / tree).rglob("*") if path.is_file())
    for path in files:
        executable = bool(path.stat().st_mode & 0o100)
        recipe.update(f"{path.relative_to(guest)}\0{executable}\0".encode())
        recipe.update(hashlib.sha256(path.read_bytes()).digest())
    return recipe.hexdigest()
