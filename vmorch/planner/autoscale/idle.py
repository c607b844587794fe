"""When the last instance goes to sleep: once nothing was asked of it for long enough. Pure.

`idle` may be days, and measures are kept for minutes: so it is remembered tick by tick since when
there was nothing.
"""

from __future__ import annotations

from vmorch.model.autoscale import AutoscaleSpec, Silence
from vmorch.model.use import ServiceUse
from vmorch.planner.autoscale.words import seconds_text


def silence(
    before: Silence | None, newest: ServiceUse, *, longest_hole_seconds: float
) -> Silence | None:
    """`before`, gone on with the newest measure; None if that shows traffic, or no ready instance:
    what is on its way up is not idle. What is not known is a hole, and a long one begins anew."""
    if newest.ready < 1 or is_asked(newest):
        return None
    if any(value is None for value in _asked(newest)):
        return before
    if before is None or not 0 <= newest.at - before.until <= longest_hole_seconds:
        return Silence(since=newest.at, until=newest.at)
    return Silence(since=before.since, until=newest.at)


def is_asked(use: ServiceUse) -> bool:
    return any(_asked(use))


def _asked(use: ServiceUse) -> tuple[float | None, ...]:
    return use.sessions, use.requests, use.connections


def why_asleep(spec: AutoscaleSpec, silent: Silence | None) -> str:
    """Why the last instance shall sleep; empty when it shall not."""
    if spec.min > 0 or spec.idle_seconds is None or silent is None:
        return ""
    if silent.until - silent.since < spec.idle_seconds:
        return ""
    return f"nothing was asked for {seconds_text(spec.idle_seconds)}"
