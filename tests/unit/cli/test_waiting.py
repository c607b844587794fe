from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from vmorch.cli.progress import PlainReporter, build_text
from vmorch.cli.stopped import RolloutStopped
from vmorch.cli.waiting import Limits, NotReady, wait_for, wait_gone, wait_ready
from vmorch.errors import NotFound, TimedOut, VmorchError
from vmorch.model.view.daemon import AccelerationView
from vmorch.model.view.environment import EnvironmentView, ServiceView
from vmorch.model.view.image import BuildLine
from vmorch.model.view.instance import InstanceView
from vmorch.model.view.rollout import RolloutView
from vmorch.model.view.stream import EventView

FAST = Limits(timeout_seconds=5.0, poll_seconds=0.0)

ROW = InstanceView(
    environment="shop",
    service="web",
    instance="web-1",
    state="ready",
    ready=True,
    address="",
    inner_address="",
    revision=2,
    image="",
    cpus=1.0,
    vcpus=1,
    memory_bytes=0,
    ports=[],
    start="cold",
    created_at=0.0,
    started_at=None,
    ready_at=None,
    restarts=0,
    failures=0,
    reason="answers",
    domain="",
)
OLD = replace(ROW, instance="web-0", revision=1)
BOOTING = replace(ROW, state="starting", ready=False, reason="boots")
FAILED = replace(ROW, state="failed", ready=False, reason="no kernel")

ROLLOUT = RolloutView(
    environment="shop",
    service="web",
    number=2,
    revision=2,
    previous=1,
    image="",
    phase="running",
    rollback=False,
    reason="it was applied",
    canary=None,
    replicas=1,
    needed=1,
    passed=[],
    failed=[],
    started_at=0.0,
    ended_at=None,
)
FAILED_ROLLOUT = replace(ROLLOUT, phase="failed", failed=["web-1"])
BACK = replace(
    ROLLOUT, number=3, revision=1, rollback=True, reason="revision 2 failed: web-1: HTTP 500"
)

SHOP = EnvironmentView(
    name="shop",
    version=1,
    services={"web": ServiceView(replicas=1, revision=2, image="")},
    subnet="",
    created_at=0.0,
    removing=False,
    expires_at=None,
    holder=None,
)


def scaled(count: int) -> EnvironmentView:
    """With a service that scales by itself and has so many instances by now."""
    web = replace(SHOP.services["web"], replicas=count, min_replicas=0, max_replicas=4)
    return replace(SHOP, services={"web": web})


class Looks:
    """A client whose instances change with each look; the last state stays."""

    def __init__(self, *states: list[InstanceView]) -> None:
        self.states = list(states)
        self.told: list[EventView] = []
        self.gone_after = 10**9
        self.rollout: list[RolloutView] = []
        self.former: list[RolloutView] = []
        self.looks = 0
        self.counts: list[int] = []

    def instances(self, environment: str) -> list[InstanceView]:
        self.looks += 1
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def environment(self, name: str) -> EnvironmentView:
        if self.looks >= self.gone_after:
            raise NotFound("gone")
        if self.counts:
            return scaled(self.counts.pop(0) if len(self.counts) > 1 else self.counts[0])
        return SHOP

    def events(self, *, after: int = 0, **_: Any) -> list[EventView]:
        return [event for event in self.told if event.id > after]

    def latest_rollouts(self, environment: str) -> list[RolloutView]:
        """The next with each look; the last stays."""
        return [self.rollout.pop(0)] if len(self.rollout) > 1 else self.rollout[:1]

    def rollouts(self, environment: str, service: str) -> list[RolloutView]:
        return self.former

    def acceleration(self) -> AccelerationView:
        return AccelerationView(acceleration="tcg", time_scale=0.0, reason="")


def ready(client: Looks, **options: Any) -> list[InstanceView]:
    options.setdefault("limits", FAST)
    return wait_ready(client, SHOP, PlainReporter(), **options)  # type: ignore[arg-type]


