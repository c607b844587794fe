"""What must hold of `autoscale:`. Pure, and on the resolved model like `checks`, which collects
what is found here."""

from __future__ import annotations

from collections.abc import Iterator

from vmorch.model.autoscale import (
    DEFAULT_HOLD_SECONDS,
    DEFAULT_STABILIZATION_SECONDS,
    LEAST_WINDOW_SECONDS,
    LONGEST_WINDOW_SECONDS,
    AutoscaleSpec,
    Load,
    ScheduledFloor,
    zone_named,
)
from vmorch.model.compose.nodes import quoted
from vmorch.model.compose.quantities import duration_text
from vmorch.model.spec import ServiceSpec

Finding = tuple[str, str]

MOST_FLOORS = 50
LEAST_TARGET = 0.001
MOST_SHARE = 0.9
"""The most that can be used is 100%; within a tenth around the target nothing changes."""
LONGEST_HOLD_SECONDS = 300.0
LONGEST_STABILIZATION_SECONDS = 3600.0
LONGEST_IDLE_SECONDS = 7 * 24 * 3600.0


def autoscale_findings(service: ServiceSpec) -> Iterator[Finding]:
    spec = service.autoscale
    if spec is None:
        return
    for part in (_bounds, _targets, _times):
        for key, message in part(spec):
            yield f"autoscale.{key}".removesuffix("."), message
    for index, floor in enumerate(spec.schedule):
        for key, message in _floor(floor, spec):
            yield f"autoscale.schedule[{index}].{key}", message
    for key, message in _reached(spec, service):
        yield f"autoscale.{key}", message


def _reached(spec: AutoscaleSpec, service: ServiceSpec) -> Iterator[Finding]:
    """What is counted where requests come in."""
    if spec.concurrency is not None and service.main_port is None:
        message = "Requests are counted in the proxy, and it has no port: add 'expose'."
        yield "concurrency", message
    if spec.rps is not None and not service.routes:
        message = (
            "Requests per second are counted at routes, and it has none: add 'route', or take "
            "'concurrency', which counts connections to its ports too."
        )
        yield "rps", message
    if spec.min == 0 and service.main_port is None:
        message = (
            "Nobody could wake it: requests do in the proxy, and it has no port: add 'expose'."
        )
        yield "min", message


def _bounds(spec: AutoscaleSpec) -> Iterator[Finding]:
    if spec.max < 1:
        yield "max", "There must be room for an instance: 'max' is at least 1."
    if not 0 <= spec.min <= max(spec.max, 0):
        yield "min", f"'min' is {spec.min}, and must be from 0 to 'max', which is {spec.max}."
    if spec.min == 0 and spec.idle_seconds is None:
        yield "min", "With 'min: 0', say with 'idle' after how long the last instance may sleep."
    if spec.min > 0 and spec.idle_seconds is not None:
        yield "idle", "The last instance sleeps only with 'min: 0'."
    if spec.min > 0 and spec.hold_seconds != DEFAULT_HOLD_SECONDS:
        yield "hold", "Requests wait for an instance that sleeps only with 'min: 0'."


def _targets(spec: AutoscaleSpec) -> Iterator[Finding]:
    targets = {load.value: getattr(spec, load.value) for load in Load}
    for key, target in targets.items():
        if target is not None and target < LEAST_TARGET:
            yield key, f"A target must be at least {LEAST_TARGET}."
    for key in (Load.CPU, Load.MEMORY):
        share = targets[key]
        if share is not None and share > MOST_SHARE:
            yield key, _why_not_share(share)
    if not _only_sleeps(spec) and not spec.schedule and all(t is None for t in targets.values()):
        yield "", "It needs one of 'concurrency', 'rps', 'cpu', 'memory' and 'schedule'."


def _only_sleeps(spec: AutoscaleSpec) -> bool:
    return spec.min == 0 and spec.max == 1


def _why_not_share(share: float) -> str:
    return (
        f"{share:.0%} is not allowed: nothing changes within a tenth around the target, and more "
        f"than 100% is never used, so it is at most {MOST_SHARE:.0%}."
    )


def _times(spec: AutoscaleSpec) -> Iterator[Finding]:
    for key, seconds, least, most in (
        ("window", spec.window_seconds, LEAST_WINDOW_SECONDS, LONGEST_WINDOW_SECONDS),
        ("stabilization", spec.stabilization_seconds, 0.0, LONGEST_STABILIZATION_SECONDS),
        ("idle", spec.idle_seconds, 1.0, LONGEST_IDLE_SECONDS),
        ("hold", spec.hold_seconds, 1.0, LONGEST_HOLD_SECONDS),
    ):
        if seconds is not None and not least <= seconds <= most:
            bounds = f"from {duration_text(least)} to {duration_text(most)}"
            yield key, f"{duration_text(seconds)} is not allowed: it must be {bounds}."
    if _only_sleeps(spec) and spec.stabilization_seconds != DEFAULT_STABILIZATION_SECONDS:
        yield "stabilization", "Its one instance sleeps after 'idle': there is nothing to hold up."
    if len(spec.schedule) > MOST_FLOORS:
        yield "schedule", f"There are at most {MOST_FLOORS} entries."


def _floor(floor: ScheduledFloor, spec: AutoscaleSpec) -> Iterator[Finding]:
    if not 1 <= floor.min <= spec.max:
        yield "min", f"{floor.min} is not allowed: it must be from 1 to 'max', which is {spec.max}."
    elif floor.min <= spec.min:
        yield "min", f"There are always {spec.min}, as 'min' says: it has no effect."
    if zone_named(floor.tz) is None:
        yield "tz", f"This host knows no time zone {quoted(floor.tz)}."
