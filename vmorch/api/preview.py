"""Pure: what applying a spec, scaling or removing an environment would do, why, in which order.

Which instances come and which go is asked of the planner, with the spec as it would be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace

from vmorch.api.instances import no_service
from vmorch.model.counts import refuse_outside
from vmorch.model.instance import Goal, Instance
from vmorch.model.rollout import Phase, Rollout
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.view.step import StepView
from vmorch.planner.actions import Action, CreateInstance, Note
from vmorch.planner.plan import plan
from vmorch.planner.rollout_words import way
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot
from vmorch.store.exclusive import refuse_sharing
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


def with_replicas(spec: EnvironmentSpec, replicas: Mapping[str, int]) -> EnvironmentSpec:
    """With so many instances of those services that it has."""
    services = {
        name: replace(service, replicas=replicas.get(name, service.replicas))
        for name, service in spec.services.items()
    }
    return replace(spec, services=services)


def steps_to_apply(
    spec: EnvironmentSpec,
    record: EnvironmentRecord | None,
    instances: Sequence[Instance],
    *,
    volumes: Collection[str] = (),
    rollouts: Mapping[str, Rollout],
) -> list[StepView]:
    """In the order of the start: a service after those that it depends on. `volumes` are those
    that there are, also of an environment that is gone."""
    if record is None:
        steps = [_step("create", spec.name, "there is no environment of that name yet")]
    else:
        steps = []
    steps += _volumes(spec, record, volumes)
    old = record.spec.services if record else {}
    for name in in_start_order(spec.services):
        mine = [i for i in instances if i.service == name and i.goal is not Goal.REMOVE]
        steps += _service(spec.services[name], old.get(name), record, mine, rollouts)
    for name in reversed(in_start_order(old)):
        if name not in spec.services:
            gone = [i for i in instances if i.service == name]
            steps += [_leaving(i, old[name], f"'{name}' is no longer declared") for i in gone]
            steps += _kept_volumes(old[name], "volumes stay until 'vmorch down -v'")
    return steps


def steps_to_scale(
    record: EnvironmentRecord,
    instances: Sequence[Instance],
    replicas: Mapping[str, int],
    rollouts: Mapping[str, Rollout],
    *,
    now: float,
) -> list[StepView]:
    """What comes in the order of the start, then what goes in the order of the end.

    Raises:
        NotFound: there is no such service. Refused: it cannot have so many instances.
    """
    old = record.spec.services
    for name, count in replicas.items():
        if name not in old:
            raise no_service(record.name, name, list(old))
        refuse_sharing(old[name], count)
        refuse_outside(old[name], count, now=now)
    order = [name for name in in_start_order(old) if name in replicas]
    steps = {
        name: list(
            _scaled(replace(old[name], replicas=replicas[name]), record, instances, rollouts)
        )
        for name in order
    }
    coming = [step for name in order for step in steps[name] if step.action == "create"]
    going = [step for name in reversed(order) for step in steps[name] if step.action != "create"]
    return [*coming, *going]


def steps_to_remove(
    record: EnvironmentRecord, instances: Sequence[Instance], *, volumes: bool
) -> list[StepView]:
    """In the order of the end: a service before those that it depends on."""
    order = list(reversed(in_start_order(record.spec.services)))
    steps = [
        _leaving(instance, record.spec.services[name], "the environment is removed; its logs stay")
        for name in order
        for instance in instances
        if instance.service == name
    ]
    for volume in record.spec.volumes:
        why = "its data is lost (-v)" if volumes else "volumes stay without -v"
        steps.append(_step("remove" if volumes else "keep", f"volume {volume}", why))
    return [*steps, _step("remove", record.name, "its network, addresses and ports are freed")]


def rollback_steps(service: ServiceSpec, instances: Sequence[Instance], to: int) -> list[StepView]:
    """What leading a service back to revision `to` does."""
    wanted = [i for i in instances if i.goal is not Goal.REMOVE]
    stay = [i for i in wanted if i.revision == to]
    go = [i for i in wanted if i.revision != to]
    why = f"it is declared as revision {to} was; {_instances(service.kept_replicas)} of it"
    steps = [_step("replace", service.name, why)]
    steps += [_step("keep", i.name, f"it is of revision {to}") for i in stay]
    steps += [_leaving(i, service, f"replaced by revision {to}") for i in go]
    return [*steps, _step("rollout", service.name, way(service, rollback=True))]


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


def _volumes(
    spec: EnvironmentSpec, record: EnvironmentRecord | None, there: Collection[str]
) -> Iterator[StepView]:
    """Those that come with this spec."""
    for name, volume in spec.volumes.items():
        if record is not None and name in record.spec.volumes:
            continue
        if name in there:
            yield _step("keep", f"volume {name}", "it was left by 'vmorch down', with its data")
        else:
            size = f"of at most {volume.size_bytes / 1024**3:g} GiB"
            yield _step("create", f"volume {name}", f"{size}; it takes the room of what is in it")


def _kept_volumes(service: ServiceSpec, why: str) -> list[StepView]:
    return [_step("keep", f"volume {mount.source}", why) for mount in service.volumes]


def _service(
    new: ServiceSpec,
    old: ServiceSpec | None,
    record: EnvironmentRecord | None,
    instances: Sequence[Instance],
    rollouts: Mapping[str, Rollout],
) -> Iterator[StepView]:
    if old is None or record is None:
        yield _step("create", new.name, f"a new service of {_instances(new.replicas)}{_after(new)}")
        return
    changed = _changed(old, new)
    reaching = [name for name in changed if _reaches_guest(name, old, new)]
    if reaching:
        yield from _replaced(new, reaching, instances)
    elif "replicas" in changed or len(instances) != new.kept_replicas:
        yield from _scaled(new, record, instances, rollouts)
    elif aside := [name for name in changed if name != "build"]:
        yield _step("change", new.name, f"{', '.join(aside)} changed; no instance is touched")
    else:
        yield _step("keep", new.name, "nothing of it changed")
    for instance in instances:
        if instance.goal in {Goal.STOP, Goal.SLEEP, Goal.PAUSE}:
            yield _step("start", instance.name, f"it is {instance.state.value}: {instance.reason}")


def _replaced(
    new: ServiceSpec, reaching: list[str], instances: Sequence[Instance]
) -> Iterator[StepView]:
    why = f"a new revision, as {', '.join(reaching)} changed: {_instances(new.kept_replicas)} anew"
    old = ", ".join(instance.name for instance in instances)
    yield _step("replace", new.name, f"{why}{f' for {old}' if old else ''}{_after(new)}")
    if old:
        yield _step("rollout", new.name, way(new))
    yield from _kept_volumes(new, "the new instances get it with its data")


def _scaled(
    new: ServiceSpec,
    record: EnvironmentRecord,
    instances: Sequence[Instance],
    rollouts: Mapping[str, Rollout],
) -> Iterator[StepView]:
    mine = [i for i in instances if i.service == new.name and i.goal is not Goal.REMOVE]
    actions = _planned(new, record, mine, rollouts)
    if coming := sum(isinstance(action, CreateInstance) for action in actions):
        there = f"{len(mine)} of {new.replicas} are there"
        yield _step("create", new.name, f"{_instances(coming)} more: {there}{_after(new)}")
    going = [a for a in actions if isinstance(a, Note) and a.instance.goal is Goal.REMOVE]
    for note in going:
        yield _leaving(note.instance, new, note.reason)
    if going:
        yield from _kept_volumes(new, "volumes stay when their instances go")
    if not coming and not going:
        yield _of_the_same(new, record.spec.services[new.name], len(mine))


def _of_the_same(new: ServiceSpec, old: ServiceSpec, there: int) -> StepView:
    """A step with the instances that there are."""
    if new.is_asleep and not old.is_asleep:
        return _step("sleep", new.name, "it sleeps until somebody asks for it")
    if old.is_asleep and not new.is_asleep:
        return _step("wake", new.name, "it is asleep until somebody asks for it")
    return _step("keep", new.name, f"it has {_instances(there)} already")


def _planned(
    service: ServiceSpec,
    record: EnvironmentRecord,
    instances: Sequence[Instance],
    rollouts: Mapping[str, Rollout],
) -> Sequence[Action]:
    """What the planner would do about the number of instances, and much that it would not: it is
    shown no guest."""
    views = tuple(InstanceView(instance=instance, spec=service) for instance in instances)
    environment = EnvironmentView(
        name=record.name,
        removing=False,
        services={service.name: service},
        current=record.current,
        # What scaling does by itself: replacing goes on beside it.
        rollouts={
            name: replace(rollout, phase=Phase.PAUSED) if rollout.is_open else rollout
            for name, rollout in rollouts.items()
        },
        instances=views,
        network_ready=True,
        in_proxy=True,
    )
    return plan(Snapshot(environments=(environment,)), now=0.0).actions


def _leaving(instance: Instance, service: ServiceSpec, why: str) -> StepView:
    grace = f"{service.stop_grace_period_seconds:g} s"
    return _step(
        "remove", instance.name, f"{why}; its sessions, and then its service, have {grace} to end"
    )


def _after(service: ServiceSpec) -> str:
    needs = [f"'{name}' ({condition})" for name, condition in service.depends_on.items()]
    return f", after {', '.join(needs)}" if needs else ""


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
