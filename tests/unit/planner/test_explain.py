"""Why things are as they are: each state in words, and the numbers in them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.event import Event, EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.rollout import Phase, Rollout, UpdateConfig
from vmorch.model.spec import (
    DependencyCondition,
    HealthCheck,
    HealthKind,
    RestartPolicy,
    ServiceSpec,
    StartMode,
)
from vmorch.planner.actions import StartGuest
from vmorch.planner.explain import Explanation, explain_gone, explain_instance, explain_service
from vmorch.planner.look import Look, UnderWay
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

NOW = 1000.0
HTTP = HealthCheck(kind=HealthKind.HTTP, argument=("/healthz",), interval_seconds=2.0, retries=3)
SEEN = {field.name for field in fields(InstanceView)} - {"instance", "spec", "exit_code"}


def service(name: str = "web", **changes: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": name, "image": "sha256:1", "cpus": 0.5, **changes})


def view(spec: ServiceSpec, ordinal: int = 1, **changes: Any) -> InstanceView:
    seen = {name: changes.pop(name) for name in SEEN & changes.keys()}
    values = {
        "environment": "shop",
        "service": spec.name,
        "ordinal": ordinal,
        "revision": 1,
        "uuid": f"{spec.name}-{ordinal}",
        "mac": "52:54:00:00:00:01",
        "inner_address": f"10.0.0.{63 + ordinal}",
        "outer_address": f"10.1.0.{63 + ordinal}",
        "goal": Goal.RUN,
        "state": State.PENDING,
        "reason": "",
        "created_at": NOW - 100,
        **changes,
    }
    return InstanceView(instance=Instance(**values), spec=spec, **seen)


def running(spec: ServiceSpec, ordinal: int = 1, **changes: Any) -> InstanceView:
    values = {"state": State.RUNNING, "guest": GuestState.RUNNING, "boot": 1}
    return view(spec, ordinal, **{**values, "started_at": NOW - 4, **changes})


def ready(spec: ServiceSpec, ordinal: int = 1, **changes: Any) -> InstanceView:
    values = {"state": State.READY, "capped": True, "healthy": True, "ready_at": NOW - 40}
    values |= {"health_message": "HTTP 200 OK", "admitted": True, "started_at": NOW - 50}
    return running(spec, ordinal, **{**values, **changes})


def environment(*views: InstanceView, **changes: Any) -> EnvironmentView:
    specs = {v.spec.name: v.spec for v in views}
    values: dict[str, Any] = {
        "name": "shop",
        "removing": False,
        "services": specs,
        "current": dict.fromkeys(specs, 1),
        "instances": views,
        "network_ready": True,
        "in_proxy": True,
        **changes,
    }
    return EnvironmentView(**values)


def event(kind: EventKind, message: str, *, ago: float, instance: str = "") -> Event:
    return Event(
        id=1,
        time=NOW - ago,
        environment="shop",
        service="web",
        instance=instance,
        kind=kind,
        message=message,
    )


def why(name: str, shop: EnvironmentView, *events: Event, **changes: Any) -> Explanation:
    keys = ("under_way", "autoscaling", "trouble", "at")
    look = {key: changes.pop(key) for key in keys if key in changes}
    snapshot = Snapshot(environments=(shop,), **changes)
    seen = Look(**{"snapshot": snapshot, "at": NOW, **look})
    for one in shop.instances:
        if one.instance.name == name:
            return explain_instance(seen, shop, one, events, NOW)
    return explain_service(seen, shop, name, events, NOW)


def steps(found: Explanation) -> list[tuple[float, str, str]]:
    return [(step.at - NOW, step.what, step.reason) for step in found.steps]


def test_waiting_for_a_dependency_tells_how_much_of_it_is_there() -> None:
    needs = {"db": DependencyCondition.HEALTHY}
    db = service("db", replicas=2)
    sick = running(db, 1, health_message="HTTP 503", reason="HTTP 503")
    found = why("web-1", environment(view(service(depends_on=needs)), sick, ready(db, 2)))
    assert found.summary == "web-1 is pending for 1 min 40 s"
    assert found.waits == (
        "waiting for 'db' (service_healthy): 1 of 2 ready; db-1 is running for 4 s: HTTP 503",
    )
    assert found.steps == ()


def test_of_several_dependencies_all_unmet_ones_are_told() -> None:
    needs = {
        "db": DependencyCondition.STARTED,
        "setup": DependencyCondition.COMPLETED,
        "there": DependencyCondition.STARTED,
    }
    job = running(service("setup"), started_at=NOW - 30)
    shop = environment(view(service(depends_on=needs)), job, ready(service("there")))
    assert why("web-1", shop).waits == (
        "waiting for 'db' (service_started): it has no instance yet",
        "waiting for 'setup' (service_completed_successfully): 0 of 1 completed; "
        "setup-1 is running for 30 s",
    )


def test_waiting_for_memory_gives_the_planners_own_arithmetic() -> None:
    """What the planner says of room that is missing is passed on as it is."""
    lacking = "waiting for the environment's network: needs 600 MiB, 310 MiB are free"
    trouble = lacking.partition(": ")[2]
    shop = environment(view(service()), network_ready=False, network_trouble=trouble)
    assert why("web-1", shop).waits == (lacking,)
    # What comes after it is no secret.
    needy = view(service(depends_on={"db": DependencyCondition.STARTED}))
    shop = environment(needy, network_ready=False, network_trouble=trouble)
    assert why("web-1", shop).waits == (
        lacking,
        "waiting for 'db' (service_started): it has no instance yet",
    )


def test_waiting_for_a_boot_slot_tells_who_has_them() -> None:
    web = service(replicas=3)
    first = running(web, 1)
    second = view(web, 2, state=State.STARTING, guest=None, boot=1, busy=True, reason="forks")
    third = view(web, 3, created_at=NOW - 7)
    assert why("web-3", environment(first, second, third)).waits == (
        "waiting for one of 2 boot slots: web-1 is running for 4 s; web-2 is starting: forks",
    )


def test_what_waits_for_nothing_is_started_next() -> None:
    found = why("web-1", environment(view(service()), warm=frozenset({("web", 1)})))
    assert found.waits == ()
    assert steps(found) == [
        (0, "its guest is forked from a warm snapshot (boot 1)", "a new instance")
    ]


def test_waiting_for_health_tells_the_last_answer_how_long_and_how_many() -> None:
    web = service(healthcheck=HTTP)
    sick = running(web, started_at=NOW - 12, health_message="HTTP 503", failed_checks=2)
    found = why("web-1", environment(sick))
    assert found.summary == "web-1 is running for 12 s: HTTP 503"
    assert found.waits == (
        "its health check (HTTP /healthz, every 2 s) has not succeeded for 12 s; "
        "its last answer: HTTP 503",
        "2 checks in a row failed, 3 make it unhealthy",
    )
    # Without KVM all that a guest may take is ten times as long.
    assert steps(found) == [(18, "its boot burst ends in its cap of 0.5 CPUs", BURST)]
    assert steps(why("web-1", environment(sick), time_scale=10.0))[0][0] == 288


BURST = "the boot burst is over"


def test_a_start_period_is_told_until_failures_count() -> None:
    check = HealthCheck(kind=HealthKind.TCP, start_period_seconds=15.0)
    young = running(service(healthcheck=check), health_message="booting")
    assert why("web-1", environment(young)).waits == (
        "its health check (TCP, every 2 s) has not succeeded for 4 s; its last answer: booting",
        "failures count 15 s (start_period) after its guest has booted",
    )


def test_one_that_got_unhealthy_is_shut_down_at_a_known_time() -> None:
    sick = running(
        service(healthcheck=HTTP),
        capped=True,
        ready_at=NOW - 500,
        healthy=False,
        health_message="HTTP 500",
        reason="HTTP 500",
        failed_checks=4,
        unhealthy_since=NOW - 25,
    )
    found = why("web-1", environment(sick))
    assert "has not succeeded for 25 s; its last answer: HTTP 500" in found.waits[0]
    assert found.waits[1].endswith("3 make it unhealthy, so it is unhealthy")
    assert steps(found) == [(35, "its guest is asked to power off", "unhealthy for 60 s: HTTP 500")]
    assert steps(why("web-1", environment(sick), time_scale=10.0))[0][0] == 575


def backing_off(spec: ServiceSpec, **changes: Any) -> InstanceView:
    return view(
        spec,
        boot=3,
        failures=4,
        not_before=NOW + 6,
        reason="its service failed (exit code 1); restart 4 in 8 s",
        **changes,
    )


def test_backing_off_tells_which_restart_when_and_after_what() -> None:
    web = service(restart=RestartPolicy(delay_seconds=1.0, max_attempts=5))
    found = why("web-1", environment(backing_off(web)))
    assert found.waits == (
        "restart 4 in 6 s (2 s already waited), after: its service failed (exit code 1)",
    )
    assert steps(found) == [(6, "its guest is booted (boot 4)", "restarted")]
    assert "4 failures in a row, of at most 5" in found.notes


def test_backing_off_tells_also_what_is_missing_after_it() -> None:
    web = service(depends_on={"db": DependencyCondition.HEALTHY})
    found = why("web-1", environment(backing_off(web), running(service("db"))))
    assert [line.partition(":")[0] for line in found.waits] == [
        "restart 4 in 6 s (2 s already waited), after",
        "waiting for 'db' (service_healthy)",
    ]
    assert found.steps == ()


def test_draining_tells_sessions_and_what_is_left_of_the_grace_time() -> None:
    web = service(stop_grace_period_seconds=10.0)
    leaving = ready(
        web,
        2,
        goal=Goal.REMOVE,
        state=State.DRAINING,
        reason="scaled to 1",
        deadline=NOW + 7,
        sessions=3,
    )
    found = why("web-2", environment(ready(web), leaving))
    assert found.summary == "web-2 is draining: scaled to 1"
    assert found.waits == (
        "waiting for 3 sessions to end, for at most 7 s more of 10 s (stop_grace_period)",
    )
    assert steps(found) == [
        (7, "its guest is asked to power off", "3 sessions outlasted stop_grace_period")
    ]
    assert "it is to be removed" in found.notes


def test_shutting_down_tells_when_it_is_forced() -> None:
    end = ready(service(), goal=Goal.STOP, state=State.STOPPING, deadline=NOW + 9)
    found = why("web-1", environment(end))
    assert found.waits == (
        "waiting for its guest to power off within 9 s; then it is ended by force",
    )
    assert steps(found) == [
        (9, "its guest is ended by force", "it did not shut down within its grace time")
    ]


def test_what_others_need_waits_for_their_end() -> None:
    web = ready(
        service(depends_on={"db": DependencyCondition.HEALTHY}),
        goal=Goal.STOP,
        state=State.STOPPING,
        deadline=NOW + 9,
    )
    db = ready(service("db"), goal=Goal.STOP)
    assert why("db-1", environment(web, db)).waits == (
        "waiting for 'web', which needs it, to be down first: web-1 is stopping",
    )


@pytest.mark.parametrize(
    ("state", "goal", "kind", "reason"),
    [
        (State.STOPPED, Goal.STOP, EventKind.INSTANCE_STOPPED, "stopped by the user"),
        (State.SLEEPING, Goal.SLEEP, EventKind.INSTANCE_SLEEPING, "put to sleep by the user"),
        (State.FAILED, Goal.STOP, EventKind.INSTANCE_DIED, "QEMU died; given up after 3 restarts"),
    ],
)
def test_what_rests_tells_by_whom_and_since_when(
    state: State, goal: Goal, kind: EventKind, reason: str
) -> None:
    end = event(kind, reason, ago=250, instance="web-1")
    found = why("web-1", environment(view(service(), state=state, goal=goal, reason=reason)), end)
    assert found.summary == f"web-1 is {state}: {reason}"
    assert found.notes == ("it rests, since 4 min 10 s ago; 'vmorch start' brings it back",)
    assert (found.waits, found.steps) == ((), ())


def test_one_that_is_ready_waits_for_nothing() -> None:
    found = why("web-1", environment(ready(service(), sessions=2)))
    assert found.summary == "web-1 is ready for 40 s"
    assert found.notes == ("2 sessions open; its check says: HTTP 200 OK",)
    assert (found.waits, found.steps) == ((), ())


def test_an_action_under_way_is_told_instead_of_another_one() -> None:
    pending = view(service(), boot=0)
    start = StartGuest(instance=pending.instance, boot=1, reason="a new instance")
    key = pending.instance.key
    found = why(
        "web-1",
        environment(pending),
        under_way={key: UnderWay(action=start, since=NOW - 12)},
    )
    assert found.waits == ("its action, begun 12 s ago: its guest is booted (boot 1) "
                           "(a new instance)",)  # fmt: skip
    assert found.steps == ()
    failed = UnderWay(action=start, since=NOW - 12, failure="no such disk", again_at=NOW + 4)
    found = why("web-1", environment(pending), under_way={key: failed})
    assert found.waits[0] == "another try in 4 s, as it failed: no such disk"


def test_a_service_being_scaled_tells_how_many_there_are_and_who_ordered_it() -> None:
    web = service(replicas=3)
    order = event(EventKind.SERVICE_SCALED, "Scaled from 1 to 3 by hand.", ago=12)
    noise = event(EventKind.INSTANCE_CREATED, "created", ago=11, instance="web-2")
    shop = environment(ready(web, 1), running(web, 2, health_message="booting"))
    found = why("web", shop, order, noise)
    assert found.summary == "web has 1 of 3 instances ready, revision 1"
    assert found.state == "not ready"
    (second,) = found.waits
    assert second.startswith("web-2 is running for 4 s: booting - its health check (")
    assert steps(found) == [
        (0, "an instance of revision 1 is created", "2 of 3 instances of revision 1")
    ]
    assert found.notes == ("Scaled from 1 to 3 by hand, 12 s ago",)


def test_a_service_scaled_down_tells_who_goes() -> None:
    web = service(replicas=1)
    leaving = ready(
        web,
        2,
        goal=Goal.REMOVE,
        state=State.DRAINING,
        reason="scaled to 1",
        deadline=NOW + 7,
        sessions=1,
    )
    found = why("web", environment(ready(web), leaving))
    assert found.summary == "web has 1 of 1 instance ready, revision 1"
    assert found.waits == (
        "web-2 is draining: scaled to 1 - waiting for 1 session to end, for at most 7 s more "
        "of 10 s (stop_grace_period)",
    )


def test_a_rollout_tells_how_far_it_is_and_who_is_watched() -> None:
    web = service(replicas=2, update=UpdateConfig(monitor_seconds=20.0))
    rollout = Rollout(
        environment="shop",
        service="web",
        number=2,
        revision=2,
        previous=1,
        started_at=NOW - 60,
        passed=(3,),
        passed_at=NOW - 30,
        reason="it was applied",
    )
    passed = ready(web, 3, revision=2)
    watched = ready(web, 4, revision=2, ready_at=NOW - 7)
    shop = environment(ready(web, 1), passed, watched, current={"web": 2})
    shop = replace(shop, rollouts={"web": rollout})
    assert why("web", shop).notes == (
        "rollout to revision 2, 1 of 2 replaced: it was applied",
        "web-4 is watched for 13 s more before it counts (monitor)",
    )
    assert why("web-4", shop).notes[-1].startswith("web-4 is watched for 13 s more")
    assert not any("watched" in note for note in why("web-3", shop).notes)


def test_a_service_that_was_rolled_back_tells_why_and_who_failed() -> None:
    why_back = "revision 2 failed: web-3: sick 10 s after it was ready: HTTP 500"
    back = Rollout(
        environment="shop",
        service="web",
        number=3,
        revision=1,
        previous=None,
        started_at=NOW - 40,
        rollback=True,
        phase=Phase.COMPLETED,
        reason=why_back,
        ended_at=NOW - 30,
    )
    told = event(EventKind.ROLLED_BACK, why_back, ago=40)
    found = why("web", replace(environment(ready(service())), rollouts={"web": back}), told)
    assert found.notes[0] == f"the last rollback, to revision 1, completed: {why_back}"
    assert found.notes[2] == f"{why_back}, 40 s ago"
    assert "'vmorch logs NAME'" in found.notes[1]


SLEEPY = service(
    expose=(80,), replicas=0, autoscale=AutoscaleSpec(min=0, max=3, cpu=0.5, idle_seconds=60)
)


def test_a_service_that_nobody_asks_for_is_asleep_and_waits_for_nothing() -> None:
    asleep = environment(view(SLEEPY, state=State.SLEEPING))
    found = why("web", asleep, autoscaling={("shop", "web"): "stays at 0: it sleeps"})
    assert (found.state, found.waits, found.steps) == ("asleep", (), ())
    assert found.summary == "web is asleep until somebody asks for it, revision 1"
    assert found.notes[0] == "it scales by itself, from 0 to 3: stays at 0: it sleeps"
    one = why("web-1", asleep)
    assert one.notes[0] == "a request wakes it, and so does 'vmorch start web'"
    told_to = environment(view(SLEEPY, state=State.SLEEPING, goal=Goal.SLEEP))
    assert why("web", told_to).state == "not ready"


def test_a_service_on_its_way_to_sleep_is_neither_ready_nor_asleep() -> None:
    found = why("web", environment(ready(SLEEPY)))
    assert found.state == "not ready"
    assert found.summary == "web has 1 of 1 instance ready, revision 1"


def test_what_the_autoscaler_has_not_looked_at_yet_is_said() -> None:
    found = why("web", environment(ready(replace(SLEEPY, replicas=1))))
    assert found.state == "ready"
    assert found.notes[0] == "it scales by itself, from 0 to 3: nothing is decided yet"


def test_a_job_that_has_completed_is_what_it_should_be() -> None:
    done = view(service(), state=State.STOPPED, goal=Goal.STOP, boot=1, exit_code=0)
    found = why("web", environment(done))
    assert found.summary == "web has 1 of 1 instance completed, revision 1"
    assert (found.state, found.waits) == ("ready", ())


def test_of_many_instances_only_some_are_told_one_by_one() -> None:
    web = service(replicas=30)
    shop = environment(*(view(web, n) for n in range(1, 31)))
    found = why("web", shop)
    assert len(found.waits) == 11
    assert found.waits[-1] == "and 20 pending"


def test_a_look_that_is_old_says_so() -> None:
    shop = environment(ready(service()))
    assert "this is 40 s old: the daemon is busy" in why("web-1", shop, at=NOW - 40).notes
    found = why("web", shop, at=NOW - 40, trouble="libvirt does not answer.")
    assert found.notes[-1].startswith("this is 40 s old, as nothing could be looked at: libvirt")


def test_one_that_is_gone_is_told_by_its_events() -> None:
    last = event(EventKind.INSTANCE_REMOVED, "scaled to 1", ago=20, instance="web-2")
    found = explain_gone("shop", "web-2", [last], NOW)
    assert found.state == "gone"
    assert "gone; the last that happened was instance-removed 20 s ago: scaled to 1" in (
        found.summary
    )


def test_a_wake_waits_for_what_a_start_waits_for() -> None:
    asleep = view(
        service(depends_on={"db": DependencyCondition.STARTED}),
        state=State.SLEEPING,
        start=StartMode.RESUME,
        boot=1,
        reason="put to sleep by the user",
    )
    assert why("web-1", environment(asleep)).waits == (
        "waiting for 'db' (service_started): it has no instance yet",
    )
