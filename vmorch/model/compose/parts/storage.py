"""Volumes, secrets (those of builds too), configs and `blkio_config:`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vmorch.model.compose.containers import ListOf, MapOf
from vmorch.model.compose.forms import BOOLEAN, BYTES, COUNT, PATH, TEXT, Choice, Word
from vmorch.model.compose.nodes import Fields, Node, Scalar
from vmorch.model.compose.objects import Either, Key, Object, Values
from vmorch.model.compose.reading import Reading, Wrong
from vmorch.model.spec import DEFAULT_VOLUME_BYTES, BuildSecret, VolumeMount, VolumeSpec

_HOST_PATH = "guests do not share directories with the host; use a named volume."
_TMPFS = "mount one in the guest."
_REFUSED_TYPES = {
    "bind": _HOST_PATH,
    "tmpfs": _TMPFS,
    "image": "an image is a whole disk here.",
    "npipe": "it is for Windows containers.",
    "cluster": "vmorch runs on one host.",
}
_NAMED = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_NAME = Word("a name", _NAMED)


@dataclass(frozen=True)
class _Mode(Word):
    """YAML has read a plain 0440 as octal already; a text is octal by itself."""

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        found = super().read(node, path, reading)
        if isinstance(node, Scalar) and isinstance(node.value, (int, float)):
            return int(node.value)
        return int(found.replace("o", ""), 8)


_MODE = _Mode(
    "permissions such as 0440",
    r"0?o?[0-7]{3,4}",
    integers=range(0o7777 + 1),
)


def _target_key(node: Node) -> object:
    """Compose tells mounts of two files apart by where they are mounted."""
    match node:
        case Scalar():
            parts = node.text.split(":")
            return parts[1] if len(parts) > 1 else parts[0]
        case Fields(fields=fields):
            for name in ("target", "source"):
                found = fields[name].node if name in fields else None
                if isinstance(found, Scalar):
                    return found.text
    return id(node)


class _MountType(Choice):
    """Compose's other types of mounts are known, and each refused with its reason."""

    def read(self, node: Node, path: str, reading: Reading) -> str:
        if isinstance(node, Scalar) and node.text in _REFUSED_TYPES:
            raise Wrong(f"'{node.text}' is refused: {_REFUSED_TYPES[node.text]}")
        return super().read(node, path, reading)


def _short_mount(text: str) -> VolumeMount:
    source, target, *mode = text.split(":")
    return VolumeMount(source=source, target=target, read_only=mode == ["ro"])


def _long_mount(values: Values) -> VolumeMount:
    return VolumeMount(
        source=values.get("source", ""),
        target=values.get("target", ""),
        read_only=values.get("read_only", False),
        per_instance=values.get("per_instance", False),
    )


VOLUMES = ListOf(
    Either(
        scalar=Word(
            "NAME:PATH or NAME:PATH:ro (guests share no directories with the host)",
            rf"{_NAMED}:/[^:\n]*(?::r[ow])?",
            _short_mount,
        ),
        fields=Object(
            name="mount",
            build=_long_mount,
            refused={
                "bind": _HOST_PATH,
                "tmpfs": _TMPFS,
                "image": "an image is a whole disk here.",
                "consistency": "it has a meaning for Docker Desktop only.",
                "volume": "'nocopy' and 'subpath' have no meaning for a disk.",
                "cluster": "vmorch runs on one host.",
            },
            keys={
                "type": Key(_MountType(("volume",)), "volume."),
                "source": Key(_NAME, "The named volume.", required=True),
                "target": Key(PATH, "Where it is mounted.", required=True),
                "read_only": Key(BOOLEAN, "true: it cannot be written to."),
                "per_instance": Key(BOOLEAN, "true: each instance has its own."),
            },
        ),
    ),
    _target_key,
)


def _volume(values: Values) -> VolumeSpec:
    labels = {name: value or "" for name, value in values.get("labels", {}).items()}
    return VolumeSpec(size_bytes=values.get("size", DEFAULT_VOLUME_BYTES), labels=labels)


