"""Measures: the last look, the last hour, and both for Prometheus. Read from memory alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from fastapi.responses import Response

from vmorch import __version__
from vmorch.api.instances import no_service
from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, ProxyError
from vmorch.metrics.exposition import CONTENT_TYPE, exposition
from vmorch.metrics.history import History, Track
from vmorch.metrics.latency import latency
from vmorch.metrics.subject import ServiceKey
from vmorch.model.names import split_instance_name
from vmorch.model.use import HostUse, InstanceUse, ServiceUse
from vmorch.model.view.measure import MeasuredInstance, MeasuredService


def router(services: ApiServices) -> APIRouter:
    """`…/instances` and `…/services` are the last look, below them one's last hour: means of
    steps of ten seconds, oldest first, since `since` (seconds since the epoch)."""
    routes = APIRouter(prefix="/metrics", tags=["metrics"])

    @routes.get("/instances")
    async def instances(
        environment: str | None = None, service: str | None = None
    ) -> list[MeasuredInstance]:
        if environment is not None:
            await _check_known(services, environment, service)
        rows = [
            _instance_view(track)
            for track in services.history.instances.values()
            if environment in {None, track.subject.environment}
            and service in {None, track.subject.service}
        ]
        return sorted(rows, key=_order)

    @routes.get("/instances/{environment}/{instance}")
    async def instance_history(
        environment: str, instance: str, since: float = 0.0
    ) -> list[InstanceUse]:
        await services.store.environment(environment)
        for track in services.history.instances.values():
            if (track.subject.environment, track.subject.name) == (environment, instance):
                return list(track.ring.points(since))
        raise NotFound(
            f"Nothing is known of an instance '{instance}' in '{environment}'.",
            hint="'vmorch ps' lists the instances; the measures of one go with it.",
        )

    @routes.get("/services")
    async def services_now(environment: str | None = None) -> list[MeasuredService]:
        if environment is not None:
            await services.store.environment(environment)
        times = await _answer_times(services)
        return [
            MeasuredService(
                environment=env,
                service=name,
                now=track.latest,
                totals=track.totals,
                latency=latency(times.get((env, name), ())),
            )
            for (env, name), track in sorted(services.history.services.items())
            if environment in {None, env}
        ]

    @routes.get("/services/{environment}/{service}")
    async def service_history(
        environment: str, service: str, since: float = 0.0
    ) -> list[ServiceUse]:
        await _check_known(services, environment, service)
        track = services.history.services.get((environment, service))
        return list(track.ring.points(since)) if track else []

    @routes.get("/host")
    async def host(since: float | None = None) -> list[HostUse]:
        """The last look, or with `since` the last hour."""
        if since is not None:
            return list(services.history.host_ring.points(since))
        return [services.history.host] if services.history.host else []

    return routes


def prometheus(history: History) -> APIRouter:
    """`/metrics`, outside `/v1`: where Prometheus looks for it."""
    routes = APIRouter(tags=["metrics"])

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(exposition(history, __version__), media_type=CONTENT_TYPE)

    return routes


async def _check_known(services: ApiServices, environment: str, service: str | None) -> None:
    """Raises NotFound."""
    record = await services.store.environment(environment)
    if service is not None and service not in record.spec.services:
        raise no_service(environment, service, list(record.spec.services))


async def _answer_times(services: ApiServices) -> Mapping[ServiceKey, Sequence[float]]:
    """Empty where no route is logged, and while HAProxy does not answer."""
    records = await services.store.environments()
    declared = [spec for record in records for spec in record.spec.services.values()]
    if not any(route.access_log for spec in declared for route in spec.routes):
        return {}
    try:
        return await services.answer_times()
    except ProxyError:
        return {}


def _order(row: MeasuredInstance) -> tuple[str, str, int]:
    return row.environment, row.service, split_instance_name(row.instance)[1]


def _instance_view(track: Track) -> MeasuredInstance:
    subject = track.subject
    return MeasuredInstance(
        environment=subject.environment,
        service=subject.service,
        instance=subject.name,
        ready=subject.ready,
        cpus=subject.cpus,
        memory_bytes=subject.memory_bytes,
        now=track.latest,
        totals=track.totals,
    )
