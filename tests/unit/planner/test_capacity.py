"""What fits into a host: the arithmetic, its words, and that no plan takes more than there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmorch.errors import VmorchError
from vmorch.model.guest import Acceleration, GuestState
from vmorch.model.host import HostView
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import RestartCondition, RestartPolicy, ServiceSpec
from vmorch.planner.actions import Note, Plan, StartGuest, WakeGuest, WarmUp
from vmorch.planner.capacity import FIRST_START_BYTES, need_of, room_of
from vmorch.planner.explain import explain_instance
from vmorch.planner.fitting import never_fits
from vmorch.planner.invariants import check
from vmorch.planner.look import Look
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

MIB = 1024**2
GIB = 1024**3
NOW = 1000.0
WEB = ServiceSpec(name="web", image="sha256:1", replicas=9)
"""Needs 1 CPU and, under KVM, 512 MiB and 49 MiB for QEMU."""
WEB_BYTES = (512 + 49) * MIB


def host(**changes: Any) -> HostView:
    values: dict[str, Any] = {
        "cpus": 2,
        "cpu_overcommit": 4.0,
        "memory_bytes": 8 * GIB,
        "kept_memory_bytes": 512 * MIB,
        "free_disk_bytes": 100 * GIB,
        "kept_disk_bytes": GIB,
        "acceleration": Acceleration.KVM,
    }
    return HostView(**{**values, **changes})


def view(ordinal: int = 1, spec: ServiceSpec = WEB, **changes: Any) -> InstanceView:
    seen = {name: changes.pop(name) for name in ("guest", "busy") if name in changes}
    values: dict[str, Any] = {
        "environment": "shop",
        "service": spec.name,
        "ordinal": ordinal,
        "revision": 1,
        "uuid": f"uuid-{ordinal}",
        "mac": "52:54:00:00:00:01",
        "inner_address": "10.0.0.64",
        "outer_address": "10.1.0.64",
        "goal": Goal.RUN,
        "state": State.PENDING,
        "reason": "",
        "created_at": NOW - 100,
    }
    return InstanceView(instance=Instance(**{**values, **changes}), spec=spec, **seen)


def running(ordinal: int = 1, spec: ServiceSpec = WEB, **changes: Any) -> InstanceView:
    values = {
        "state": State.READY,
        "guest": GuestState.RUNNING,
        "boot": 1,
        "capped": True,
        "started_at": NOW - 50,
        "ready_at": NOW - 40,
    }
    return view(ordinal, spec, **{**values, **changes})


def asleep(ordinal: int = 1, **changes: Any) -> InstanceView:
    return view(ordinal, **{"state": State.SLEEPING, "boot": 1, **changes})


def snapshot(*views: InstanceView, on: HostView, **changes: Any) -> Snapshot:
    warm = {name: changes.pop(name) for name in ("may_warm", "wanted_warm") if name in changes}
    shop = EnvironmentView(
        name="shop",
        removing=False,
        services={"web": replace(WEB, replicas=len(views))},
        current={"web": 1},
        instances=views,
        network_ready=True,
        in_proxy=True,
        **warm,
    )
    return Snapshot(environments=(shop,), host=on, **{"boots_at_once": 99, **changes})


def planned(*views: InstanceView, on: HostView, **changes: Any) -> tuple[list[int], list[str]]:
    """The ordinals that are started or woken, and what the others are told."""
    actions = plan(snapshot(*views, on=on, **changes), NOW).actions
    begun = [a.instance.ordinal for a in actions if isinstance(a, StartGuest | WakeGuest)]
    return begun, [a.reason for a in actions if isinstance(a, Note)]


def memory_for(count: float, **changes: Any) -> HostView:
    return host(memory_bytes=int(count * WEB_BYTES) + 512 * MIB, **changes)


def test_a_guest_needs_its_memory_and_what_qemu_takes_beside() -> None:
    kvm, tcg = (need_of(WEB, acceleration) for acceleration in Acceleration)
    assert (kvm.millicpus, kvm.guest_bytes, kvm.memory_bytes) == (1000, 512 * MIB, WEB_BYTES)
    assert tcg.qemu_bytes > kvm.qemu_bytes
    wide = need_of(replace(WEB, cpus=4.0, memory_bytes=4 * GIB), Acceleration.KVM)
    assert wide.qemu_bytes == (40 + 4 * 8 + 8) * MIB


def test_a_reservation_stands_for_the_limit_but_not_for_what_qemu_takes() -> None:
    spec = replace(WEB, reserved_cpus=0.25, reserved_memory_bytes=0)
    need = need_of(spec, Acceleration.KVM)
    assert (need.millicpus, need.memory_bytes) == (250, 49 * MIB)


def test_one_plan_never_starts_two_into_the_same_room() -> None:
    begun, told = planned(view(1), view(2), view(3), on=memory_for(2))
    assert begun == [1, 2]
    assert told == [
        "waiting for memory: needs 561 MiB (512 MiB + 49 MiB for QEMU), 0 MiB of 1.6 GiB are free "
        "(1.1 GiB reserved by 2 instances, 512 MiB kept for the host)"
    ]


def test_a_small_one_may_pass_a_large_one() -> None:
    large = replace(WEB, memory_bytes=4 * GIB)
    begun, told = planned(view(1, large), view(2), on=memory_for(2))
    assert begun == [2]
    assert "needs 4152 MiB (4096 MiB + 56 MiB for QEMU), 1122 MiB of" in told[0]


def test_what_is_needed_is_rounded_up_and_what_is_free_down() -> None:
    odd = replace(WEB, memory_bytes=512 * MIB + 1)
    _, (told,) = planned(view(1, odd), on=memory_for(1))
    assert "needs 562 MiB (513 MiB + 49 MiB for QEMU), 561 MiB of" in told


def test_cpus_are_counted_with_the_overcommit() -> None:
    half = replace(WEB, cpus=1.5)
    begun, told = planned(running(1, half), view(2, half), view(3), on=host(cpu_overcommit=1.25))
    assert begun == [3]
    assert told == [
        "waiting for CPUs: needs 1.5, 1 of 2.5 are free (1.5 reserved by 1 instance; the host's "
        "2, each counted 1.25 times)"
    ]


def test_only_a_first_start_waits_for_the_disk() -> None:
    on = host(free_disk_bytes=GIB + FIRST_START_BYTES)
    begun, told = planned(view(1), view(2), view(3, boot=1), asleep(4), on=on)
    assert begun == [1, 3, 4]
    assert told == [
        "waiting for disk: needs 64 MiB, 0 MiB are free (1.06 GiB on the disk, 1 GiB kept for the "
        "host, 64 MiB promised to 1 start)"
    ]


def test_a_start_that_has_not_written_yet_is_promised_its_disk() -> None:
    on = host(free_disk_bytes=GIB + FIRST_START_BYTES)
    assert planned(view(1, state=State.STARTING, boot=1), view(2), on=on)[0] == [1]
    assert planned(view(1, busy=True), view(2), on=on)[0] == []
    written = view(1, state=State.STARTING, boot=1, guest=GuestState.RUNNING)
    assert planned(written, view(2), on=on)[0] == [2]


@pytest.mark.parametrize(
    "holder",
    [
        running(1),
        running(1, state=State.STOPPING, goal=Goal.STOP, deadline=NOW + 9),
        running(1, state=State.PAUSED, goal=Goal.PAUSE, guest=GuestState.PAUSED),
        view(1, busy=True),
        asleep(1, busy=True),
    ],
)
def test_a_guest_has_its_room_until_it_is_gone(holder: InstanceView) -> None:
    begun, told = planned(holder, view(2), on=memory_for(1.9))
    assert begun == []
    assert any("reserved by 1 instance" in words for words in told)


@pytest.mark.parametrize("gone", [State.STOPPED, State.FAILED, State.SLEEPING])
def test_whoever_rests_without_a_guest_has_none(gone: State) -> None:
    rests = view(1, state=gone, goal=Goal.STOP if gone is not State.SLEEPING else Goal.SLEEP)
    assert planned(rests, view(2), on=memory_for(1))[0] == [2]


def test_an_interrupted_start_goes_on_in_its_own_room() -> None:
    assert planned(view(1, state=State.STARTING, boot=1), on=memory_for(1))[0] == [1]


def test_a_failed_one_keeps_its_place_from_whoever_is_new() -> None:
    back = view(2, boot=1, failures=1, not_before=NOW + 5)
    begun, told = planned(view(1), back, on=memory_for(1.9))
    assert begun == []
    assert "reserved by 1 instance" in told[0]
    due = view(2, boot=1, failures=1, not_before=NOW)
    assert planned(view(1), due, on=memory_for(1.9))[0] == [2]
    assert planned(due, view(3), on=memory_for(2))[0] == [2, 3]
    unnoted = running(2, guest=None)
    assert planned(view(1), unnoted, on=memory_for(1.9))[0] == []


def test_those_that_come_back_into_a_smaller_host_do_not_keep_each_other_out() -> None:
    back = [view(n, boot=1, failures=1) for n in (1, 2, 3)]
    assert planned(*back, on=memory_for(2))[0] == [1, 2]


def test_a_host_that_has_become_too_small_gets_no_more_and_that_is_no_error() -> None:
    begun, told = planned(running(1), running(2), view(3), on=memory_for(1))
    assert begun == []
    assert "0 MiB of 1.05 GiB are free (1.1 GiB reserved by 2 instances" in told[0]


def test_waking_needs_room_too() -> None:
    begun, told = planned(running(1), asleep(2), on=memory_for(1.9))
    assert begun == []
    assert told[0].startswith("waiting for memory")
    assert planned(running(1), asleep(2), on=memory_for(2))[0] == [2]


def test_one_that_must_wake_to_stop_says_that_it_waits_for_room() -> None:
    begun, told = planned(running(1), asleep(2, goal=Goal.STOP), on=memory_for(1.9))
    assert begun == []
    assert told[0].startswith("waiting for memory")


def test_what_waits_is_told_once() -> None:
    _, (told,) = planned(running(1), view(2), on=memory_for(1.9))
    assert planned(running(1), view(2, reason=told), on=memory_for(1.9)) == ([], [])


def test_why_it_is_pending_is_the_planners_own_arithmetic() -> None:
    seen = snapshot(running(1), view(2), on=memory_for(1.9))
    (shop,) = seen.environments
    found = explain_instance(Look(snapshot=seen, at=NOW), shop, shop.instances[1], [], NOW)
    assert found.waits == (
        "waiting for memory: needs 561 MiB (512 MiB + 49 MiB for QEMU), 504 MiB of 1.54 GiB are "
        "free (561 MiB reserved by 1 instance, 512 MiB kept for the host)",
    )


def test_a_warm_snapshot_is_made_only_where_its_guest_fits() -> None:
    def warm_ups(on: HostView, **changes: Any) -> int:
        seen = snapshot(running(1), on=on, **{"may_warm": frozenset({("web", 1)}), **changes})
        return sum(isinstance(a, WarmUp) for a in plan(seen, NOW).actions)

    wanted = {"may_warm": frozenset(), "wanted_warm": frozenset({("web", 1)})}
    assert warm_ups(memory_for(2)) == warm_ups(memory_for(2), **wanted) == 1
    assert warm_ups(memory_for(1.9)) == warm_ups(memory_for(1.9), **wanted) == 0
    ram_and_disk = 512 * MIB + FIRST_START_BYTES
    assert warm_ups(host(free_disk_bytes=GIB + ram_and_disk)) == 1
    assert warm_ups(host(free_disk_bytes=GIB + ram_and_disk - 1)) == 0


def test_the_anonymous_guest_is_counted() -> None:
    begun, told = planned(running(1), view(2), on=memory_for(2.9), warming=True, anonymous=WEB)
    assert begun == []
    assert "reserved by 2 instances" in told[0]


def test_a_plan_that_takes_more_than_there_is_is_stopped() -> None:
    def started(*views: InstanceView) -> Plan:
        starts = (StartGuest(instance=v.instance, boot=1, reason="it may") for v in views)
        return Plan(actions=tuple(starts), wake_at=None)

    both = view(1), view(2)
    check(snapshot(*both, on=memory_for(2)), started(*both))
    with pytest.raises(VmorchError, match="has not the memory"):
        check(snapshot(*both, on=memory_for(1.9)), started(*both))
    with pytest.raises(VmorchError, match="has not the CPUs"):
        check(snapshot(*both, on=host(cpu_overcommit=0.9)), started(*both))
    free = replace(WEB, reserved_cpus=0.0)
    unchanged = running(1), view(2, free)
    check(snapshot(*unchanged, on=host(cpu_overcommit=0.1)), started(unchanged[1]))


SIZES = st.sampled_from([64 * MIB, 512 * MIB, 3 * GIB])
SPECS = st.builds(
    lambda memory, cpus, share: ServiceSpec(
        name="web", image="sha256:1", memory_bytes=memory, cpus=cpus, reserved_cpus=cpus * share
    ),
    SIZES,
    st.sampled_from([0.1, 0.5, 1.0, 3.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
KINDS = st.sampled_from(
    [
        {},
        {"boot": 1, "failures": 2},
        {"state": State.STARTING, "boot": 1},
        {"state": State.SLEEPING, "boot": 1},
        {"state": State.SLEEPING, "boot": 1, "goal": Goal.STOP},
        {"state": State.READY, "boot": 1, "guest": GuestState.RUNNING, "capped": True},
        {"state": State.READY, "boot": 1},
        {"state": State.STOPPED, "boot": 1, "goal": Goal.STOP},
        {"busy": True},
    ]
)
HOSTS = st.builds(
    lambda memory, cpus, disk, acceleration: host(
        memory_bytes=memory * 256 * MIB,
        cpus=cpus,
        free_disk_bytes=GIB + disk * MIB,
        acceleration=acceleration,
    ),
    st.integers(0, 40),
    st.integers(1, 3),
    st.integers(0, 400),
    st.sampled_from(list(Acceleration)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SPECS, KINDS), max_size=8), HOSTS)
def test_no_plan_takes_more_than_there_is_and_none_waits_for_what_is_there(
    instances: list[tuple[ServiceSpec, dict[str, Any]]], on: HostView
) -> None:
    views = [view(n, spec, **kind) for n, (spec, kind) in enumerate(instances, start=1)]
    seen = snapshot(*views, on=on)
    before = room_of(seen).used
    actions = plan(seen, NOW).actions
    begun = {a.instance.key for a in actions if isinstance(a, StartGuest | WakeGuest)}
    after = room_of(
        snapshot(*(replace(v, busy=v.instance.key in begun or v.busy) for v in views), on=on)
    )
    if after.used != before:
        assert after.used.memory_bytes <= max(on.instance_memory_bytes, before.memory_bytes)
        assert after.used.millicpus <= max(on.millicpus, before.millicpus)
    for waiting in (v for v in views if v.instance.state is State.PENDING and not v.busy):
        if waiting.instance.key not in begun:
            assert after.lacks(waiting).startswith("waiting for ")


def test_what_can_never_fit_is_told_with_the_arithmetic() -> None:
    one = replace(WEB, replicas=1)
    assert never_fits({"web": one}, memory_for(1)) == ""
    assert never_fits({"web": one}, memory_for(0.9)) == (
        "an instance of 'web' needs 561 MiB (512 MiB + 49 MiB for QEMU), and the empty host has "
        "504 MiB (1016 MiB, 512 MiB of it kept for the host)"
    )
    assert never_fits({"web": replace(one, cpus=9.0)}, host()) == (
        "an instance of 'web' needs 9 CPUs, and the empty host has 8 (the host's 2, each counted "
        "4 times)"
    )
    assert never_fits({"web": replace(one, cpus=9.0, replicas=0)}, host()) == ""
    assert never_fits({"web": one}, host(free_disk_bytes=0)) == ""


def test_all_instances_that_stay_must_fit_together() -> None:
    three = replace(WEB, replicas=3)
    assert never_fits({"web": three}, memory_for(3)) == ""
    assert never_fits({"web": three}, memory_for(2.9)).startswith(
        "its 3 instances together need 1.64 GiB with QEMU's own, and the empty host has 1.59 GiB"
    )
    many = replace(WEB, replicas=9)
    assert never_fits({"web": many}, host()).startswith("its 9 instances together need 9 CPUs")
    job = replace(many, restart=RestartPolicy(condition=RestartCondition.ON_FAILURE))
    assert never_fits({"web": three, "job": job}, memory_for(3)) == ""
