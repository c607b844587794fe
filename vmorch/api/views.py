"""Pure: from what the store remembers to what the API shows."""

from __future__ import annotations

from collections.abc import Callable

from vmorch.config import Settings
from vmorch.model.instance import Instance, Revision, State
from vmorch.model.names import Installation
from vmorch.model.spec import ServiceSpec
from vmorch.model.view.environment import EnvironmentView, ServiceView
from vmorch.model.view.instance import InstanceView
from vmorch.store.protocol import EnvironmentRecord

IsPresented = Callable[[str], bool]
"""Whether TLS has a certificate for a host."""


def environment_view(
    record: EnvironmentRecord, settings: Settings, is_presented: IsPresented
) -> EnvironmentView:
    return EnvironmentView(
        name=record.name,
        version=record.version,
        services={
            name: _service_view(
                service,
                record.current.get(name, 0),
                settings,
                urls_of(service, settings, is_presented),
            )
            for name, service in record.spec.services.items()
        },
        subnet=record.network.outer,
        created_at=record.created_at,
        removing=record.removing,
        expires_at=record.expires_at,
        holder=record.holder.partition(":")[0] if record.holder else None,
    )


def urls_of(
    service: ServiceSpec | None, settings: Settings, is_presented: IsPresented
) -> list[str]:
    """Where the host reaches the routes of a service (None: one that is declared no more): each
    by HTTP and, where the proxy answers it, by TLS."""
    found = []
    for route in service.routes if service else ():
        found.append(f"http://{route.host}:{settings.http_port}{route.path}")
        if settings.https_port and is_presented(route.host):
            found.append(f"https://{route.host}:{settings.https_port}{route.path}")
    return found


def _service_view(
    service: ServiceSpec, revision: int, settings: Settings, urls: list[str]
) -> ServiceView:
    return ServiceView(
        replicas=service.replicas,
        revision=revision,
        image=service.image,
        min_replicas=service.autoscale.min if service.autoscale else None,
        max_replicas=service.autoscale.max if service.autoscale else None,
        routes=urls,
        published=[
            f"{p.address(settings.publish_address)}:{p.published or ''}"
            f"->{p.target}/{p.protocol.value}"
            for p in service.ports
        ],
    )


def instance_view(
    instance: Instance, revision: Revision, installation: Installation, urls: list[str]
) -> InstanceView:
    """`urls` are those of its service as it is declared now: no revision of it has them."""
    spec = revision.spec
    return InstanceView(
        environment=instance.environment,
        service=instance.service,
        instance=instance.name,
        state=instance.state.value,
        ready=instance.state is State.READY,
        address=instance.outer_address,
        inner_address=instance.inner_address,
        revision=instance.revision,
        image=spec.image,
        cpus=spec.cpus,
        vcpus=spec.vcpus,
        memory_bytes=spec.memory_bytes,
        ports=list(spec.all_ports),
        urls=urls,
        start=instance.start.value,
        created_at=instance.created_at,
        started_at=instance.started_at,
        ready_at=instance.ready_at,
        restarts=max(0, instance.boot - 1),
        failures=instance.failures,
        reason=instance.reason,
        exit_code=instance.exit_code,
        domain=installation.domain(instance.environment, instance.service, instance.ordinal),
    )
