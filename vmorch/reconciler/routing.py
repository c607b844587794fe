"""Pure: from environments and instances to what the proxy and the DNS should say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vmorch.model.instance import Goal, Instance, State
from vmorch.model.names import Installation, backend_name, instance_name
from vmorch.model.rollout import Rollout
from vmorch.model.spec import HealthCheck, HealthKind, Protocol, Route, ServiceSpec
from vmorch.proxy.protocol import (
    Backend,
    Check,
    HttpRoute,
    Listener,
    Mode,
    ProxyConfig,
    Server,
    Treatment,
)
from vmorch.store.protocol import EnvironmentRecord

FULL_WEIGHT = 100
MOST_WEIGHT = 256
"""HAProxy's bound of a server's weight."""

PROXIED = "proxied"
"""The kind of the backend whose servers are told of the client by the PROXY protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One environment as the proxy needs it. `ports` holds each service's TCP ports, those that
    its image exposes included; `revisions` what each instance (by its key) was made from,
    `rollouts` each service's last one."""

    record: EnvironmentRecord
    instances: Sequence[Instance]
    service_addresses: dict[str, str]
    ports: dict[str, tuple[int, ...]]
    revisions: dict[tuple[str, str, int], ServiceSpec] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)

    def of(self, service: str) -> list[Instance]:
        return [instance for instance in self.instances if instance.service == service]


def proxy_config(
    installation: Installation, environments: Iterable[Routed], *, publish_address: str
) -> ProxyConfig:
    """Everything HAProxy should do. An environment under removal listens nowhere any more once
    its instances are gone: until then its servers drain."""
    backends: list[Backend] = []
    listeners: list[Listener] = []
    routes: list[HttpRoute] = []
    for environment in environments:
        if environment.record.removing and not environment.instances:
            continue
        for spec in environment.record.spec.services.values():
            backends += _backends(environment, spec)
            listeners += _inner_listeners(installation, environment, spec)
            listeners += _outer_listeners(environment, spec, publish_address)
            routes += _routes(environment.record.name, spec)
    return ProxyConfig(backends=tuple(backends), listeners=tuple(listeners), routes=tuple(routes))


def _backends(environment: Routed, spec: ServiceSpec) -> Iterator[Backend]:
    instances = environment.of(spec.name)
    weights = canary_weights(instances, environment.rollouts.get(spec.name))
    for port in environment.ports[spec.name]:
        plain = Backend(
            name=backend_name(environment.record.name, spec.name, port, Mode.TCP),
            mode=Mode.TCP,
            servers=tuple(_servers(instances, port, weights)),
            check=_common_check(environment, spec, port),
            by_weight=bool(weights),
            hold_seconds=_hold_seconds(environment, spec),
        )
        yield plain
        if any(p.send_proxy and p.target == port for p in spec.ports):
            name = backend_name(environment.record.name, spec.name, port, Mode.TCP, PROXIED)
            yield replace(plain, name=name, send_proxy=True)
        for treatment, name in _http_names(environment.record.name, spec, port).items():
            closed = treatment.maintenance is not None
            yield replace(
                plain,
                name=name,
                mode=Mode.HTTP,
                servers=() if closed else plain.servers,
                check=None if closed else plain.check,
                hold_seconds=None if closed else plain.hold_seconds,
                treatment=treatment,
            )


def _hold_seconds(environment: Routed, spec: ServiceSpec) -> float | None:
    """For how long requests wait for a service that wakes when they come; None where nothing would
    wake, as its user has stopped it."""
    wanted = [i.goal is Goal.RUN for i in environment.of(spec.name) if i.goal is not Goal.REMOVE]
    if spec.autoscale is None or not spec.sleeps_when_idle or environment.record.removing:
        return None
    return spec.autoscale.hold_seconds if any(wanted) or not wanted else None


def _http_names(environment: str, spec: ServiceSpec, port: int) -> dict[Treatment, str]:
    """A backend for each way in which the service's routes to this port treat requests. Its name
    says which, so that what changes at one route is no change of another's backend."""
    found = dict.fromkeys(_treatment(r) for r in spec.routes if _port(r, spec) == port)
    kinds = {t: "" if t == Treatment() else _digest(t) for t in found}
    return {t: backend_name(environment, spec.name, port, Mode.HTTP, k) for t, k in kinds.items()}


def _digest(treatment: Treatment) -> str:
    return hashlib.sha256(repr(treatment).encode()).hexdigest()[:8]