def wait(client: Looks, count: int) -> list[InstanceView]:
    return wait_ready(client, scaled(count), PlainReporter(), limits=FAST)  # type: ignore[arg-type]


def test_ready_means_the_newest_revision_and_no_other_instance() -> None:
    draining = replace(OLD, state="draining", ready=False)
    client = Looks([], [BOOTING], [OLD], [OLD, ROW], [draining, ROW], [ROW])
    assert ready(client) == [ROW]
    assert client.looks == 6


def test_what_scales_by_itself_may_become_more_or_fewer_meanwhile() -> None:
    """Neither is waited for who comes beside what there should be, nor for who goes."""
    two, three = replace(ROW, instance="web-2"), replace(BOOTING, instance="web-3")
    more = Looks([ROW, BOOTING], [OLD, ROW, two, three], [ROW, two, three])
    more.counts = [2, 3]
    assert wait(more, 2) == [ROW, two, three]
    fewer = Looks([ROW, replace(two, state="draining", ready=False)])
    fewer.counts = [3, 1]
    assert wait(fewer, 3)[0] == ROW
    assert fewer.looks == 2, "as there should be one only from then on"


def test_at_none_it_is_waited_for_until_its_last_instance_sleeps() -> None:
    asleep = replace(ROW, state="sleeping", ready=False)
    idle = Looks([], [ROW], [replace(ROW, state="draining", ready=False)], [asleep])
    idle.counts = [0]
    assert wait(idle, 0) == [asleep]
    assert idle.looks == 4
    woken = Looks([asleep], [BOOTING], [ROW])
    woken.counts = [1]
    assert wait(woken, 0) == [ROW], "somebody asked meanwhile"


def test_ready_is_not_enough_while_a_rollout_watches() -> None:
    """Stop-first: the forerunner is gone, and what is ready may still be found bad."""
    client = Looks([ROW])
    client.rollout = [ROLLOUT, ROLLOUT, replace(ROLLOUT, phase="completed")]
    assert ready(client) == [ROW]
    assert client.looks == 3


def test_a_first_revision_needs_only_to_be_ready() -> None:
    client = Looks([BOOTING], [ROW])
    client.rollout = [replace(ROLLOUT, previous=None)]
    assert ready(client) == [ROW]


def test_a_canary_that_has_passed_is_all_that_is_waited_for() -> None:
    client = Looks([OLD, BOOTING], [OLD, ROW], [OLD, ROW])
    canary = replace(ROLLOUT, canary=50, needed=2)
    client.rollout = [canary, replace(canary, passed=["web-1"]), replace(canary, passed=["a", "b"])]
    assert ready(client) == [OLD, ROW]
    assert client.looks == 3, "each of the canary's instances"


@pytest.mark.parametrize(
    ("latest", "told", "hint"),
    [
        (BACK, r"'web' went back to revision 1: revision 2 failed: web-1: HTTP 500", "logs web-1'"),
        (replace(ROLLOUT, number=3, revision=3), "to revision 2 was replaced by one to", "history"),
        (replace(ROLLOUT, phase="paused", reason="revision 2 failed"), "paused: revi", "resume"),
        (replace(ROLLOUT, phase="paused", failed=["web-7"]), "paused", "'vmorch logs web-7'"),
    ],
)
def test_a_rollout_that_stops_ends_the_wait(latest: RolloutView, told: str, hint: str) -> None:
    """Also one that did so before the first look: no event is waited for."""
    client = Looks([OLD])
    client.rollout, client.former = [latest], [FAILED_ROLLOUT, BACK]
    with pytest.raises(RolloutStopped, match=told) as caught:
        ready(client)
    assert caught.value.exit_code == 1
    assert hint in caught.value.hint
    client.rollout = [replace(latest, service="db")]
    client.states = [[ROW]]
    assert ready(client) == [ROW], "another service's"


