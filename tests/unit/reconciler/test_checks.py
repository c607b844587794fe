"""Which check an instance gets, of its spec's and its image's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmorch.model.image import BootConfig, ImageManifest, RunConfig
from vmorch.model.spec import HealthCheck, HealthKind, ServiceSpec
from vmorch.reconciler.checks import (
    check_port,
    effective_check,
    ports_of,
    probe_from_inside,
)

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


def test_a_port_that_only_the_image_exposes_is_asked_from_inside_too() -> None:
    manifest = image(None)
    manifest = replace(manifest, run=replace(manifest.run, exposed_ports=(8080,)))
    spec = ServiceSpec(name="web", image="tiny", healthcheck=HTTP)
    port = check_port(HTTP, ports_of(spec, manifest))
    assert probe_from_inside(HTTP, port)[-1] == "http://127.0.0.1:8080/"


@pytest.mark.parametrize(
    ("check", "port", "end"),
    [
        (HealthCheck(kind=HealthKind.HTTP, argument=("/healthz?a=b",)), 80, ":80/healthz?a=b"),
        (HealthCheck(kind=HealthKind.HTTP), 80, ":80/"),
        (HealthCheck(kind=HealthKind.TCP), 5432, "/bin/true"),
        (HealthCheck(kind=HealthKind.HTTP), None, ""),
        (OWN, 80, ""),
        (HealthCheck(), 80, ""),
    ],
)
def test_how_a_guest_asks_itself(check: HealthCheck, port: int | None, end: str) -> None:
    words = probe_from_inside(check, port)
    assert (words[-1].endswith(end) and str(port) in " ".join(words)) if end else not words
