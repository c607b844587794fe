"""How instances with volumes follow each other: the old one is gone before the new one comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import ServiceSpec, VolumeMount
from vmorch.planner.actions import Action, CreateInstance, Note, StartGuest
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

DATA = VolumeMount(source="data", target="/srv")
DB = ServiceSpec(name="db", image="sha256:1", volumes=(DATA,))
EACH = replace(DB, replicas=2, volumes=(replace(DATA, per_instance=True),))


def view(ordinal: int, spec: ServiceSpec = DB, **changes: Any) -> InstanceView:
    values: dict[str, Any] = {
        "environment": "shop",
        "service": spec.name,
        "ordinal": ordinal,
        "revision": 1,
        "uuid": f"00000000-0000-4000-8000-{ordinal:012d}",
        "mac": "52:54:00:00:00:01",
        "inner_address": f"10.0.0.{63 + ordinal}",
        "outer_address": f"10.1.0.{63 + ordinal}",
        "goal": Goal.RUN,
        "state": State.READY,
        "reason": "",
        "created_at": 1.0,
        "boot": 1,
        "started_at": 1.0,
        "ready_at": 1.0,
        "capped": True,
    }
    known = Instance(**{**values, **changes})
    alive = known.state is State.READY
    return InstanceView(
        instance=known,
        spec=spec,
        guest=GuestState.RUNNING if alive else None,
        healthy=True if alive else None,
        admitted=alive,
    )


def planned(*views: InstanceView, revision: int, services: dict[str, ServiceSpec]) -> list[Action]:
    environment = EnvironmentView(
        name="shop",
        removing=False,
        services=services,
        current=dict.fromkeys(services, revision),
        instances=views,
        network_ready=True,
        in_proxy=True,
    )
    return list(plan(Snapshot(environments=(environment,)), 2.0).actions)


def going(actions: list[Action]) -> list[str]:
    notes = [a.instance for a in actions if isinstance(a, Note)]
    return [i.name for i in notes if i.goal is Goal.REMOVE]


def made(actions: list[Action]) -> int:
    return sum(isinstance(a, CreateInstance) for a in actions)


def test_the_old_instance_goes_first_and_the_new_one_waits_until_it_is_gone() -> None:
    actions = planned(view(1), revision=2, services={"db": DB})
    assert (going(actions), made(actions)) == (["db-1"], 0)
    leaving = view(1, goal=Goal.REMOVE, state=State.STOPPING)
    assert made(planned(leaving, revision=2, services={"db": DB})) == 0
    assert made(planned(revision=2, services={"db": DB})) == 1


def test_one_is_replaced_at_a_time() -> None:
    old = [view(1, EACH), view(2, EACH)]
    actions = planned(*old, revision=2, services={"db": EACH})
    assert (going(actions), made(actions)) == (["db-2"], 0)
    booting = view(3, EACH, revision=2, state=State.STARTING, ready_at=None)
    actions = planned(view(1, EACH), booting, revision=2, services={"db": EACH})
    assert (going(actions), made(actions)) == ([], 0)
    ready = view(3, EACH, revision=2)
    actions = planned(view(1, EACH), ready, revision=2, services={"db": EACH})
    assert going(actions) == ["db-1"]


def test_scaling_down_takes_old_ones_first() -> None:
    views = [view(1, EACH), view(2, EACH, revision=2), view(3, EACH, revision=2)]
    assert going(planned(*views, revision=2, services={"db": EACH})) == ["db-1"]


def test_a_volume_that_moved_to_another_service_is_waited_for() -> None:
    other = replace(DB, name="archive")
    before = view(1, goal=Goal.REMOVE, state=State.STOPPING)
    after = view(1, other, state=State.PENDING, boot=0, started_at=None, ready_at=None)
    actions = planned(before, after, revision=1, services={"archive": other})
    assert not [a for a in actions if isinstance(a, StartGuest)]
    (told,) = [a for a in actions if isinstance(a, Note) and a.instance.service == "archive"]
    assert told.reason == "waiting until db-1 lets go of the volume 'data'"
    actions = planned(after, revision=1, services={"archive": other})
    assert [a for a in actions if isinstance(a, StartGuest)]
