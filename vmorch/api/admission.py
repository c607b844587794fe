"""What must hold before a spec is written down: its images exist and fit into its guests."""

from __future__ import annotations

from vmorch.errors import InvalidSpec, NotFound, SpecProblem
from vmorch.images.protocol import Images
from vmorch.model.spec import EnvironmentSpec, ServiceSpec

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
