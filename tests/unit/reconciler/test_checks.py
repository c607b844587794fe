"""Which check an instance gets, of its spec's and its image's."""

from __future__ import annotations

import pytest

from vmorch.model.image import BootConfig, ImageManifest, RunConfig
from vmorch.model.spec import HealthCheck, HealthKind, ServiceSpec
from vmorch.reconciler.sync import effective_check

OWN = HealthCheck(kind=HealthKind.CMD, argument=("ok",), interval_seconds=7.0, retries=5)
HTTP = HealthCheck(kind=HealthKind.HTTP, argument=("/",))


def image(own: HealthCheck | None) -> ImageManifest:
    return ImageManifest(
        digest="sha256:1",
        base="tiny",
        layers=(),
        boot=BootConfig(kernel="", initrd="", command_line=""),
        run=RunConfig(healthcheck=own),
        virtual_size_bytes=0,
        created_at=0.0,
    )


@pytest.mark.parametrize(
    ("declared", "own", "effective"),
    [
        (HealthCheck(), None, HealthCheck()),
        (HealthCheck(), OWN, OWN),
        (HTTP, OWN, HTTP),
        (HealthCheck(kind=HealthKind.NONE), OWN, HealthCheck(kind=HealthKind.NONE)),
        (
            HealthCheck(interval_seconds=30.0, start_period_seconds=120.0),
            OWN,
            HealthCheck(
                kind=HealthKind.CMD,
                argument=("ok",),
                interval_seconds=30.0,
                retries=5,
                start_period_seconds=120.0,
            ),
        ),
    ],
)
def test_a_check_without_test_changes_single_fields_of_the_images(
    declared: HealthCheck, own: HealthCheck | None, effective: HealthCheck
) -> None:
    spec = ServiceSpec(name="web", image="sha256:1", healthcheck=declared)
    assert effective_check(spec, image(own)) == effective
