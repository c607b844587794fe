"""What a service is asked, and where: of its spec and its image. Purely computational."""

from __future__ import annotations

from dataclasses import fields, replace

from vmorch.model.image import ImageManifest
from vmorch.model.spec import HealthCheck, HealthKind, ServiceSpec

_BUSYBOX = "/usr/lib/vmorch/busybox"


def effective_check(spec: ServiceSpec, manifest: ImageManifest | None) -> HealthCheck:
    """The spec's check, else the image's own (HEALTHCHECK), else whether the unit is active. A
    `healthcheck` without `test` changes single fields of the image's, as in Compose."""
    own = manifest.run.healthcheck if manifest else None
    if spec.healthcheck.kind is not HealthKind.UNIT or own is None:
        return spec.healthcheck
    default = HealthCheck()
    given = {
        field.name: value
        for field in fields(HealthCheck)
        if (value := getattr(spec.healthcheck, field.name)) != getattr(default, field.name)
    }
    return replace(own, **given)


def ports_of(spec: ServiceSpec, manifest: ImageManifest | None) -> tuple[int, ...]:
    """The spec's ports, then those that only the image exposes."""
    exposed = manifest.run.exposed_ports if manifest else ()
    return tuple(dict.fromkeys((*spec.all_ports, *exposed)))


def check_port(check: HealthCheck, ports: tuple[int, ...]) -> int | None:
    return check.port if check.port is not None else next(iter(ports), None)


def probe_from_inside(check: HealthCheck, port: int | None) -> tuple[str, ...]:
    """The command by which a guest without a link asks itself over the network; empty where the
    check is not about the network, or no port is known."""
    if port is None:
        return ()
    if check.kind is HealthKind.TCP:
        return (_BUSYBOX, "nc", "127.0.0.1", str(port), "-e", "/bin/true")
    if check.kind is HealthKind.HTTP:
        path = (check.argument or ("/",))[0].lstrip("/")
        return (_BUSYBOX, "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{port}/{path}")
    return ()
