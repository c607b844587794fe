from __future__ import annotations

import pytest

from vmorch.model.addresses import link_range, outer_range
from vmorch.model.image import RunConfig
from vmorch.model.instance import EnvironmentNetwork, Goal, Instance, State
from vmorch.model.spec import ServiceSpec
from vmorch.reconciler.identity import bundle_for
from vmorch.simulation.world import FakeKeys

NETWORK = EnvironmentNetwork(
    environment="shop",
    index=0,
    inner="10.212.0.0/24",
    outer=outer_range("10.213.0.0/16", 0),
    link=link_range("10.213.0.0/16", 0),
    internal=False,
)
INSTANCE = Instance(
    environment="shop",
    service="web",
    ordinal=1,
    revision=1,
    uuid="00000000-0000-4000-8000-000000000001",
    mac="52:54:00:00:00:01",
    inner_address="10.212.0.64",
    outer_address="10.213.0.64",
    goal=Goal.RUN,
    state=State.STARTING,
    reason="",
    created_at=0.0,
)


@pytest.mark.parametrize(
    ("grace_seconds", "time_scale", "seconds"),
    [(10.0, 1.0, 10), (10.0, 10.0, 100), (1.2, 1.0, 2), (0.0, 1.0, 1)],
)
def test_a_service_may_take_as_long_to_end_as_its_guest(
    grace_seconds: float, time_scale: float, seconds: int
) -> None:
    bundle = bundle_for(
        INSTANCE,
        boot=1,
        spec=ServiceSpec(name="web", image="i", stop_grace_period_seconds=grace_seconds),
        image=RunConfig(stop_signal="SIGINT"),
        network=NETWORK,
        keys=FakeKeys(),
        random_seed=bytes(64),
        time_scale=time_scale,
    )
    assert (bundle.stop_signal, bundle.stop_seconds) == ("SIGINT", seconds)


def test_each_boot_is_another_one_but_not_for_cloud_init() -> None:
    """Or it would do its work for a new instance again at each boot."""
    first, second = (
        bundle_for(
            INSTANCE,
            boot=boot,
            spec=ServiceSpec(name="web", image="i"),
            image=RunConfig(),
            network=NETWORK,
            keys=FakeKeys(),
            random_seed=bytes(64),
            time_scale=1.0,
        )
        for boot in (1, 2)
    )
    assert first.instance_id != second.instance_id
    assert first.cloud_instance_id == second.cloud_instance_id == INSTANCE.uuid
