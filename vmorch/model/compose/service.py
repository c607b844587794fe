"""The keys of a service, and how what they say becomes a `ServiceSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vmorch.model.compose.containers import ListOf
from vmorch.model.compose.dotenv import BadLine, parse_env, parse_raw
from vmorch.model.compose.forms import BYTES, COUNT, CPUS, DURATION, PATH, TEXT, Choice, Word
from vmorch.model.compose.nodes import Mark, quoted
from vmorch.model.compose.objects import Either, Key, Object, Values
from vmorch.model.compose.parts import refused
from vmorch.model.compose.parts.build import BUILD, IMAGE
from vmorch.model.compose.parts.cloud_init import CLOUD_INIT, UserData, check_header
from vmorch.model.compose.parts.deploy import DEPLOY, RESTART
from vmorch.model.compose.parts.environment import (
    DEPENDS_ON,
    ENV_FILE,
    ENVIRONMENT,
    EXTRA_HOSTS,
    LABELS,
    EnvFile,
)
from vmorch.model.compose.parts.health import HEALTHCHECK
from vmorch.model.compose.parts.networks import SERVICE_NETWORKS
from vmorch.model.compose.parts.ports import EXPOSE, PORTS, flat
from vmorch.model.compose.parts.route import AUTOSCALE, ROUTE
from vmorch.model.compose.parts.storage import BLKIO, CONFIGS, SECRETS, VOLUMES
from vmorch.model.compose.reading import Reading, Wrong, join
from vmorch.model.compose.words import split_words
from vmorch.model.spec import BuildSpec, ServiceSpec, StartMode

_COMMAND = Either(
    scalar=Word("a command", parse=split_words),
    items=ListOf(TEXT),
)
_USER = Word("a user such as app or 1000:1000", r"[^\s:]{1,64}(?::[^\s:]{1,64})?", integers=range(2**32))
_PROFILE = Word("the name of a profile", r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

SERVICE = Object(
    name="service",
    refused=refused.SERVICE,
    empty=True,
    keys={
        "image": Key(IMAGE, "A base such as debian:12, an image's name, or the name to build."),
        "build": Key(BUILD, "A directory with a Dockerfile."),
        "command": Key(_COMMAND, "Instead of the image's CMD."),
        "entrypoint": Key(_COMMAND, "Instead of the image's ENTRYPOINT; its CMD goes with it."),
        "user": Key(_USER, "Who the service runs as in the guest."),
        "working_dir": Key(PATH, "Where the service runs in the guest."),
        "environment": Key(ENVIRONMENT, "Variables of the service."),
        "env_file": Key(ENV_FILE, "Files of variables; 'environment' wins."),
        "expose": Key(EXPOSE, "TCP ports that other services reach."),
        "ports": Key(PORTS, "TCP ports that the host publishes."),
        "route": Key(ROUTE, "HTTP host names and paths that lead here."),
        "healthcheck": Key(HEALTHCHECK, "When an instance is ready."),
        "depends_on": Key(DEPENDS_ON, "Services that start before this one."),
        "deploy": Key(DEPLOY, "How many instances, under which caps."),
        "scale": Key(COUNT, "The same as deploy.replicas."),
        "cpus": Key(CPUS, "The same as deploy.resources.limits.cpus."),
        "mem_limit": Key(BYTES, "The same as deploy.resources.limits.memory."),
        "mem_reservation": Key(BYTES, "The same as deploy.resources.reservations.memory."),
        "restart": Key(RESTART, "When an instance is started again."),
        "disk": Key(BYTES, "The size of the system disk."),
        "cloud_init": Key(CLOUD_INIT, "User data for cloud-init."),
        "start": Key(Choice(tuple(StartMode)), "How instances come up."),
        "stop_grace_period": Key(DURATION, "Time to power off before the guest is ended."),
        "extra_hosts": Key(EXTRA_HOSTS, "Lines of /etc/hosts in the guest."),
        "labels": Key(LABELS, "Words of your own about the service."),
        "networks": Key(SERVICE_NETWORKS, "Only 'default' exists."),
        "profiles": Key(ListOf(_PROFILE), "The service is there only if one of them is asked for."),
        "autoscale": Key(AUTOSCALE, "How the number of instances follows the load."),
        "blkio_config": Key(BLKIO, "Limits for the disk."),
        "volumes": Key(VOLUMES, "Disks that outlive instances."),
        "secrets": Key(SECRETS, "Files with secrets in the guest."),
        "configs": Key(CONFIGS, "Files of configuration in the guest."),
    },
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a service's values may use from outside of the file."""

    project: str
    variables: Mapping[str, str]
    read: Callable[[str], str | None]
    reading: Reading


def service_spec(name: str, values: Values, inputs: Inputs) -> ServiceSpec:
    """The service that its keys describe; what is wrong goes to the inputs' reading."""
    given = _steps(
        values, inputs, (_image, _process, _network, _guest, _limits, _restart, _replicas)
    )
    return ServiceSpec(name=name, **({"image": f"{inputs.project}-{name}"} | given))


_Step = Callable[[Values, Inputs], dict[str, Any]]