TOP_VOLUMES = MapOf(
    Object(
        name="volume",
        empty=True,
        build=_volume,
        refused={
            "driver": "every volume is a qcow2 disk.",
            "driver_opts": "every volume is a qcow2 disk.",
            "external": "a volume belongs to one environment.",
            "name": "a volume's name is its key.",
        },
        keys={
            "size": Key(BYTES, "Its size."),
            "labels": Key(MapOf(TEXT, separators="=", nullable=True), "Labels."),
        },
    ),
    _NAMED,
    "the name of a volume",
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a service says about a secret or config that it is given."""

    source: str
    target: str | None = None
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


def _grant(values: Values) -> Grant:
    return Grant(
        source=values.get("source", ""),
        target=values.get("target"),
        uid=values.get("uid", 0),
        gid=values.get("gid", 0),
        mode=values.get("mode", 0o444),
    )


def _granted(kind: str) -> ListOf:
    return ListOf(
        Either(
            scalar=Word("a name", _NAMED, Grant),
            fields=Object(
                name=f"granted_{kind}",
                build=_grant,
                keys={
                    "source": Key(_NAME, f"The {kind}.", required=True),
                    "target": Key(TEXT, "The file in the guest."),
                    "uid": Key(COUNT, "Its owner."),
                    "gid": Key(COUNT, "Its group."),
                    "mode": Key(_MODE, "Its permissions."),
                },
            ),
        ),
        _target_key,
    )


def _build_secret(values: Values) -> BuildSecret:
    source = values.get("source", "")
    return BuildSecret(source=source, target=values.get("target", source))


_BY_THE_STEP = "write it into the Dockerfile's RUN --mount=type=secret; each step has its own."
BUILD_SECRETS = ListOf(
    Either(
        scalar=Word("a name", _NAMED, lambda name: BuildSecret(source=name, target=name)),
        fields=Object(
            name="build_secret",
            build=_build_secret,
            refused=dict.fromkeys(("uid", "gid", "mode"), _BY_THE_STEP),
            keys={
                "source": Key(_NAME, "The secret.", required=True),
                "target": Key(Word("an id", r"[^\s,]+"), "Its id in the Dockerfile."),
            },
        ),
    ),
    _target_key,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the content of a secret or config comes from: one of the three."""

    file: str | None = None
    environment: str | None = None
    content: str | None = None


def _declared(kind: str, *, refused: dict[str, str], keys: dict[str, Key]) -> MapOf:
    words = (*keys, "file", "environment")
    reasons = {
        "external": f"a {kind} belongs to one environment.",
        "name": f"a {kind}'s name is its key.",
        "driver": "there is no other driver than the file itself.",
        "template_driver": "there are no templates.",
        **refused,
    }

    def origin(values: Values) -> Origin:
        given = [key for key in words if key in values.node.fields]
        return Origin(**{key: values.get(key, "") for key in given})

    return MapOf(
        Object(
            name=kind,
            one_of=words,
            build=origin,
            refused=reasons,
            keys={
                "file": Key(TEXT, "The file that holds it."),
                "environment": Key(TEXT, "The variable that holds it."),
                "labels": Key(MapOf(TEXT, separators="=", nullable=True), "Labels."),
                **keys,
            },
        ),
        _NAMED,
        f"the name of a {kind}",
    )


SECRETS = _granted("secret")
CONFIGS = _granted("config")
TOP_SECRETS = _declared(
    "secret",
    refused={"content": "a secret in the file is none; use 'file' or 'environment'."},
    keys={},
)
TOP_CONFIGS = _declared("config", refused={}, keys={"content": Key(TEXT, "The content itself.")})
_RATES = {
    name: Key(
        ListOf(
            Object(
                name="rate",
                keys={
                    "path": Key(PATH, "The disk.", required=True),
                    "rate": Key(BYTES, "How much a second.", required=True),
                },
            )
        ),
        "A limit for a disk.",
    )
    for name in ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops")
}
BLKIO = Object(
    name="blkio",
    refused={"weight_device": "use 'weight': an instance has one system disk."},
    keys={"weight": Key(COUNT, "Share of the disk's time, from 10 to 1000."), **_RATES},
)
