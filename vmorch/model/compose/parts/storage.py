"""Volumes, secrets, configs and `blkio_config:`."""

from __future__ import annotations

from vmorch.model.compose.containers import ListOf, MapOf
from vmorch.model.compose.forms import BOOLEAN, BYTES, COUNT, PATH, TEXT, Choice, Form, Word
from vmorch.model.compose.nodes import Fields, Node, Scalar
from vmorch.model.compose.objects import Either, Key, Object

_HOST_PATH = "guests do not share directories with the host; use a named volume."
_NAMED = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_NAME = Word("a name", _NAMED)
_MODE = Word(
    "permissions such as 0440",
    r"0?o?[0-7]{3,4}",
    lambda text: int(text.replace("o", ""), 8),
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


VOLUMES = ListOf(
    Either(
        scalar=Word(
            "NAME:PATH or NAME:PATH:ro (guests share no directories with the host)",
            rf"{_NAMED}:/[^:\n]*(?::r[ow])?",
        ),
        fields=Object(
            name="mount",
            refused={
                "bind": _HOST_PATH,
                "tmpfs": "mount one in the guest.",
                "image": "an image is a whole disk here.",
                "consistency": "it has a meaning for Docker Desktop only.",
                "volume": "'nocopy' and 'subpath' have no meaning for a disk.",
                "cluster": "vmorch runs on one host.",
            },
            keys={
                "type": Key(Choice(("volume",)), "volume."),
                "source": Key(_NAME, "The named volume.", required=True),
                "target": Key(PATH, "Where it is mounted.", required=True),
                "read_only": Key(BOOLEAN, "true: it cannot be written to."),
                "per_instance": Key(BOOLEAN, "true: each instance has its own."),
            },
        ),
    ),
    _target_key,
)
TOP_VOLUMES = MapOf(
    Object(
        name="volume",
        empty=True,
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


def _granted(kind: str, file_form: Form) -> ListOf:
    return ListOf(
        Either(
            scalar=_NAME,
            fields=Object(
                name=f"granted_{kind}",
                keys={
                    "source": Key(_NAME, f"The {kind}.", required=True),
                    "target": Key(file_form, "The file in the guest."),
                    "uid": Key(COUNT, "Its owner."),
                    "gid": Key(COUNT, "Its group."),
                    "mode": Key(_MODE, "Its permissions."),
                },
            ),
        ),
        _target_key,
    )


def _declared(kind: str) -> MapOf:
    return MapOf(
        Object(
            name=kind,
            refused={
                "external": f"a {kind} belongs to one environment.",
                "name": f"a {kind}'s name is its key.",
                "driver": "there is no other driver than the file itself.",
                "template_driver": "there are no templates.",
            },
            keys={
                "file": Key(TEXT, "The file that holds it."),
                "environment": Key(TEXT, "The variable that holds it."),
                "content": Key(TEXT, "The content itself."),
                "labels": Key(MapOf(TEXT, separators="=", nullable=True), "Labels."),
            },
        ),
        _NAMED,
        f"the name of a {kind}",
    )


SECRETS = _granted("secret", TEXT)
CONFIGS = _granted("config", TEXT)
TOP_SECRETS = _declared("secret")
TOP_CONFIGS = _declared("config")
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
