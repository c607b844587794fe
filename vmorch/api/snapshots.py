"""Warm snapshots: list, remove, ask for one. The reconciler makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter

from vmorch.api.instances import no_service, revisions_of
from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.model.spec import ServiceSpec
from vmorch.model.view.snapshot import (
    RemovedSnapshotsView,
    SnapshotUseView,
    SnapshotView,
    WarmUpView,
)
from vmorch.snapshots.protocol import WarmSnapshot
from vmorch.snapshots.subject import is_able, key_of, refuse_unable


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["snapshots"])
    store = services.store

    @routes.get("/snapshots")
    async def list_snapshots() -> list[SnapshotView]:
        uses = await _uses(services)
        return [_view(snapshot, uses) for snapshot in await services.snapshots.all()]

    @routes.delete("/snapshots")
    async def remove_all() -> RemovedSnapshotsView:
        """As for one."""
        return await _remove(services, await services.snapshots.all())

    @routes.delete("/snapshots/{reference}")
    async def remove(reference: str) -> RemovedSnapshotsView:
        """All of the services of that name, else the one whose key begins so. Forks that live are
        left alone; what was removed is made again only when somebody asks for it."""
        return await _remove(services, _chosen(await services.snapshots.all(), reference))

    @routes.post("/environments/{name}/services/{service}/snapshot", status_code=202)
    async def make(name: str, service: str) -> WarmUpView:
        """Have one made of the service as it is declared. An event snapshot-made or
        snapshot-failed tells the end. Nothing happens where there is one."""
        record = await store.environment(name)
        if record.removing:
            raise Refused(
                f"Environment '{name}' is being removed.", hint="'vmorch up' makes it anew."
            )
        spec = record.spec.services.get(service)
        if spec is None:
            raise no_service(name, service, list(record.spec.services))
        refuse_unable(spec, await services.images.manifest(spec.image))
        key = key_of(spec, await services.hypervisor.fingerprint())
        made = any(snapshot.key == key for snapshot in await services.snapshots.all())
        if not made:
            services.ask_warm_up(name, service)
        return WarmUpView(key=key, made=made)

    return routes


async def _remove(services: ApiServices, chosen: Sequence[WarmSnapshot]) -> RemovedSnapshotsView:
    keys = [snapshot.key for snapshot in chosen]
    services.forgo_warm_up(keys)  # first, or it would be made again at once
    freed = [await services.snapshots.remove(key) for key in keys]
    return RemovedSnapshotsView(keys=keys, bytes_freed=sum(freed))


def _chosen(present: Sequence[WarmSnapshot], reference: str) -> list[WarmSnapshot]:
    """Raises NotFound, UsageError (several keys begin so)."""
    if named := [s for s in present if s.service == reference]:
        return named
    found = [s for s in present if reference and s.key.startswith(reference)]
    if not found:
        raise NotFound(
            f"There is no warm snapshot '{reference}'.", hint="'vmorch snapshot ls' lists them."
        )
    if len(found) > 1:
        raise UsageError(
            f"The keys of {len(found)} warm snapshots begin with '{reference}'.",
            hint="Give more of the key.",
        )
    return found


async def _uses(services: ApiServices) -> dict[str, list[SnapshotUseView]]:
    """By key: the declared revisions, and those that still have instances."""
    store = services.store
    environments = await store.environments()
    revisions = await revisions_of(store, {record.name for record in environments})
    declared = {s: spec for record in environments for s, spec in record.declared.items()}
    alive = {(i.environment, i.service, i.revision) for i in await store.instances()}
    living = {s: r.spec for s, r in revisions.items() if s in alive}
    fingerprint = await services.hypervisor.fingerprint()
    uses: dict[str, list[SnapshotUseView]] = {}
    for subject, spec in sorted((living | declared).items(), key=lambda item: item[0]):
        if not await _is_able(services, spec):
            continue
        environment, service, revision = subject
        use = SnapshotUseView(
            environment=environment,
            service=service,
            revision=revision,
            current=subject in declared,
        )
        uses.setdefault(key_of(spec, fingerprint), []).append(use)
    return uses


async def _is_able(services: ApiServices, spec: ServiceSpec) -> bool:
    try:
        return is_able(spec, await services.images.manifest(spec.image))
    except NotFound:
        return False


def _view(snapshot: WarmSnapshot, uses: Mapping[str, list[SnapshotUseView]]) -> SnapshotView:
    return SnapshotView(
        key=snapshot.key,
        service=snapshot.service,
        image=snapshot.image,
        with_service=snapshot.with_service,
        ram_bytes=snapshot.ram_bytes,
        disk_bytes=snapshot.disk_bytes,
        created_at=snapshot.created_at,
        used_at=snapshot.used_at,
        used_by=uses.get(snapshot.key, []),
    )
