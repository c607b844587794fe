"""The key of a warm snapshot: whatever its memory knows is in it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.model.spec import RestartCondition, RestartPolicy, ServiceSpec, StartPolicy
from vmorch.snapshots.subject import key_of

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
