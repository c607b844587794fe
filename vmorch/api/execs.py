"""A command or shell in an instance: finds the guest, and hands out a session's socket."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from vmorch.api.instances import no_service, revisions_of
from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, Refused
from vmorch.model.exec import ExecRequest
from vmorch.model.instance import Instance, State
from vmorch.model.spec import ServiceSpec
from vmorch.store.protocol import Store

_OPEN_STATES = {State.RUNNING, State.READY, State.DRAINING, State.STARTING}


class ExecBody(BaseModel):
    """`instance` may be a service: its first ready instance then. `argv` null is a login shell.
    `user` null is the service's own user. `binary`: files go through it, which needs SSH."""

    model_config = ConfigDict(extra="forbid")
    instance: str
    argv: Annotated[list[str], Field(min_length=1)] | None = None
    tty: bool = False
    user: str | None = None
    env: dict[str, str] = {}
    working_dir: str | None = None
    columns: Annotated[int, Field(ge=1, le=65535)] = 80
    rows: Annotated[int, Field(ge=1, le=65535)] = 24
    binary: bool = False


class ConsoleBody(BaseModel):
    """`instance` may be a service, as with ExecBody."""

    model_config = ConfigDict(extra="forbid")
    instance: str


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["instances"])

    @routes.post("/environments/{name}/exec")
    async def open_session(name: str, body: ExecBody) -> dict[str, str]:
        """A one-shot unix socket that speaks the frames of `vmorch.model.frames`."""
        instance = await _open(services.store, name, body.instance)
        request = await _request(services, instance, body)
        if body.binary and not request.has_ssh:
            raise Refused(
                f"{instance.name}'s image has no SSH, through which files are copied.",
                hint="Use an image whose base has it, such as debian:12; or put the files into "
                "the image (COPY).",
            )
        path = await services.exec_sessions.open(request)
        return {"socket": str(path)}

    @routes.post("/environments/{name}/console")
    async def open_console(name: str, body: ConsoleBody) -> dict[str, str]:
        """A one-shot unix socket with the guest's serial console behind it, in the same frames."""
        instance = await _open(services.store, name, body.instance)
        domain = services.store.installation.domain(*instance.key)
        return {"socket": str(await services.exec_sessions.open_console(domain))}

    return routes


async def _open(store: Store, environment: str, name: str) -> Instance:
    """Raises NotFound, Refused (it does not run)."""
    instance = await _find(store, environment, name)
    if instance.state not in _OPEN_STATES:
        raise Refused(
            f"{instance.name} is {instance.state.value}, not running.",
            hint=f"'vmorch start {instance.name}' wakes it."
            if instance.state is State.SLEEPING
            else f"See 'vmorch ps' and 'vmorch logs {instance.name}'.",
        )
    return instance


async def _find(store: Store, environment: str, name: str) -> Instance:
    record = await store.environment(environment)
    instances = await store.instances(environment)
    for instance in instances:
        if instance.name == name:
            return instance
    of_service = [i for i in instances if i.service == name]
    if of_service:
        return min(of_service, key=lambda i: (i.state is not State.READY, i.ordinal))
    if name in record.spec.services:
        raise NotFound(
            f"Service '{name}' of '{environment}' has no instance.",
            hint=f"Start one with 'vmorch scale {name}=1'.",
        )
    if not instances:
        raise no_service(environment, name, list(record.spec.services))
    raise NotFound(
        f"Environment '{environment}' has no instance or service '{name}'.",
        hint=f"Its instances: {', '.join(i.name for i in instances)}.",
    )


async def _request(services: ApiServices, instance: Instance, body: ExecBody) -> ExecRequest:
    revisions = await revisions_of(services.store, {instance.environment})
    spec = revisions[instance.environment, instance.service, instance.revision].spec
    manifest = await services.images.manifest(spec.image)
    run, supports = manifest.run, manifest.boot.supports
    return ExecRequest(
        domain=services.store.installation.domain(
            instance.environment, instance.service, instance.ordinal
        ),
        address=instance.outer_address,
        argv=tuple(body.argv) if body.argv is not None else None,
        tty=body.tty,
        user=_first(body.user, spec.user, run.user) or "",
        environment=run.environment | spec.environment | body.env,
        working_dir=_working_dir(body, spec, run.working_dir),
        columns=body.columns,
        rows=body.rows,
        has_ssh="ssh" in supports,
        has_agent="agent" in supports,
    )


def _working_dir(body: ExecBody, spec: ServiceSpec, of_image: str) -> str | None:
    if body.argv is None:
        return body.working_dir  # a login shell begins at the user's home
    return _first(body.working_dir, spec.working_dir, of_image)


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None), None)
