"""Stop, pause and start again; jobs; guests that are given up; what a down waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import (
    DependencyCondition,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    StartMode,
    VolumeMount,
)
from vmorch.planner.actions import (
    CreateInstance,
    DestroyGuest,
    Note,
    RemoveInstance,
    ResumeGuest,
    ShutDownGuest,
    SleepGuest,
    StartGuest,
    SuspendGuest,
    WakeGuest,
)
from vmorch.planner.faults import FLAT_CPUS, HUNG_SECONDS, UNHEALTHY_SECONDS
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Pulse, Snapshot

NOW = 1000.0
RUNNING, PAUSED = GuestState.RUNNING, GuestState.PAUSED
SEEN = InstanceView.__slots__


def view(
    service: str = "web", goal: Goal = Goal.RUN, state: State = State.READY, **changes: Any
) -> InstanceView:
    """A ready instance, but for what is said otherwise."""
    seen = {name: changes.pop(name) for name in SEEN if name in changes}
    values = {
        "environment": "shop",
        "service": service,
        "ordinal": 1,
        "revision": 1,
        "uuid": "",
        "mac": "",
        "inner_address": "",
        "outer_address": "",
        "goal": goal,
        "state": state,
        "reason": "",
        "created_at": 0.0,
        "boot": 1,
        "started_at": NOW - 50,
        "ready_at": NOW - 40,
        "capped": True,
    }
    spec = seen.pop("spec", ServiceSpec(name=service, image="sha256:1"))
    told = {"guest": RUNNING, "healthy": True, **seen}
    return InstanceView(instance=Instance(**{**values, **changes}), spec=spec, **told)


def planned(*views: InstanceView, time_scale: float = 1.0, removing: bool = False) -> list[Any]:
    environment = EnvironmentView(
        name="shop",
        removing=removing,
        services={v.instance.service: v.spec for v in views},
        current={v.instance.service: 1 for v in views},
        instances=views,
        network_ready=True,
        in_proxy=True,
    )
    snapshot = Snapshot(environments=(environment,), time_scale=time_scale)
    return list(plan(snapshot, NOW).actions)


STOPPING = {"state": State.STOPPING, "deadline": NOW - 1}
SAVING = {"state": State.STOPPING, "saving": True, "deadline": NOW + 1}
WAKING = {"state": State.STARTING, "start": StartMode.RESUME}
ASLEEP = {"state": State.SLEEPING, "guest": None}
WITH_VOLUME = ServiceSpec(
    name="web", image="sha256:1", volumes=(VolumeMount(source="data", target="/srv"),)
)


@pytest.mark.parametrize(
    ("seen", "kind", "state"),
    [
        # stop: out of the proxy, asked, forced, at rest
        (view(goal=Goal.STOP), Note, State.DRAINING),
        (view(goal=Goal.STOP, state=State.DRAINING), ShutDownGuest, State.DRAINING),
        (view(goal=Goal.STOP, **STOPPING), DestroyGuest, State.STOPPING),
        (view(goal=Goal.STOP, guest=GuestState.OFF, **STOPPING), DestroyGuest, State.STOPPING),
        (view(goal=Goal.STOP, guest=None, **STOPPING), Note, State.STOPPED),
        (view(goal=Goal.STOP, guest=None, state=State.PENDING), Note, State.STOPPED),
        # a guest that stands still cannot shut down
        (view(goal=Goal.STOP, state=State.PAUSED, guest=PAUSED), ResumeGuest, State.PAUSED),
        (view(goal=Goal.REMOVE, state=State.PAUSED, guest=PAUSED), ResumeGuest, State.PAUSED),
        (view(goal=Goal.STOP, state=State.STARTING, guest=PAUSED), DestroyGuest, State.STARTING),
        # pause
        (view(goal=Goal.PAUSE), Note, State.DRAINING),
        (view(goal=Goal.PAUSE, state=State.DRAINING), SuspendGuest, State.DRAINING),
        (view(goal=Goal.PAUSE, state=State.DRAINING, guest=PAUSED), Note, State.PAUSED),
        (view(goal=Goal.PAUSE, state=State.STARTING, guest=PAUSED), DestroyGuest, State.STARTING),
        (view(goal=Goal.PAUSE, state=State.PAUSED), SuspendGuest, State.PAUSED),
        (view(goal=Goal.PAUSE, state=State.PAUSED, guest=None), Note, State.STOPPED),
        # sleep: out of the proxy, which then lets go whole; then the memory
        (view(goal=Goal.SLEEP), Note, State.DRAINING),
        (view(goal=Goal.SLEEP, state=State.PAUSED, guest=PAUSED), Note, State.DRAINING),
        (view(goal=Goal.SLEEP, state=State.DRAINING), Note, State.STOPPING),
        (view(goal=Goal.SLEEP, **SAVING), SleepGuest, State.STOPPING),
        (view(goal=Goal.SLEEP, guest=None, **SAVING), SleepGuest, State.STOPPING),
        (view(goal=Goal.SLEEP, **STOPPING), DestroyGuest, State.STOPPING),
        (view(goal=Goal.SLEEP, guest=None, state=State.PENDING), Note, State.STOPPED),
        (view(goal=Goal.SLEEP, guest=GuestState.CRASHED, **SAVING), DestroyGuest, State.STOPPING),
        # what was begun is finished first, whatever is wanted by then
        (view(guest=None, **SAVING), SleepGuest, State.STOPPING),
        (view(goal=Goal.STOP, **SAVING), SleepGuest, State.STOPPING),
        (view(goal=Goal.REMOVE, guest=PAUSED, **SAVING), SleepGuest, State.STOPPING),
        (view(guest=PAUSED, **WAKING), WakeGuest, State.STARTING),
        (view(goal=Goal.SLEEP, **WAKING), WakeGuest, State.STARTING),
        (view(goal=Goal.REMOVE, guest=None, **WAKING), WakeGuest, State.STARTING),
        (view(guest=GuestState.CRASHED, **WAKING), DestroyGuest, State.STARTING),
        # woken, also to end well where something would be lost
        (view(**ASLEEP), WakeGuest, State.SLEEPING),
        (view(goal=Goal.STOP, **ASLEEP), WakeGuest, State.SLEEPING),
        (view(goal=Goal.REMOVE, spec=WITH_VOLUME, **ASLEEP), WakeGuest, State.SLEEPING),
        (view(goal=Goal.REMOVE, **ASLEEP), RemoveInstance, State.SLEEPING),
        # and back
        (view(state=State.STOPPED, guest=None), Note, State.PENDING),
        (view(state=State.FAILED, guest=None), Note, State.PENDING),
        (view(state=State.STOPPING, guest=None), Note, State.PENDING),
        (view(state=State.DRAINING), Note, State.RUNNING),
        (view(state=State.PAUSED, guest=PAUSED), ResumeGuest, State.PAUSED),
        (view(guest=PAUSED), ResumeGuest, State.READY),
    ],
)
def test_the_way_to_a_goal(seen: InstanceView, kind: type, state: State) -> None:
    (action,) = [a for a in planned(seen) if not isinstance(a, CreateInstance)]
    assert type(action) is kind
    assert action.instance.state is state


@pytest.mark.parametrize(
    "seen",
    [
        view(goal=Goal.STOP, state=State.STOPPED, guest=None),
        view(goal=Goal.STOP, state=State.FAILED, guest=None),
        view(goal=Goal.PAUSE, state=State.PAUSED, guest=PAUSED),
        view(goal=Goal.SLEEP, **ASLEEP),
        view(goal=Goal.PAUSE, **ASLEEP),
        view(goal=Goal.SLEEP, state=State.STOPPED, guest=None),
    ],
)
def test_what_rests_rests_and_counts_as_a_replica(seen: InstanceView) -> None:
    assert planned(seen) == []


def test_a_pause_waits_for_the_proxy_and_a_start_after_a_stop_is_no_failure() -> None:
    draining = view(goal=Goal.PAUSE, state=State.DRAINING, admitted=True, deadline=NOW + 5)
    assert planned(draining) == []
    (note,) = planned(view(state=State.STOPPING, guest=None, failures=3, not_before=NOW + 50))
    assert (note.instance.failures, note.instance.not_before) == (0, None)


@pytest.mark.parametrize(
    "seen",
    [
        view(goal=Goal.SLEEP, state=State.DRAINING, sessions=1, deadline=NOW + 5),
        view(goal=Goal.SLEEP, routed=True, **SAVING),
    ],
)
def test_sleep_waits_for_the_proxy(seen: InstanceView) -> None:
    assert planned(seen) == []
    (action,) = planned(replace(seen, instance=replace(seen.instance, deadline=NOW)))
    assert isinstance(action, Note | SleepGuest)


def test_a_waking_waits_for_what_it_depends_on_and_for_a_slot() -> None:
    spec = ServiceSpec(name="web", image="sha256:1", depends_on={"db": DependencyCondition.HEALTHY})
    db, web = view("db", **ASLEEP), view(spec=spec, **ASLEEP)
    wake, note = planned(db, web)
    assert isinstance(wake, WakeGuest)
    assert (note.instance.state, "waiting for 'db'" in note.reason) == (State.SLEEPING, True)
    assert planned(db, replace(web, instance=note.instance)) == [wake]
    three = planned(view("a", **ASLEEP), view("b", **ASLEEP), view("c", **ASLEEP))
    assert [type(action) for action in three] == [WakeGuest, WakeGuest, Note]


@pytest.mark.parametrize(
    ("goal", "state"), [(Goal.STOP, State.STOPPED), (Goal.SLEEP, State.SLEEPING)]
)
def test_a_scale_down_takes_an_instance_that_rests_first(goal: Goal, state: State) -> None:
    stopped = view(goal=goal, state=state, guest=None, ordinal=1)
    (note,) = planned(view(ordinal=2), stopped)
    assert (note.instance.ordinal, note.instance.goal) == (1, Goal.REMOVE)


def job(condition: RestartCondition) -> ServiceSpec:
    return ServiceSpec(name="job", image="sha256:1", restart=RestartPolicy(condition=condition))


@pytest.mark.parametrize("condition", [RestartCondition.NONE, RestartCondition.ON_FAILURE])
def test_a_job_that_is_done_is_completed_and_shut_down(condition: RestartCondition) -> None:
    seen = view("job", spec=job(condition))
    seen = replace(seen, service="exited", exit_code=0)
    (note,) = planned(seen)
    assert note.kind is EventKind.INSTANCE_COMPLETED
    assert note.decides_goal
    assert (note.instance.goal, note.instance.exit_code) == (Goal.STOP, 0)
    for state, guest in [(State.READY, RUNNING), (State.STOPPING, None)]:
        (then,) = planned(replace(seen, instance=replace(note.instance, state=state), guest=guest))
        assert then.instance.reason == "completed (exit code 0)"
    assert then.instance.state is State.STOPPED


@pytest.mark.parametrize(
    ("condition", "state"),
    [(RestartCondition.NONE, State.FAILED), (RestartCondition.ON_FAILURE, State.PENDING)],
)
def test_a_job_that_failed_ends_its_guest_and_then_as_its_policy_says(
    condition: RestartCondition, state: State
) -> None:
    seen = replace(view("job", spec=job(condition)), service="failed", exit_code=3)
    (shutdown,) = planned(seen)
    assert isinstance(shutdown, ShutDownGuest)
    assert "exit code 3" in shutdown.instance.fault
    gone = replace(seen, guest=None, instance=replace(shutdown.instance, state=State.STOPPING))
    (note,) = planned(gone)
    assert note.instance.state is state
    assert "exit code 3" in note.instance.reason
    assert note.decides_goal == (state is State.FAILED)
    assert note.instance.fault == ""


@pytest.mark.parametrize(
    ("db", "starts"),
    [
        ({"goal": Goal.STOP, "state": State.STOPPED, "guest": None, "exit_code": 0}, True),
        ({"goal": Goal.STOP, "state": State.FAILED, "guest": None, "exit_code": 1}, False),
        ({"goal": Goal.STOP, "state": State.STOPPED, "guest": None}, False),
        ({}, False),
    ],
)
def test_a_start_waits_for_what_must_be_completed_first(db: dict[str, Any], starts: bool) -> None:
    needs = {"db": DependencyCondition.COMPLETED}
    spec = ServiceSpec(name="web", image="sha256:1", depends_on=needs)
    other = view("db", **{k: v for k, v in db.items() if k != "exit_code"})
    other = replace(other, instance=replace(other.instance, exit_code=db.get("exit_code")))
    (action,) = planned(view(state=State.PENDING, guest=None, spec=spec), other)
    assert isinstance(action, StartGuest) is starts


def test_what_others_need_goes_after_them() -> None:
    spec = ServiceSpec(name="web", image="sha256:1", depends_on={"db": DependencyCondition.STARTED})
    db = view("db", goal=Goal.REMOVE)
    for web in (
        view(goal=Goal.REMOVE, spec=spec),
        view(goal=Goal.REMOVE, spec=spec, busy=True),
        view(goal=Goal.STOP, state=State.STOPPING, spec=spec),
    ):
        acted = {a.instance.service for a in planned(db, web) if hasattr(a, "instance")}
        assert "db" not in acted
    stays = view(spec=spec)
    assert any(isinstance(a, Note) and a.instance.service == "db" for a in planned(db, stays))
    gone = view(goal=Goal.REMOVE, spec=spec, guest=None)
    kinds = {type(a) for a in planned(db, gone)} - {CreateInstance}
    assert kinds == {Note, RemoveInstance}


@pytest.mark.parametrize(
    ("pulse", "scale", "given_up"),
    [
        (Pulse(silent_seconds=HUNG_SECONDS, cpus=0.0), 10.0, True),
        (Pulse(silent_seconds=HUNG_SECONDS - 1, cpus=0.0), 1.0, False),
        (Pulse(silent_seconds=HUNG_SECONDS, cpus=1.0), 1.0, True),
        (Pulse(silent_seconds=HUNG_SECONDS, cpus=1.0), 10.0, False),
        (Pulse(silent_seconds=HUNG_SECONDS * 10, cpus=1.0), 10.0, True),
        (Pulse(silent_seconds=HUNG_SECONDS, cpus=FLAT_CPUS * 2), 10.0, False),
        (None, 1.0, False),
    ],
)
def test_patience_with_a_silent_guest(pulse: Pulse | None, scale: float, given_up: bool) -> None:
    actions = planned(view(pulse=pulse), time_scale=scale)
    assert bool(actions) is given_up
    if given_up:
        (note,) = actions
        assert note.instance.fault.startswith("hung")
        (destroy,) = planned(replace(view(), instance=note.instance))
        assert isinstance(destroy, DestroyGuest)
        (died,) = planned(replace(view(guest=None), instance=note.instance))
        assert died.instance.state is State.PENDING
        assert died.instance.reason.startswith("hung")
        assert died.instance.failures == 1


@pytest.mark.parametrize(
    ("since", "changes", "given_up"),
    [
        (UNHEALTHY_SECONDS, {}, True),
        (UNHEALTHY_SECONDS - 1, {}, False),
        (UNHEALTHY_SECONDS, {"ready_at": None}, False),
        (UNHEALTHY_SECONDS, {"spec": job(RestartCondition.NONE)}, False),
    ],
)
def test_patience_with_an_unhealthy_instance(
    since: float, changes: dict[str, Any], given_up: bool
) -> None:
    seen = view(state=State.RUNNING, healthy=False, unhealthy_since=NOW - since, **changes)
    actions = planned(seen)
    assert any(isinstance(action, ShutDownGuest) for action in actions) is given_up


def test_memory_that_ran_out_is_told_once_and_stays_readable() -> None:
    mishap = "out of memory: the guest's kernel killed 'serve'"
    (note,) = planned(view(mishap=mishap))
    assert (note.kind, note.instance.reason) == (EventKind.OUT_OF_MEMORY, mishap)
    assert planned(view(mishap=mishap, reason=mishap)) == []
    (ready,) = planned(view(state=State.RUNNING, mishap=mishap, reason=mishap))
    assert (ready.instance.state, ready.instance.reason) == (State.READY, mishap)


def test_a_guest_whose_disk_is_full_is_resumed_now_and_then_only() -> None:
    words = "its disk failed (is the host's disk full?)"
    seen = view(guest=PAUSED, end=words)
    (resume,) = planned(seen)
    again = replace(seen.instance, not_before=resume.not_before, state=State.RUNNING)
    (note,) = planned(replace(seen, instance=again))
    assert note.instance.reason == words
    assert planned(replace(seen, instance=note.instance)) == []
