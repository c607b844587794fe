"""The model's values as JSON and back: for the API and the store of images.

`…_to_json` gives only dicts, lists, strings, numbers, booleans and None. `…_from_json` is strict:
unknown keys, wrong types, NaN and values that no vmorch file could lead to are InvalidSpec, each
with its path.
"""

from __future__ import annotations

import enum
import json
from dataclasses import fields, is_dataclass, replace
from types import GenericAlias
from typing import Any, TypeVar, cast

from vmorch.errors import InvalidSpec, SpecProblem
from vmorch.model.adapters import adapter_of
from vmorch.model.image import ImageManifest, RunConfig
from vmorch.model.spec import DeclaredFile, EnvironmentSpec

_T = TypeVar("_T")


def to_json(spec: EnvironmentSpec) -> dict[str, Any]:
    return _object(spec)


def from_json(data: Any) -> EnvironmentSpec:
    """The environment that `to_json` gave, or that came over the API.

    Raises:
        InvalidSpec: `data` is no environment, or one that no vmorch file could lead to; every
            problem with its path.
    """
    spec = _read(EnvironmentSpec, data)
    _check(spec)
    return spec


def _check(spec: EnvironmentSpec) -> None:
    """Refuse what no vmorch file could lead to: the spec, written as a file, must be a right one.

    So the forms of values are declared once, for users and for the API.
    """
    from vmorch.model.compose import SourceFile, load, render
    from vmorch.model.compose.checks import check
    from vmorch.model.compose.storage_checks import unsent

    misnamed = [key for key, service in spec.services.items() if key != service.name]
    if misnamed:
        message = f"This service calls itself '{spec.services[misnamed[0]].name}'."
        raise InvalidSpec([_problem(f"services.{misnamed[0]}.name", message)])
    # User data from a file may be longer than a vmorch file may be; its length is checked apart.
    services = {
        name: replace(service, cloud_init=service.cloud_init and service.cloud_init[:80])
        for name, service in spec.services.items()
    }
    # Where secrets and configs come from is the client's; here they are what was sent.
    plain = replace(
        spec,
        services=services,
        secrets=_as_sent(spec.secrets),
        configs=_as_sent(spec.configs),
        contents={},
    )
    file = SourceFile("request", render(plain))
    try:
        load([file], variables={}, read=lambda path: "", default_name=spec.name)
    except InvalidSpec as error:
        # Places in a file that nobody wrote help nobody.
        raise InvalidSpec([_problem(p.path, p.message) for p in error.problems]) from error
    problems = [_problem(path, message) for path, message in (*check(spec), *unsent(spec))]
    if problems:
        raise InvalidSpec(problems)


def _as_sent(files: dict[str, DeclaredFile]) -> dict[str, DeclaredFile]:
    return {name: replace(f, file="sent", environment=None) for name, f in files.items()}


def manifest_to_json(manifest: ImageManifest) -> dict[str, Any]:
    return _object(manifest)


def manifest_from_json(data: Any) -> ImageManifest:
    """Raises InvalidSpec."""
    return _read(ImageManifest, data)


def run_config_to_json(config: RunConfig) -> dict[str, Any]:
    return _object(config)


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", _plain(value))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def _read(kind: type[_T], data: Any) -> _T:
    from pydantic import ValidationError

    try:
        # Strict mode takes lists for tuples and strings for enums only from JSON's text.
        text = json.dumps([data])
        # Pydantic takes a configuration for no dataclass that is not its own, but hands down the
        # one of the tuple around it.
        adapter = adapter_of(GenericAlias(tuple, (kind,)), strict=True)
        return cast("_T", adapter.validate_json(text)[0])
    except ValidationError as error:
        problems = [_problem(_path(e["loc"][1:]), e["msg"]) for e in error.errors()]
        raise InvalidSpec(problems) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSpec([_problem("", f"This is no JSON value: {error}")]) from error


def _path(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _problem(path: str, message: str) -> SpecProblem:
    return SpecProblem(file="request", line=0, column=0, path=path, message=message)
