"""About the daemon and its host: version, acceleration, capacity, doctor, stop."""

from __future__ import annotations

import os

from fastapi import APIRouter

from vmorch import __version__
from vmorch.api.capacity import capacity_view
from vmorch.api.services import ApiServices
from vmorch.model.view import Check
from vmorch.model.view.daemon import (
    AccelerationView,
    AuthorityView,
    CapacityView,
    VersionView,
)


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["daemon"])

    @routes.get("/version")
    async def version() -> VersionView:
        return VersionView(
            version=__version__,
            api="v1",
            installation=services.store.installation.short,
            pid=os.getpid(),
        )

    @routes.get("/acceleration")
    async def acceleration() -> AccelerationView:
        """KVM or TCG. The first call may boot a kernel to find out."""
        choice = await services.hypervisor.acceleration()
        return AccelerationView(
            acceleration=choice.acceleration.value,
            time_scale=choice.acceleration.time_scale,
            reason=choice.reason,
        )

    @routes.get("/capacity")
    async def capacity() -> CapacityView:
        """How much of the host is reserved, and how much is free."""
        return capacity_view(services.host.view(), services.last_look())

    @routes.get("/tls/authority")
    async def authority() -> AuthorityView:
        """Of the certificates of `*.localhost`. It is made when it is first needed."""
        settings = services.settings
        port = settings.https_port
        return AuthorityView(
            certificate=services.authority(),
            https=f"{settings.http_address}:{port}" if port else "",
        )

    @routes.get("/doctor")
    async def doctor() -> list[Check]:
        return await services.checks()

    @routes.post("/daemon/stop", status_code=202)
    async def stop() -> None:
        """End the daemon. Guests and the proxy go on."""
        services.shutdown()

    return routes
