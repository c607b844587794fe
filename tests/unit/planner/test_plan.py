"""The planner's decisions, as tables and as properties of what must never happen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.rollout import FailureAction, Phase, Rollout, UpdateConfig
from vmorch.model.spec import (
    DependencyCondition,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
)
from vmorch.planner.actions import (
    ABOUT_ONE_INSTANCE,
    CapGuest,
    CreateInstance,
    DestroyGuest,
    DestroyOrphan,
    Note,
    RemoveEnvironment,
    RemoveInstance,
    ShutDownGuest,
    StartGuest,
)
from vmorch.planner.plan import plan
from vmorch.planner.running import BURST_SECONDS
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

NOW = 1000.0


def web(**changes: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": "web", "image": "sha256:1", "cpus": 0.5, **changes})


def instance(ordinal: int = 1, **changes: Any) -> Instance:
    values = {
        "environment": "shop",
        "service": "web",
        "ordinal": ordinal,
        "revision": 1,
        "uuid": f"00000000-0000-4000-8000-{ordinal:012d}",
        "mac": "52:54:00:00:00:01",
        "inner_address": f"10.0.0.{63 + ordinal}",
        "outer_address": f"10.1.0.{63 + ordinal}",
        "goal": Goal.RUN,
        "state": State.PENDING,
        "reason": "",
        "created_at": NOW - 100,
    }
    return Instance(**{**values, **changes})


def view(spec: ServiceSpec | None = None, **changes: Any) -> InstanceView:
    seen = {
        name: changes.pop(name)
        for name in (
            "guest",
            "healthy",
            "health_message",
            "admitted",
            "sessions",
            "busy",
            "end",
            "ended_by_itself",
            "cloud_init_failed",
        )
        if name in changes
    }
    return InstanceView(instance=instance(**changes), spec=spec or web(), **seen)


def ready(ordinal: int = 1, **changes: Any) -> InstanceView:
    values = {
        "state": State.READY,
        "guest": GuestState.RUNNING,
        "healthy": True,
        "capped": True,
        "admitted": True,
        "boot": 1,
        "started_at": NOW - 50,
        "ready_at": NOW - 40,
    }
    return view(ordinal=ordinal, **{**values, **changes})


def environment(*views: InstanceView, **changes: Any) -> EnvironmentView:
    values: dict[str, Any] = {
        "name": "shop",
        "removing": False,
        "services": {"web": web()},
        "current": {"web": 1},
        "instances": views,
        "network_ready": True,
        "in_proxy": True,
    }
    return EnvironmentView(**{**values, **changes})


def planned(*environments: EnvironmentView, **changes: Any) -> list[Any]:
    return list(plan(Snapshot(environments=environments, **changes), NOW).actions)


def test_a_new_environment_gets_its_missing_instances() -> None:
    actions = planned(environment(services={"web": web(replicas=3)}))
    assert [type(a) for a in actions] == [CreateInstance] * 3
    assert {a.revision for a in actions} == {1}


def test_nothing_is_planned_for_what_is_as_it_should_be() -> None:
    assert planned(environment(ready())) == []


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (view(), StartGuest),
        (view(state=State.STARTING, boot=3), StartGuest),
        (view(state=State.STARTING, boot=3, guest=GuestState.PAUSED), DestroyGuest),
        (view(state=State.STARTING, boot=1, guest=GuestState.RUNNING), Note),
        (ready(state=State.RUNNING, ready_at=None, capped=False), CapGuest),
        (ready(state=State.RUNNING, ready_at=None), Note),
        (ready(healthy=False, health_message="HTTP 500"), Note),
        (ready(guest=None, end="it powered itself off"), Note),
        (view(guest=GuestState.CRASHED), DestroyGuest),
        (ready(goal=Goal.REMOVE), Note),
        (ready(goal=Goal.REMOVE, state=State.DRAINING, admitted=False), ShutDownGuest),
        (ready(goal=Goal.REMOVE, state=State.STOPPING, deadline=NOW - 1), DestroyGuest),
        (view(goal=Goal.REMOVE, state=State.STOPPING, guest=GuestState.OFF), DestroyGuest),
        (view(goal=Goal.REMOVE, state=State.STOPPING), RemoveInstance),
    ],
)
def test_what_follows_from_what_is_seen(seen: InstanceView, kind: type) -> None:
    service = {"web": web(replicas=1 if seen.wanted else 0)}
    assert [type(a) for a in planned(environment(seen, services=service))] == [kind]


def test_an_interrupted_start_is_repeated_as_the_same_boot() -> None:
    (again,) = planned(environment(view(state=State.STARTING, boot=3)))
    assert again.boot == 3
    (fresh,) = planned(environment(view(state=State.PENDING, boot=3)))
    assert fresh.boot == 4


def test_a_busy_instance_is_left_alone_even_when_it_should_go() -> None:
    assert planned(environment(ready(busy=True, guest=None))) == []
    assert planned(environment(ready(busy=True), removing=True)) == []


def test_the_cap_comes_before_readiness() -> None:
    """Traffic must never meet an instance that still runs in its boot burst."""
    seen = ready(state=State.RUNNING, ready_at=None, capped=False)
    assert [type(a) for a in planned(environment(seen))] == [CapGuest]


@pytest.mark.parametrize(("age", "capped"), [(-1.0, False), (1.0, True)])
def test_the_boot_burst_ends_though_the_service_never_gets_ready(age: float, capped: bool) -> None:
    started = NOW - BURST_SECONDS * 10 - age
    seen = ready(state=State.RUNNING, healthy=None, ready_at=None, capped=False, started_at=started)
    actions = planned(environment(seen), time_scale=10.0)
    assert [type(a) for a in actions] == ([CapGuest] if capped else [])


def test_a_death_is_followed_by_a_back_off_that_doubles() -> None:
    waits = []
    for failures in range(8):
        (note,) = planned(environment(ready(guest=None, failures=failures)))
        assert note.kind is EventKind.INSTANCE_DIED
        assert note.instance.state is State.PENDING
        waits.append(note.instance.not_before - NOW)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_restart_waits_for_its_back_off_and_says_when_to_look_again() -> None:
    snapshot = Snapshot(environments=(environment(view(boot=1, not_before=NOW + 7)),))
    result = plan(snapshot, NOW)
    assert (result.actions, result.wake_at) == ((), NOW + 7)
    assert [type(a) for a in plan(snapshot, NOW + 7).actions] == [StartGuest]


@pytest.mark.parametrize(
    ("policy", "end", "state"),
    [
        (RestartPolicy(condition=RestartCondition.NONE), "QEMU died", State.FAILED),
        (
            RestartPolicy(condition=RestartCondition.ON_FAILURE),
            "it powered itself off",
            State.STOPPED,
        ),
        (RestartPolicy(condition=RestartCondition.ON_FAILURE), "QEMU died", State.PENDING),
        (RestartPolicy(max_attempts=0), "QEMU died", State.FAILED),
        (RestartPolicy(max_attempts=1), "QEMU died", State.PENDING),
    ],
)
def test_the_restart_policy_decides_after_a_death(
    policy: RestartPolicy, end: str, state: State
) -> None:
    spec = web(restart=policy)
    (note,) = planned(
        environment(
            ready(guest=None, end=end, ended_by_itself="itself" in end, spec=spec),
            services={"web": spec},
        )
    )
    assert note.instance.state is state
    assert end in note.instance.reason
    assert note.instance.exit_code == (0 if state is State.STOPPED else None)


def test_cold_boots_are_bounded() -> None:
    views = [view(ordinal=n) for n in range(1, 5)]
    actions = planned(environment(*views, services={"web": web(replicas=4)}), boots_at_once=2)
    assert [type(a) for a in actions] == [StartGuest, StartGuest, Note, Note]
    assert "boot slots" in actions[2].reason


def test_a_booting_instance_takes_a_slot_until_it_is_ready() -> None:
    booting = view(state=State.RUNNING, guest=GuestState.RUNNING, started_at=NOW - 1)
    actions = planned(
        environment(booting, view(ordinal=2), services={"web": web(replicas=2)}), boots_at_once=1
    )
    assert [type(a) for a in actions] == [Note]


def test_the_start_waits_for_the_network() -> None:
    (note,) = planned(environment(view(), network_ready=False))
    assert "network" in note.reason


@pytest.mark.parametrize(
    ("condition", "db", "starts"),
    [
        (DependencyCondition.STARTED, State.PENDING, False),
        (DependencyCondition.STARTED, State.RUNNING, True),
        (DependencyCondition.HEALTHY, State.RUNNING, False),
        (DependencyCondition.HEALTHY, State.READY, True),
    ],
)
def test_the_start_waits_for_what_it_depends_on(
    condition: DependencyCondition, db: State, starts: bool
) -> None:
    services = {"web": web(depends_on={"db": condition}), "db": web(name="db")}
    other = ready(service="db", state=db, busy=True)
    actions = planned(
        environment(
            view(spec=services["web"]), other, services=services, current={"web": 1, "db": 1}
        )
    )
    assert [type(a) for a in actions] == [StartGuest if starts else Note]


def test_scaling_down_dismisses_the_unready_and_the_youngest_first() -> None:
    views = [ready(1), ready(2), ready(3, state=State.RUNNING, busy=False, healthy=None)]
    for replicas, gone in [(2, {3}), (1, {3, 2}), (0, {1, 2, 3})]:
        actions = planned(environment(*views, services={"web": web(replicas=replicas)}))
        assert {a.instance.ordinal for a in actions if a.instance.goal is Goal.REMOVE} == gone


def test_an_old_revision_goes_only_as_the_new_one_gets_ready() -> None:
    services = {"web": web(replicas=2)}
    old = [ready(1), ready(2)]

    def dismissed(*new: InstanceView) -> int:
        env = environment(*old, *new, services=services, current={"web": 2})
        return sum(isinstance(a, Note) and a.instance.goal is Goal.REMOVE for a in planned(env))

    booting = view(ordinal=3, revision=2, state=State.RUNNING, guest=GuestState.RUNNING)
    assert dismissed() == 0
    assert dismissed(booting) == 0
    assert dismissed(ready(3, revision=2), view(ordinal=4, revision=2)) == 1
    assert dismissed(ready(3, revision=2), ready(4, revision=2)) == 2


def test_a_drain_waits_for_sessions_but_not_for_ever() -> None:
    gone = {"goal": Goal.REMOVE, "state": State.DRAINING, "deadline": NOW + 5}
    none = {"web": web(replicas=0)}
    for admitted, sessions in [(True, 0), (False, 2)]:
        seen = ready(admitted=admitted, sessions=sessions, **gone)
        assert planned(environment(seen, services=none)) == []
        late = replace(seen, instance=replace(seen.instance, deadline=NOW))
        assert [type(a) for a in planned(environment(late, services=none))] == [ShutDownGuest]


def test_an_environment_goes_last() -> None:
    assert planned(environment(removing=True)) == []  # the proxy still listens for it
    (action,) = planned(environment(removing=True, in_proxy=False))
    assert isinstance(action, RemoveEnvironment)
    assert planned(environment(ready(busy=True), removing=True, in_proxy=False)) == []


def test_orphans_are_ended() -> None:
    assert planned(orphans=("abc-shop-web-9",)) == [
        DestroyOrphan(domain="abc-shop-web-9", reason="its instance is gone")
    ]


# What must never happen, whatever is seen

states = st.sampled_from(State)
maybe_guest = st.none() | st.sampled_from(GuestState)


@st.composite
def any_view(draw: st.DrawFn, ordinal: int) -> InstanceView:
    return view(
        ordinal=ordinal,
        state=draw(states),
        goal=draw(st.sampled_from(Goal)),
        revision=draw(st.integers(1, 2)),
        boot=draw(st.integers(0, 3)),
        guest=draw(maybe_guest),
        healthy=draw(st.none() | st.booleans()),
        busy=draw(st.booleans()),
        capped=draw(st.booleans()),
        admitted=draw(st.booleans()),
        sessions=draw(st.integers(0, 2)),
        started_at=draw(st.none() | st.floats(0, NOW)),
        ready_at=draw(st.none() | st.floats(0, NOW)),
        not_before=draw(st.none() | st.floats(NOW - 10, NOW + 10)),
        deadline=draw(st.none() | st.floats(NOW - 10, NOW + 10)),
        failures=draw(st.integers(0, 5)),
    )


ordinals = st.lists(st.integers(1, 5), unique=True).map(tuple)
configs = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 3),
    delay_seconds=st.floats(0, 30),
    failure_action=st.sampled_from(FailureAction),
    monitor_seconds=st.floats(0, 30),
    max_failure_ratio=st.sampled_from((0.0, 0.5)),
)


def any_rollout() -> st.SearchStrategy[Rollout]:
    return st.builds(
        Rollout,
        environment=st.just("shop"),
        service=st.just("web"),
        number=st.just(2),
        revision=st.just(2),
        previous=st.none() | st.just(1),
        started_at=st.just(NOW - 50),
        phase=st.sampled_from(Phase),
        rollback=st.booleans(),
        canary=st.none() | st.integers(1, 99),
        passed=ordinals,
        passed_at=st.none() | st.floats(NOW - 40, NOW),
        failed=ordinals,
    )


IDLING = AutoscaleSpec(min=0, max=4, idle_seconds=60.0)


def test_a_canary_too_many_stays_while_the_others_are_not_there() -> None:
    """Scaled in meanwhile: it carries the load just now."""
    canaries = [ready(n, revision=2) for n in (3, 4)]
    old = [view(ordinal=n, state=State.PENDING, not_before=NOW + 5) for n in (1, 2)]
    rollout = Rollout(
        environment="shop",
        service="web",
        number=2,
        revision=2,
        previous=1,
        started_at=NOW - 50,
        phase=Phase.RUNNING,
        canary=20,
        passed=(3, 4),
    )
    shop = {"services": {"web": web(replicas=2)}, "current": {"web": 2}}

    def dismissed(*views: InstanceView) -> list[str]:
        actions = planned(environment(*views, rollouts={"web": rollout}, **shop))
        notes = [a.instance for a in actions if isinstance(a, Note)]
        return [i.name for i in notes if i.goal is Goal.REMOVE]

    assert dismissed(*canaries, *old) == []
    assert dismissed(*canaries, ready(1), ready(2)) == ["web-4"]


@st.composite
def any_environment(draw: st.DrawFn) -> EnvironmentView:
    count = draw(st.integers(0, 5))
    return environment(
        *(draw(any_view(n)) for n in range(1, count + 1)),
        services={
            "web": web(
                replicas=draw(st.integers(0, 4)),
                update=draw(configs),
                autoscale=draw(st.none() | st.just(IDLING)),
            )
        },
        current={"web": 2},
        rollouts=draw(st.just({}) | any_rollout().map(lambda rollout: {"web": rollout})),
        removing=draw(st.booleans()),
        network_ready=draw(st.booleans()),
        in_proxy=draw(st.booleans()),
    )


@settings(max_examples=300, deadline=None)
@given(env=any_environment(), slots=st.integers(0, 3))
def test_what_must_never_happen(env: EnvironmentView, slots: int) -> None:
    snapshot = Snapshot(environments=(env,), boots_at_once=slots)
    result = plan(snapshot, NOW)
    assert result == plan(snapshot, NOW)
    silent = [a for a in result.actions if not a.reason]
    assert all(isinstance(a, Note | RemoveInstance) for a in silent)  # they pass a reason on
    views = {v.instance.key: v for v in env.instances}
    starts = 0
    for action in result.actions:
        if not isinstance(action, ABOUT_ONE_INSTANCE):
            continue
        seen = views[action.instance.key]
        assert not seen.busy
        if isinstance(action, StartGuest):
            assert seen.wanted
            assert seen.guest not in {GuestState.RUNNING, GuestState.PAUSED}
            starts += seen.instance.state is State.PENDING
        if isinstance(action, RemoveInstance):
            assert seen.guest is None
            assert not seen.wanted
        if isinstance(action, Note) and action.kind is EventKind.INSTANCE_READY:
            assert seen.instance.capped
    assert starts <= max(0, slots)
    lost = [
        a
        for a in result.actions
        if isinstance(a, Note)
        and a.instance.goal is Goal.REMOVE
        and views[a.instance.key].wanted
        and views[a.instance.key].instance.state is State.READY
    ]
    if not env.removing and lost:
        left = sum(v.wanted and v.instance.state is State.READY for v in env.instances) - len(lost)
        wanted = env.services["web"].replicas  # start-first: none is ever missing because of us
        before = sum(v.wanted and v.instance.state is State.READY for v in env.instances)
        assert left >= min(wanted, before)


@settings(max_examples=100, deadline=None)
@given(env=any_environment())
def test_a_wake_time_lies_ahead(env: EnvironmentView) -> None:
    result = plan(Snapshot(environments=(env,)), NOW)
    assert result.wake_at is None or result.wake_at > NOW