def test_what_is_back_where_it_was_asked_to_be_is_ready() -> None:
    """'up' with the file that the service was led back to."""
    client = Looks([ROW])
    client.rollout = [replace(BACK, revision=2, phase="completed")]
    assert ready(client) == [ROW]


def test_a_forerunner_that_has_failed_is_being_replaced() -> None:
    broken = replace(OLD, state="failed", ready=False, reason="no kernel")
    assert ready(Looks(*[[broken, BOOTING]] * 5, [ROW])) == [ROW]


def test_a_failure_must_last() -> None:
    assert ready(Looks([FAILED], [FAILED], [BOOTING], [FAILED], [ROW])) == [ROW]
    with pytest.raises(NotReady, match="web-1 failed: no kernel") as caught:
        ready(Looks([FAILED]))
    assert caught.value.exit_code == 1


def test_only_the_services_asked_for_are_waited_for() -> None:
    client = Looks([BOOTING])
    limits = Limits(timeout_seconds=0.01, poll_seconds=0.0)
    with pytest.raises(TimedOut, match=r"web-1 is starting \(boots\)\."):
        ready(client, limits=limits)
    with pytest.raises(TimedOut, match=r"web-1 is starting\."):
        ready(Looks([replace(BOOTING, reason="")]), limits=limits)
    assert ready(client, services=frozenset({"db"})) == [BOOTING]


def test_the_bound_follows_the_acceleration() -> None:
    with pytest.raises(TimedOut):
        ready(Looks([BOOTING]), limits=Limits(poll_seconds=0.0))


def test_gone_is_gone_also_past_failures(capfd: pytest.CaptureFixture[str]) -> None:
    client = Looks([FAILED])
    client.gone_after = 5
    wait_gone(client, "shop", PlainReporter(), limits=FAST)  # type: ignore[arg-type]
    assert capfd.readouterr().err.splitlines()[-1].startswith("web-1 gone")


@pytest.mark.parametrize("name", ["web-1", "web-2"])
def test_one_that_cannot_be_put_to_sleep_is_not_waited_for(name: str) -> None:
    client = Looks([ROW], [replace(ROW, state="sleeping", ready=False)])
    client.told.append(
        EventView(
            id=1,
            time=0.0,
            environment="shop",
            service="web",
            instance=name,
            kind="sleep-failed",
            message="no room",
        )
    )
    names, states = frozenset({"web-1"}), frozenset({"sleeping"})

    def wait() -> list[InstanceView]:
        report: Any = PlainReporter()
        return wait_for(client, "shop", report, names=names, states=states, limits=FAST)  # type: ignore[arg-type]

    if name == "web-1":
        with pytest.raises(VmorchError, match="web-1 goes on: no room"):
            wait()
    else:
        assert wait()[0].state == "sleeping"


def test_each_change_and_each_bad_event_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    client = Looks([BOOTING], [BOOTING], [BOOTING], [replace(ROW, reason="")])
    for number, kind in enumerate(("instance-ready", "action-failed"), 1):
        client.told.append(
            EventView(
                id=number,
                time=0.0,
                environment="shop",
                service="",
                instance="web-1",
                kind=kind,
                message="no \x1b[1mdisk",
            )
        )
    ready(client)
    lines = [re.sub(r" after \d+s", "", line) for line in capfd.readouterr().err.splitlines()]
    assert lines == ["web-1: no disk", "web-1 starting: boots", "web-1 ready"]


def test_build_lines() -> None:
    line = BuildLine(step="RUN make", number=2, total=5, state="started")
    assert build_text(line) == "[2/5] RUN make"
    assert build_text(replace(line, state="cached")) == "[2/5] CACHED RUN make"
    assert build_text(replace(line, state="done", seconds=1.26)) == "[2/5] DONE 1.3s"
    assert build_text(replace(line, state="output", text=" ")) == ""
