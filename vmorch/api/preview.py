"""Pure: what applying a spec, or removing an environment, would do, why, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

from vmorch.model.instance import Goal, Instance
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.view.step import StepView
from vmorch.store.protocol import EnvironmentRecord


def merged(spec: EnvironmentSpec, record: EnvironmentRecord | None) -> EnvironmentSpec:
    """`spec` as a part: what else the environment has stays as it is."""
    if record is None:
        return spec
    old = record.spec
    return replace(
        spec,
        services={**old.services, **spec.services},
        volumes={**old.volumes, **spec.volumes},
        secrets={**old.secrets, **spec.secrets},
        configs={**old.configs, **spec.configs},
    )


def steps_to_apply(
    spec: EnvironmentSpec, record: EnvironmentRecord | None, instances: Sequence[Instance]
) -> list[StepView]:
    """In the order of the start: a service after those that it depends on."""
    if record is None:
        steps = [_step("create", spec.name, "there is no environment of that name yet")]
    else:
        steps = []
    old = record.spec.services if record else {}
    for name in in_start_order(spec.services):
        mine = [i for i in instances if i.service == name and i.goal is not Goal.REMOVE]
        steps += _service(spec.services[name], old.get(name), mine)
    for name in reversed(in_start_order(old)):
        if name not in spec.services:
            gone = [i.name for i in instances if i.service == name]
            steps += [_step("remove", i, f"'{name}' is no longer declared") for i in gone]
    return steps


def steps_to_remove(
    record: EnvironmentRecord, instances: Sequence[Instance], *, volumes: bool
) -> list[StepView]:
    """In the order of the end: a service before those that it depends on."""
    order = list(reversed(in_start_order(record.spec.services)))
    steps = [
        _step("remove", instance.name, "the environment is removed; its logs stay")
        for name in order
        for instance in instances
        if instance.service == name
    ]
    for volume in record.spec.volumes:
        why = "its data is lost (-v)" if volumes else "volumes stay without -v"
        steps.append(_step("remove" if volumes else "keep", f"volume {volume}", why))
    return [*steps, _step("remove", record.name, "its network, addresses and ports are freed")]


def in_start_order(services: Mapping[str, ServiceSpec]) -> list[str]:
    """Names, each after the services that it depends on."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done and name in services:
            for other in services[name].depends_on:
                visit(other)
            done[name] = None

    for name in services:
        visit(name)
    return list(done)


def _service(
    new: ServiceSpec, old: ServiceSpec | None, instances: Sequence[Instance]
) -> Iterator[StepView]:
    if old is None:
        yield _step("create", new.name, f"a new service of {_instances(new.replicas)}")
        return
    changed = _changed(old, new)
    reaching = [name for name in changed if _reaches_guest(name, old, new)]
    if reaching:
        why = f"a new revision, as {', '.join(reaching)} changed"
        yield _step("replace", new.name, f"{why}: {_instances(new.replicas)} anew")
    elif "replicas" in changed or len(instances) != new.replicas:
        yield _scaled(new, len(instances))
    elif aside := [name for name in changed if name != "build"]:
        yield _step("change", new.name, f"{', '.join(aside)} changed; no instance is touched")
    else:
        yield _step("keep", new.name, "nothing of it changed")
    for instance in instances:
        if instance.goal in {Goal.STOP, Goal.SLEEP, Goal.PAUSE}:
            yield _step("start", instance.name, f"it is {instance.state.value}: {instance.reason}")


def _scaled(new: ServiceSpec, count: int) -> StepView:
    more = new.replicas - count
    what = f"{_instances(abs(more))} {'more' if more > 0 else 'fewer'}"
    action = "create" if more > 0 else "remove"
    return _step(action, new.name, f"{what}: {count} of {new.replicas} are there")


def _changed(old: ServiceSpec, new: ServiceSpec) -> list[str]:
    """Names of the keys in which they differ; a port that vmorch chose is not a change."""
    chosen = {(p.target, p.host_ip, p.protocol): p for p in old.ports}
    kept = tuple(
        chosen.get((p.target, p.host_ip, p.protocol), p) if p.published is None else p
        for p in new.ports
    )
    new = replace(new, ports=kept)
    return [f.name for f in fields(ServiceSpec) if getattr(old, f.name) != getattr(new, f.name)]


def _reaches_guest(name: str, old: ServiceSpec, new: ServiceSpec) -> bool:
    tried = replace(old, **{name: getattr(new, name)})
    return tried.revision_digest() != old.revision_digest()


def _instances(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"


def _step(action: str, subject: str, reason: str) -> StepView:
    return StepView(action=action, subject=subject, reason=reason)
