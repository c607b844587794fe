"""What must hold before a spec is written down: its images exist and fit into its guests, and
those into the host."""

from __future__ import annotations

from vmorch.errors import InvalidSpec, NotFound, Refused, SpecProblem
from vmorch.images.protocol import Images
from vmorch.model.host import HostView
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.planner.fitting import never_fits

_MIB = 1024**2


async def admit(spec: EnvironmentSpec, images: Images) -> None:
    """Raises InvalidSpec with every service that cannot be started as it is declared."""
    problems = [
        problem
        for name, service in spec.services.items()
        for problem in await _problems(name, service, images)
    ]
    if problems:
        raise InvalidSpec(problems, hint="Correct the file and run 'vmorch up' again.")


def refuse_too_large(spec: EnvironmentSpec, host: HostView) -> None:
    """Raises Refused when not even the empty host could have all of it: it would wait for ever."""
    if why := never_fits(spec.services, host):
        raise Refused(
            f"'{spec.name}' never fits into this host: {why}.",
            hint="Lower 'deploy.resources' or the replicas; 'vmorch daemon status' shows the "
            "host's capacity, and its settings how much of it instances may have.",
        )


async def _problems(name: str, service: ServiceSpec, images: Images) -> list[SpecProblem]:
    if not service.image.startswith("sha256:"):
        return [_problem(f"{name}.image", f"'{service.image}' is not a digest.")]
    try:
        manifest = await images.manifest(service.image)
    except NotFound:
        return [_problem(f"{name}.image", f"there is no image {service.image}.")]
    least = manifest.boot.least_memory_bytes
    if service.memory_bytes < least:
        return [
            _problem(
                f"{name}.deploy.resources.limits.memory",
                f"{service.memory_bytes // _MIB}M is less than {manifest.base} needs "
                f"({-(-least // _MIB)}M).",
            )
        ]
    if service.disk_bytes is not None and service.disk_bytes < manifest.virtual_size_bytes:
        return [
            _problem(
                f"{name}.disk",
                f"{service.disk_bytes // _MIB}M is less than the image has "
                f"({-(-manifest.virtual_size_bytes // _MIB)}M); a disk only grows.",
            )
        ]
    return []


def _problem(path: str, message: str) -> SpecProblem:
    return SpecProblem(file="", line=0, column=0, path=f"services.{path}", message=message)
