"""What must hold of volumes, secrets and configs: references, places, and who may have what.

Pure, and on the resolved model like `checks`, which collects what is found here.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterator

from vmorch.model.compose.nodes import quoted
from vmorch.model.compose.quantities import byte_text
from vmorch.model.compose.reading import did_you_mean
from vmorch.model.spec import EnvironmentSpec, GrantedFile, ServiceSpec, VolumeMount

Finding = tuple[str, str]

# Each volume of a guest is in one of its spare root ports.
MOST_VOLUMES = 4
# The seed disk has 1 MiB for all of the identity, of which user data may take half.
MOST_CONTENT = 384 * 1024
LEAST_VOLUME, MOST_VOLUME = 16 * 1024**2, 64 * 1024**4
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f]+")
# The guest's own: what is mounted or laid out there hides what it needs to come up.
_TAKEN = ("/dev", "/proc", "/sys", "/run", "/usr/lib/vmorch")


def storage_findings(spec: EnvironmentSpec) -> Iterator[Finding]:
    for name, volume in spec.volumes.items():
        if not LEAST_VOLUME <= volume.size_bytes <= MOST_VOLUME:
            least, most = byte_text(LEAST_VOLUME), byte_text(MOST_VOLUME)
            message = f"A volume has from {least} to {most}, not {byte_text(volume.size_bytes)}."
            yield f"volumes.{name}.size", message
    owners: dict[str, str] = {}
    for service in spec.services.values():
        path = f"services.{service.name}"
        for where, message in (*_mounts(service, spec), *_files(service), *_build(service)):
            yield f"{path}.{where}", message
        for mount in service.volumes:
            owner = owners.setdefault(mount.source, service.name)
            if owner != service.name:
                message = f"The volume '{mount.source}' is that of '{owner}': it has one owner."
                yield f"{path}.volumes", message


def _mounts(service: ServiceSpec, spec: EnvironmentSpec) -> Iterator[Finding]:
    if len(service.volumes) > MOST_VOLUMES:
        yield "volumes", f"A service has at most {MOST_VOLUMES} volumes."
    for target in _twice([mount.target for mount in service.volumes]):
        yield "volumes", f"Two volumes are mounted at {quoted(target)}."
    for source in _twice([mount.source for mount in service.volumes]):
        yield "volumes", f"The volume '{source}' is mounted twice."
    for mount in service.volumes:
        for message in _mount(mount, service, spec):
            yield "volumes", message


def _mount(mount: VolumeMount, service: ServiceSpec, spec: EnvironmentSpec) -> Iterator[str]:
    if mount.source not in spec.volumes:
        near = did_you_mean(mount.source, spec.volumes)
        yield f"There is no volume {quoted(mount.source)} under 'volumes'.{near}"
    yield from _place(mount.target)
    if service.most_replicas > 1 and not mount.per_instance:
        yield (
            f"The volume '{mount.source}' is for one instance at a time, and there are "
            f"{service.most_replicas}: write {{type: volume, source: {mount.source}, "
            f"target: {mount.target}, per_instance: true}}."
        )


def _files(service: ServiceSpec) -> Iterator[Finding]:
    for target in _twice([file.target for file in service.files]):
        yield "secrets", f"Two files are laid out at {quoted(target)}."
    for key, files in (("secrets", service.secrets), ("configs", service.configs)):
        for file in files:
            for message in _file(file, service):
                yield key, message


def _build(service: ServiceSpec) -> Iterator[Finding]:
    secrets = service.build.secrets if service.build else ()
    for target in _twice([secret.target for secret in secrets]):
        yield "build.secrets", f"Two secrets have the id {quoted(target)}."


def _file(file: GrantedFile, service: ServiceSpec) -> Iterator[str]:
    if not file.target.startswith("/run/secrets/"):
        yield from _place(file.target)
    elif not _is_plain(file.target):
        yield f"{quoted(file.target)} is no place for a file."
    for mount in service.volumes:
        if file.target.startswith(f"{mount.target}/"):
            yield f"{quoted(file.target)} is in the volume '{mount.source}', which outlives it."


def unsent(spec: EnvironmentSpec) -> Iterator[Finding]:
    """What a spec that came over the API lacks: each content must be there, be what its digest
    says, and be what every service that is given it was told."""
    kinds = (("secrets", spec.secrets), ("configs", spec.configs))
    for kind, declared in kinds:
        for name, file in declared.items():
            if not _is_content(spec.contents.get(file.digest), file.digest):
                yield f"{kind}.{name}", "Its content was not sent with it."
    for service in spec.services.values():
        for kind, declared in kinds:
            for granted in getattr(service, kind):
                known = declared.get(granted.source)
                if known is None or known.digest != granted.digest:
                    path = f"services.{service.name}.{kind}"
                    yield path, f"'{granted.source}' is not the one under '{kind}'."


def _is_content(text: str | None, digest: str) -> bool:
    try:
        content = base64.b64decode(text or "", validate=True)
    except ValueError:
        return False
    found = "sha256:" + hashlib.sha256(content).hexdigest()
    return text is not None and found == digest and len(content) <= MOST_CONTENT


def _place(target: str) -> Iterator[str]:
    if not _is_plain(target):
        yield f"{quoted(target)} is no place in a guest: name an absolute path below '/'."
    elif any(target == taken or target.startswith(f"{taken}/") for taken in _TAKEN):
        yield f"{quoted(target)} is the guest's own; choose another place."


def _is_plain(target: str) -> bool:
    whole = _ONE_LINE.fullmatch(target) is not None and posixpath.isabs(target)
    return whole and posixpath.normpath(target) == target and target.strip("/") != ""


def _twice(words: list[str]) -> list[str]:
    return [word for word, count in Counter(words).items() if count > 1]
