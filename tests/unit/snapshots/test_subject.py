"""The key of a warm snapshot: whatever its memory knows is in it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.errors import Refused
from vmorch.model.image import BootConfig, ImageManifest, RunConfig
from vmorch.model.spec import RestartCondition, RestartPolicy, ServiceSpec, StartPolicy
from vmorch.snapshots.subject import is_able, key_of, refuse_unable

SPEC = ServiceSpec(name="web", image="sha256:1", cpus=0.5)
HOST = "qemu 7.2, libvirt 9.0, kernel 6.1, tcg"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "orders"},
        {"image": "sha256:2"},
        {"command": ("true",)},
        {"environment": {"A": "1"}},
        {"cpus": 2.0},
        {"memory_bytes": 2**30},
        {"disk_bytes": 2**35},
        {"cloud_init": "#cloud-config\n{}\n"},
        {"restart": RestartPolicy(condition=RestartCondition.NONE)},
        {"stop_grace_period_seconds": 30.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_guest_knows_makes_another_key(change: dict[str, Any]) -> None:
    assert key_of(replace(SPEC, **change), HOST) != key_of(SPEC, HOST)


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 7},
        {"labels": {"a": "b"}},
        {"expose": (80,)},
        {"start": StartPolicy.FORK},
        {"keep_service": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_only_the_host_knows_makes_none(change: dict[str, Any]) -> None:
    assert key_of(replace(SPEC, **change), HOST) == key_of(SPEC, HOST)


def test_another_host_makes_another_key() -> None:
    assert key_of(SPEC, HOST.replace("7.2", "8.0")) != key_of(SPEC, HOST)


def image(*supports: str, command: tuple[str, ...] = ()) -> ImageManifest:
    boot = BootConfig(kernel="k", initrd="i", command_line="", supports=frozenset(supports))
    return ImageManifest(
        digest="sha256:1",
        base="tiny",
        layers=(),
        boot=boot,
        run=RunConfig(command=command),
        virtual_size_bytes=0,
        created_at=0.0,
    )


@pytest.mark.parametrize(
    ("spec", "manifest", "said"),
    [
        (replace(SPEC, start=StartPolicy.COLD), image("agent", command=("x",)), "start: cold"),
        (SPEC, image(command=("x",)), "no guest agent"),
        (SPEC, image("agent"), "has no command"),
        (replace(SPEC, start=StartPolicy.FORK), image("agent"), "has no command"),
        (replace(SPEC, entrypoint=()), image("agent", command=("x",)), "has no command"),
    ],
    ids=["cold", "no agent", "units", "units, asked for", "command set aside"],
)
def test_what_cannot_be_started_anew_is_refused(
    spec: ServiceSpec, manifest: ImageManifest, said: str
) -> None:
    assert not is_able(spec, manifest)
    with pytest.raises(Refused, match=said):
        refuse_unable(spec, manifest)


def test_what_has_a_command_or_may_go_on_is_able() -> None:
    assert is_able(SPEC, image("agent", command=("x",)))
    assert is_able(replace(SPEC, command=("x",)), image("agent"))
    kept = replace(SPEC, start=StartPolicy.FORK, keep_service=True)
    assert is_able(kept, image("agent"))
