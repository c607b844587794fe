"""When a guest is given up, and what follows from its end. Pure.

A guest that runs and has to go is written down with its fault first and ended then: whatever is
interrupted, the next look goes on there, and the failure is counted once, when the guest is gone.
"""

from __future__ import annotations

from dataclasses import replace

from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import RestartCondition
from vmorch.planner.actions import Note, ShutDownGuest
from vmorch.planner.backoff import delay_seconds
from vmorch.planner.snapshot import InstanceView
from vmorch.planner.verdict import Moment, Verdict

HUNG_SECONDS = 30.0
"""How long a guest may give no sign of life. Before scaling: one that works is slow without KVM,
one that does nothing at all is not."""

FLAT_CPUS = 0.005
"""Of a core: less than an idle kernel's timers take."""

UNHEALTHY_SECONDS = 60.0
"""How long an instance that has been ready may be unhealthy before it is restarted; before
scaling."""

RUNS = frozenset({State.RUNNING, State.READY})


def note_service_end(view: InstanceView, moment: Moment) -> Verdict | None:
    """The guest's word that its service has ended and will not be started again in there."""
    instance, policy = view.instance, view.spec.restart.condition
    if view.guest is not GuestState.RUNNING or instance.state not in RUNS:
        return None
    if view.service not in {"exited", "failed"}:
        return None
    code = view.exit_code or 0
    if view.service == "exited" and policy is not RestartCondition.ANY:
        return Verdict(action=completed(instance, code))
    reason = _joined(f"its service failed (exit code {code})", view.mishap)
    if view.service == "exited":
        reason = "its service ended (exit code 0)"
    return _give_up(replace(instance, exit_code=code), reason, view, moment)


def give_up_hung(view: InstanceView, moment: Moment) -> Verdict | None:
    """Agent and network are silent, and the CPU says that nothing is coming."""
    pulse = view.pulse
    if pulse is None or view.guest is not GuestState.RUNNING or view.instance.state not in RUNS:
        return None
    flat = pulse.cpus < FLAT_CPUS
    patience = HUNG_SECONDS if flat else HUNG_SECONDS * moment.time_scale
    if pulse.silent_seconds < patience:
        return None
    shape = "flat" if flat else f"busy ({pulse.cpus:.2f})"
    reason = f"hung: no answer and no packet for {pulse.silent_seconds:.0f} s, its CPU is {shape}"
    doomed = replace(
        view.instance, state=State.STOPPING, deadline=moment.now, fault=reason, reason=reason
    )
    return Verdict(action=Note(instance=doomed, kind=EventKind.GUEST_GIVEN_UP, reason=reason))


def give_up_unhealthy(view: InstanceView, moment: Moment) -> Verdict | None:
    """As Docker Swarm and Nomad do. One that was never ready may be waiting for its user."""
    instance = view.instance
    if (
        instance.ready_at is None
        or instance.state is not State.RUNNING
        or view.healthy is not False
    ):
        return None
    if view.unhealthy_since is None or view.spec.restart.condition is RestartCondition.NONE:
        return None
    over = view.unhealthy_since + UNHEALTHY_SECONDS * moment.time_scale
    if moment.now < over:
        return None
    seconds = moment.now - view.unhealthy_since
    return _give_up(instance, f"unhealthy for {seconds:.0f} s: {view.health_message}", view, moment)


def _give_up(instance: Instance, reason: str, view: InstanceView, moment: Moment) -> Verdict:
    """Politely: what the guest has not written yet is worth its grace time."""
    grace = view.spec.stop_grace_period_seconds * moment.time_scale
    doomed = replace(instance, fault=reason, reason=reason)
    return Verdict(
        action=ShutDownGuest(instance=doomed, deadline=moment.now + grace, reason=reason)
    )


def died(view: InstanceView, moment: Moment, end: str) -> Verdict:
    """Back to pending with a back-off, or the end where the restart policy says so."""
    instance, policy = view.instance, view.spec.restart
    end = _joined(end, view.mishap)
    failures = instance.failures + 1
    fresh = replace(
        instance,
        failures=failures,
        started_at=None,
        ready_at=None,
        capped=False,
        deadline=None,
        fault="",
    )
    over = policy.max_attempts is not None and failures > policy.max_attempts
    on_its_own = view.ended_by_itself and not instance.fault
    if policy.condition is RestartCondition.ON_FAILURE and on_its_own:
        # A good end, as of a service; without a code it would pass for its user's stop.
        final = replace(fresh, goal=Goal.STOP, state=State.STOPPED, exit_code=0, reason=end)
    elif policy.condition is RestartCondition.NONE or over:
        tried = f"; given up after {instance.failures} restarts" if over else ""
        final = replace(fresh, goal=Goal.STOP, state=State.FAILED, reason=f"{end}{tried}")
    else:
        wait = delay_seconds(failures, first=policy.delay_seconds)
        final = replace(
            fresh,
            state=State.PENDING,
            not_before=moment.now + wait,
            reason=f"{end}; {restart_words(failures, wait)}",
        )
    return Verdict(
        action=Note(
            instance=final,
            kind=EventKind.INSTANCE_DIED,
            reason=final.reason,
            decides_goal=final.goal is Goal.STOP,
        )
    )


def restart_words(failures: int, wait_seconds: float) -> str:
    return f"restart {failures} in {wait_seconds:.0f} s"


def completed(instance: Instance, code: int) -> Note:
    """Nobody wants it to run any more; what is left of its guest is shut down."""
    reason = f"completed (exit code {code})"
    return Note(
        instance=replace(instance, goal=Goal.STOP, exit_code=code, reason=reason),
        kind=EventKind.INSTANCE_COMPLETED,
        reason=reason,
        decides_goal=True,
    )


def _joined(end: str, mishap: str) -> str:
    return f"{mishap}; {end}" if mishap else end
