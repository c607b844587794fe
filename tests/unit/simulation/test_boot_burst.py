"""A booting guest has its whole cores and QEMU's own threads one beside them; ready, its cap."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World


@pytest.mark.parametrize(("cap", "burst"), [(0.5, 2.0), (1.5, 3.0)])
def test_the_burst_leaves_room_beside_the_vcpus_and_ends(
    tmp_path: Path, cap: float, burst: float
) -> None:
    async def life() -> None:
        world = World(1, tmp_path)
        world.boot()
        web = ServiceSpec(name="web", image=world.image("web"), cpus=cap)
        spec = EnvironmentSpec(name="shop", services={"web": web})
        await world.store.apply(spec, now=world.clock.now())
        await world.live(60.0)
        (guest,) = world.hypervisor.domains.values()
        assert (guest.config.boot_cpus, guest.cpus) == (burst, cap)
        await world.crash()

    run_virtually(life())
