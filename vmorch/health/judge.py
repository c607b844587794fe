"""From single answers to a verdict, with Docker's meaning of retries and start period. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmorch.health.protocol import Health
from vmorch.model.guest import GuestReport


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer. `message` is for people."""

    ok: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """`failures` are consecutive. `healthy` None: neither a success nor enough failures yet."""

    healthy: bool | None = None
    failures: int = 0
    message: str = "booting"


def after(history: History, outcome: Outcome, *, counts: bool, retries: int) -> History:
    """One success is healthy; `retries` failures in a row are not. A failure that does not count
    (the guest boots, or the start period runs) changes nothing but the message."""
    if outcome.ok:
        return History(healthy=True, message=outcome.message)
    if not counts:
        return replace(history, message=outcome.message)
    failures = history.failures + 1
    healthy = False if failures >= max(1, retries) else history.healthy
    return History(healthy=healthy, failures=failures, message=outcome.message)


def verdict(
    history: History, report: GuestReport | None, *, wants_cloud_init: bool
) -> tuple[bool | None, str]:
    """The check's verdict, unless cloud-init has failed or is not through yet: what the user asked
    it to do belongs to a ready instance."""
    if not wants_cloud_init or history.healthy is False:
        return history.healthy, history.message
    if report is not None and report.cloud_init == "error":
        return False, f"cloud-init failed: {report.cloud_init_detail or 'without a word'}"
    if history.healthy and (report is None or report.cloud_init != "done"):
        return None, "waiting for cloud-init"
    return history.healthy, history.message


def of_unit(report: GuestReport) -> Outcome:
    """What a guest's word about its service means. One that has no identity says "none" of its
    service as well: what its bundle asked for, a volume say, could not be done."""
    if not report.instance_id:
        return Outcome(
            False, "the guest could not apply its identity: 'vmorch logs --source console'"
        )
    match report.service:
        case "active":
            return Outcome(True, "the service is active")
        case "none":
            return Outcome(True, "the guest is up and has no service of its own")
        case "activating":
            return Outcome(False, "the service is starting")
        case _:
            code = "" if report.exit_code is None else f" with exit code {report.exit_code}"
            ended = "has failed" if report.service == "failed" else "has ended"
            return Outcome(False, f"the service {ended}{code}")


def health(
    before: Health,
    history: History,
    report: GuestReport | None,
    *,
    now: float,
    wants_cloud_init: bool,
) -> Health:
    """What to publish; `since` is when `healthy` came to be what it is."""
    healthy, message = verdict(history, report, wants_cloud_init=wants_cloud_init)
    since = before.since if healthy is before.healthy else now
    return Health(
        healthy=healthy, since=since, message=message, report=report, failures=history.failures
    )
