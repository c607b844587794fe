"""What a service's keys say, with what they refer to, as a `ServiceSpec`."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vmorch.model.compose.dotenv import BadLine, parse_env, parse_raw
from vmorch.model.compose.nodes import Mark, quoted
from vmorch.model.compose.objects import Values
from vmorch.model.compose.parts.cloud_init import UserData, check_header
from vmorch.model.compose.parts.environment import EnvFile
from vmorch.model.compose.parts.ports import flat
from vmorch.model.compose.reading import Reading, Wrong, join
from vmorch.model.spec import BuildSpec, ServiceSpec


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a service's values may use from outside of the file."""

    project: str
    variables: Mapping[str, str]
    read: Callable[[str], str | None]
    reading: Reading
    read_bytes: Callable[[str], bytes | None]


def service_spec(name: str, values: Values, inputs: Inputs) -> ServiceSpec:
    """The service that its keys describe; what is wrong goes to the inputs' reading."""
    given = _steps(
        values,
        inputs,
        (_image, _process, _network, _guest, _resources, _restart, _rollouts, _replicas),
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
        _check_dockerfile(build, join(values.path, "build"), inputs)
        given["build"] = replace(build, args=_resolved(build.args, inputs.variables))
    return given


def _check_dockerfile(build: BuildSpec, path: str, inputs: Inputs) -> None:
    """Found now, with its place in the file, and not when other services are built already."""
    file = posixpath.normpath(posixpath.join(build.context, build.dockerfile))
    if build.dockerfile_inline is None and inputs.read(file) is None:
        inputs.reading.add_at(join(path, "dockerfile"), f"{quoted(file)} cannot be read.")


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
        given["start"], given["keep_service"] = values.get("start")
    if "cloud_init" in values:
        given["cloud_init"] = _user_data(values, inputs)
    labels = values.get("labels", {})
    if "volumes" in values:
        given["volumes"] = tuple(values.get("volumes"))
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


def _resources(values: Values, inputs: Inputs) -> dict[str, Any]:
    found = {
        "cpus": _agreed(values, "cpus", "resources.limits.cpus", inputs),
        "memory_bytes": _agreed(values, "mem_limit", "resources.limits.memory", inputs),
        "reserved_cpus": _inside(values, "deploy.resources.reservations.cpus"),
        "reserved_memory_bytes": _agreed(
            values, "mem_reservation", "resources.reservations.memory", inputs
        ),
    }
    return {name: value for name, value in found.items() if value is not None}


def _restart(values: Values, inputs: Inputs) -> dict[str, Any]:
    policy = _inside(values, "deploy.restart_policy") or values.get("restart")
    return {"restart": policy} if policy else {}


def _rollouts(values: Values, inputs: Inputs) -> dict[str, Any]:
    found = {
        "update": _inside(values, "deploy.update_config"),
        "rollback": _inside(values, "deploy.rollback_config"),
    }
    return {name: config for name, config in found.items() if config}


def _replicas(values: Values, inputs: Inputs) -> dict[str, Any]:
    replicas = _agreed(values, "scale", "replicas", inputs)
    given = _taken(values, autoscale="autoscale")
    return given if replicas is None else given | {"replicas": replicas}


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
