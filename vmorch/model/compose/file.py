"""The keys of a whole file, and how they become an `EnvironmentSpec`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from vmorch.model.compose.containers import MapOf
from vmorch.model.compose.contents import Contents
from vmorch.model.compose.forms import Word
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.compose.parts import refused
from vmorch.model.compose.parts.networks import NETWORKS
from vmorch.model.compose.parts.storage import TOP_CONFIGS, TOP_SECRETS, TOP_VOLUMES
from vmorch.model.compose.resolve import Inputs, service_spec
from vmorch.model.compose.service import SERVICE
from vmorch.model.spec import EnvironmentSpec, NetworkSpec, ServiceSpec

_NAME_PATTERN = r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?"
_NAME_EXPECTS = (
    "a name: lower-case letters, digits, '-' and '_', beginning and ending with a letter or "
    "digit, at most 40 characters"
)

FILE = Object(
    name="file",
    refused=refused.FILE,
    keys={
        "name": Key(Word(_NAME_EXPECTS, _NAME_PATTERN), "The name of the environment."),
        "version": Key(Word("a version", numbers=True), "Has no effect, as in Compose."),
        "services": Key(MapOf(SERVICE, _NAME_PATTERN, _NAME_EXPECTS), "The services."),
        "networks": Key(NETWORKS, "The environment's network, 'default'."),
        "volumes": Key(TOP_VOLUMES, "Disks that outlive instances."),
        "secrets": Key(TOP_SECRETS, "Secrets that services and builds may be given."),
        "configs": Key(TOP_CONFIGS, "Configuration files that services may be given."),
    },
)


def environment_spec(
    values: Values, *, inputs: Inputs, profiles: Collection[str]
) -> EnvironmentSpec:
    """The environment that a merged file describes; what is wrong goes to the reading."""
    contents = Contents()
    contents.read(values, inputs)
    services: dict[str, ServiceSpec] = {}
    hidden: dict[str, list[str]] = {}
    found: dict[str, Values] = values.get("services", {})
    for name, service in found.items():
        wanted = service.get("profiles", [])
        if wanted and "*" not in profiles and not set(wanted) & set(profiles):
            hidden[name] = wanted
        else:
            files = contents.granted(service, inputs)
            contents.check_build(service, inputs)
            services[name] = replace(service_spec(name, service, inputs), **files)
    _check_hidden(services, hidden, inputs)
    _check_any(values, services, hidden, inputs)
    network = values.get("networks", {}).get("default") or NetworkSpec()
    return EnvironmentSpec(
        name=inputs.project,
        services=services,
        network=network,
        volumes=values.get("volumes", {}),
        **contents.declared,
        contents=contents.contents,
    )


def _check_hidden(
    services: dict[str, ServiceSpec], hidden: dict[str, list[str]], inputs: Inputs
) -> None:
    for name, service in services.items():
        for other in service.depends_on:
            if other in hidden:
                message = f"'{other}' is there only with the profile {' or '.join(hidden[other])}."
                inputs.reading.add_at(f"services.{name}.depends_on.{other}", message)


def _check_any(
    values: Values,
    services: dict[str, ServiceSpec],
    hidden: dict[str, list[str]],
    inputs: Inputs,
) -> None:
    if services or inputs.reading.touches("services"):
        return
    field = values.node.fields.get("services")
    mark = field.key_mark if field else values.node.mark
    profiles = sorted({profile for wanted in hidden.values() for profile in wanted})
    message = "There are no services."
    if profiles:
        message = f"All services need a profile: {', '.join(profiles)}."
    inputs.reading.add(mark, "services", message)