def _steps(values: Values, inputs: Inputs, steps: tuple[_Step, ...]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for step in steps:
        try:
            given |= step(values, inputs)
        except Wrong as wrong:
            mark = wrong.mark or inputs.reading.mark_of(values.path)
            inputs.reading.add(mark, values.path, wrong.message)
    return given


def _taken(values: Values, **names: str) -> dict[str, Any]:
    """Fields of the spec from keys of the file, those that were given."""
    return {field: values.get(key) for field, key in names.items() if key in values}


def _image(values: Values, inputs: Inputs) -> dict[str, Any]:
    if "image" not in values.node.fields and "build" not in values.node.fields:
        raise Wrong("The service needs an 'image' or a 'build'.")
    given = _taken(values, image="image", build="build")
    build = given.get("build")
    if isinstance(build, BuildSpec):
        given["build"] = _with_arguments(build, inputs)
    return given


def _with_arguments(build: BuildSpec, inputs: Inputs) -> BuildSpec:
    return replace(build, args=_resolved(build.args, inputs.variables))


def _resolved(values: Mapping[str, str | None], variables: Mapping[str, str]) -> dict[str, str]:
    """Names without a value take the one of the command's own environment, or go."""
    found = {name: variables.get(name) if v is None else v for name, v in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def _process(values: Values, inputs: Inputs) -> dict[str, Any]:
    given = _taken(values, user="user", working_dir="working_dir")
    for key in ("command", "entrypoint"):
        if key in values:
            given[key] = tuple(values.get(key))
    environment: dict[str, str] = {}
    for index, file in enumerate(values.get("env_file", ())):
        environment |= _env_file(file, f"{join(values.path, 'env_file')}[{index}]", inputs)
    environment |= _resolved(values.get("environment", {}), inputs.variables)
    return given | {"environment": environment}


def _env_file(file: EnvFile, path: str, inputs: Inputs) -> dict[str, str]:
    text = inputs.read(file.path)
    if text is None:
        if file.required:
            inputs.reading.add_at(path, f"The file {quoted(file.path)} cannot be read.")
        return {}
    try:
        return parse_raw(text) if file.raw else parse_env(text, inputs.variables)
    except BadLine as error:
        inputs.reading.add(error.mark(file.path), path, error.message)
        return {}


def _network(values: Values, inputs: Inputs) -> dict[str, Any]:
    return {
        "expose": flat(values.get("expose")),
        "ports": flat(values.get("ports")),
        "routes": tuple(route for route in values.get("route", ()) if route),
    } | _taken(
        values, healthcheck="healthcheck", depends_on="depends_on", extra_hosts="extra_hosts"
    )


def _guest(values: Values, inputs: Inputs) -> dict[str, Any]:
    given = _taken(values, disk_bytes="disk", stop_grace_period_seconds="stop_grace_period")
    if "start" in values:
        given["start"] = StartMode(values.get("start"))
    if "cloud_init" in values:
        given["cloud_init"] = _user_data(values, inputs)
    labels = values.get("labels", {})
    return given | {"labels": {name: value or "" for name, value in labels.items()}}


def _user_data(values: Values, inputs: Inputs) -> str:
    data: UserData = values.get("cloud_init")
    if not data.file:
        return data.text
    path = join(values.path, "cloud_init.file")
    mark = values.node.fields["cloud_init"].mark
    text = inputs.read(data.file)
    if text is None:
        inputs.reading.add(mark, path, f"The file {quoted(data.file)} cannot be read.")
        return ""
    try:
        return check_header(text)
    except ValueError as error:
        inputs.reading.add(Mark(data.file, 1, 1), path, str(error))
        return ""


def _limits(values: Values, inputs: Inputs) -> dict[str, Any]:
    found = {
        "cpus": _agreed(values, "cpus", "resources.limits.cpus", inputs),
        "memory_bytes": _agreed(values, "mem_limit", "resources.limits.memory", inputs),
    }
    return {name: value for name, value in found.items() if value is not None}


def _restart(values: Values, inputs: Inputs) -> dict[str, Any]:
    policy = _inside(values, "deploy.restart_policy") or values.get("restart")
    return {"restart": policy} if policy else {}


def _replicas(values: Values, inputs: Inputs) -> dict[str, Any]:
    replicas = _agreed(values, "scale", "replicas", inputs)
    return {} if replicas is None else {"replicas": replicas}


def _agreed(values: Values, old: str, place: str, inputs: Inputs) -> Any:
    """The value that an older key of the service and one in `deploy` give; both may stand there
    if they say the same.

    Raises:
        Wrong: they differ.
    """
    value, in_deploy = values.get(old), _inside(values, f"deploy.{place}")
    if value is None:
        return in_deploy
    if in_deploy is not None and value != in_deploy:
        mark = values.node.fields[old].mark
        raise Wrong(f"'{old}' and 'deploy.{place}' say different things; keep one.", mark)
    as_path = join(values.path, old)
    inputs.reading.note_written(f"{values.path}.deploy.{place}", as_path=as_path)
    return value


def _inside(values: Values, place: str) -> Any:
    """The value at a path of nested objects, None where one of them is absent."""
    found: Any = values
    for name in place.split("."):
        found = found.get(name) if isinstance(found, Values) else None
    return found