def _treatment(route: Route) -> Treatment:
    if route.maintenance is not None:
        return Treatment(maintenance=route.maintenance, logged=route.access_log)
    return Treatment(
        timeout_seconds=route.timeout_seconds,
        body_bytes=route.body_bytes,
        logged=route.access_log,
    )


def _port(route: Route, spec: ServiceSpec) -> int | None:
    return route.port or spec.main_port


def _servers(
    instances: Sequence[Instance], port: int, weights: Mapping[int, int]
) -> Iterator[Server]:
    """Instances that have been ready; only those that are now get new connections. Those of one
    that goes to sleep are closed, as its guest cannot."""
    for instance in instances:
        known = instance.ready_at is not None and instance.state in {
            State.READY,
            State.RUNNING,
            State.DRAINING,
            State.STOPPING,
            State.PAUSED,
        }
        if known:
            yield Server(
                name=instance.name,
                id=instance.ordinal,
                address=instance.outer_address,
                port=port,
                admitted=instance.state is State.READY,
                weight=weights.get(instance.ordinal, FULL_WEIGHT),
                closed=instance.saving,
            )


def canary_weights(instances: Sequence[Instance], rollout: Rollout | None) -> dict[int, int]:
    """By ordinal, so that the new revision's instances together get the canary's share. Empty
    when there is no canary, or nobody else that could have the rest."""
    if rollout is None or not rollout.is_open or rollout.canary is None:
        return {}
    ready = [instance for instance in instances if instance.state is State.READY]
    new = [i.ordinal for i in ready if i.revision == rollout.revision]
    old = [i.ordinal for i in ready if i.revision != rollout.revision]
    if not new or not old:
        return {}
    each_new, each_old = rollout.canary / len(new), (100 - rollout.canary) / len(old)
    scale = MOST_WEIGHT / max(each_new, each_old)
    return {ordinal: max(1, round(scale * each_new)) for ordinal in new} | {
        ordinal: max(1, round(scale * each_old)) for ordinal in old
    }


def _common_check(environment: Routed, spec: ServiceSpec, port: int) -> Check | None:
    """HAProxy asks all servers of a backend alike. Where revisions are asked differently, it only
    sees whether they can be reached: what one does not know must not take it away."""
    declared = _check(spec.healthcheck, port)
    own = {
        _check(environment.revisions[instance.key].healthcheck, port)
        for instance in environment.of(spec.name)
        if instance.key in environment.revisions
    }
    if declared is None or own <= {declared}:
        return declared
    return replace(declared, path=None)


def _check(health: HealthCheck, port: int) -> Check | None:
    """HAProxy repeats only a check of the port itself: it may take away what we admitted."""
    if health.kind not in {HealthKind.HTTP, HealthKind.TCP} or health.port not in {None, port}:
        return None
    path = (health.argument or ("/",))[0] if health.kind is HealthKind.HTTP else None
    return Check(
        path=path, port=port, interval_seconds=health.interval_seconds, retries=health.retries
    )


def _inner_listeners(
    installation: Installation, environment: Routed, spec: ServiceSpec
) -> Iterator[Listener]:
    name = environment.record.name
    for port in environment.ports[spec.name]:
        yield Listener(
            address=environment.service_addresses[spec.name],
            port=port,
            namespace=installation.namespace(environment.record.network.index),
            backend=backend_name(name, spec.name, port, Mode.TCP),
        )


def _outer_listeners(
    environment: Routed, spec: ServiceSpec, publish_address: str
) -> Iterator[Listener]:
    for published in spec.ports:
        if published.protocol is Protocol.TCP and published.published is not None:
            kind = PROXIED if published.send_proxy else ""
            yield Listener(
                address=published.address(publish_address),
                port=published.published,
                namespace=None,
                backend=backend_name(
                    environment.record.name, spec.name, published.target, Mode.TCP, kind
                ),
                accept_proxy=published.accept_proxy,
            )


def _routes(environment: str, spec: ServiceSpec) -> Iterator[HttpRoute]:
    for route in spec.routes:
        port = _port(route, spec)
        if port is not None:
            yield HttpRoute(
                host=route.host,
                path=route.path,
                headers=tuple(sorted(route.headers.items())),
                backend=_http_names(environment, spec, port)[_treatment(route)],
            )


def names(environment: Routed) -> dict[str, tuple[str, ...]]:
    """A service's name leads to its stable address, an instance's to the instance."""
    records: dict[str, tuple[str, ...]] = {
        name: (address,) for name, address in environment.service_addresses.items()
    }
    for instance in environment.instances:
        key = instance_name(instance.service, instance.ordinal)
        records[key] = (instance.inner_address,)
    return records
