from __future__ import annotations

import asyncio
import errno
from typing import Any

from structlog.testing import capture_logs

from vmorch.errors import HypervisorError
from vmorch.model.guest import GuestReport
from vmorch.model.spec import HealthCheck, HealthKind


def http(**changes: Any) -> HealthCheck:
    values: dict[str, Any] = {"interval_seconds": 2.0, "timeout_seconds": 5.0, "retries": 3}
    return HealthCheck(kind=HealthKind.HTTP, argument=("/healthz",), **{**values, **changes})


def unit(**changes: Any) -> HealthCheck:
    return HealthCheck(kind=HealthKind.UNIT, **changes)


def test_readiness_is_seen_long_before_the_interval(virtually, target) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.EHOSTUNREACH
        bench.prober.watch([target(http(interval_seconds=30))])
        assert (await bench.run(10)).healthy is None
        bench.server.error = None
        health = await bench.run(0.6)
        assert (health.healthy, health.message) == (True, "HTTP 200 OK")
        assert b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.1:80\r\n" in bench.server.sent

    virtually(body)


def test_a_guest_that_is_asked_at_its_port_may_start_its_service_in_peace(
    virtually, target, report
) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.EHOSTUNREACH
        bench.insides.reported = report()
        bench.prober.watch([target(http(), time_scale=10.0)])
        await bench.run(19)
        assert bench.insides.reports == []
        await bench.run(2)
        assert bench.insides.reports != []

    virtually(body)


def test_once_healthy_it_is_asked_once_an_interval(virtually, target) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(http(interval_seconds=2))])
        await bench.run(10.5)
        assert len(bench.server.asked) == 6

    virtually(body)


def test_failures_while_the_guest_boots_do_not_count(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.ECONNREFUSED
        bench.prober.watch([target(http())])
        health = await bench.run(50)
        assert (health.healthy, health.message) == (None, "booting")
        bench.insides.reported = report()
        await bench.run(3)
        assert bench.now().message == "port 80: connection refused"
        assert (await bench.run(8)).healthy is False

    virtually(body)


def test_a_guest_that_never_says_a_word_is_unhealthy_in_the_end(virtually, target) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.EHOSTUNREACH
        bench.prober.watch([target(http(), time_scale=10.0)])
        assert (await bench.run(599)).healthy is None
        health = await bench.run(10)
        assert (health.healthy, health.message) == (False, "port 80: no route to host")

    virtually(body)


def test_failures_in_the_start_period_do_not_count_and_it_is_scaled(
    virtually, target, report
) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.ECONNREFUSED
        bench.insides.reported = report()
        bench.prober.watch([target(http(start_period_seconds=5), time_scale=10.0)])
        await bench.run(20)  # until it is first asked whether it has booted
        assert (await bench.run(49)).healthy is None
        assert (await bench.run(8)).healthy is False

    virtually(body)


def test_eager_failures_count_once_an_interval(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.ECONNREFUSED
        bench.insides.reported = report()
        bench.prober.watch([target(http(interval_seconds=10, retries=3))])
        await bench.run(2)  # until it is first asked whether it has booted
        assert (await bench.run(19)).healthy is None
        assert (await bench.run(3)).healthy is False

    virtually(body)


def test_it_takes_as_many_failures_as_retries_and_one_success(virtually, target) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(http(interval_seconds=2, retries=3))])
        since = (await bench.run(1)).since
        bench.server.error = errno.ECONNREFUSED
        health = await bench.run(4)
        assert (health.healthy, health.since, health.failures) == (True, since, 2)
        health = await bench.run(2)
        assert (health.healthy, health.failures) == (False, 3)
        assert health.since > since
        news = len(bench.changes)
        assert (await bench.run(4)).failures == 5
        assert len(bench.changes) == news
        bench.server.error = None
        assert (await bench.run(2)).healthy is True
        bench.server.error = errno.ECONNREFUSED
        assert (await bench.run(4)).healthy is True

    virtually(body)


def test_a_silent_server_fails_after_the_scaled_time_out(virtually, target) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(http(timeout_seconds=1, retries=1), time_scale=10.0)])
        await bench.run(0.1)
        bench.server.silent = True
        assert (await bench.run(11.5)).healthy is True
        health = await bench.run(1)
        assert (health.healthy, health.message) == (False, "no answer within 10 s")

    virtually(body)


def test_no_port_is_said(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.insides.reported = report()
        bench.prober.watch([target(http(), port=None)])
        health = await bench.run(10)
        assert health.healthy is False
        assert "expose" in health.message

    virtually(body)


def test_unit_follows_the_guests_report(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(unit())])
        assert (await bench.run(10)).message == "booting"
        bench.insides.reported = report("activating")
        health = await bench.run(1)
        assert (health.healthy, health.message) == (None, "the service is starting")
        bench.insides.reported = report("active")
        health = await bench.run(1)
        assert (health.healthy, health.report) == (True, report("active"))
        bench.insides.reported = report("failed", exit_code=3)
        health = await bench.run(8)
        assert (health.healthy, health.message) == (
            False,
            "the service has failed with exit code 3",
        )

    virtually(body)


def test_a_slow_guest_is_left_in_peace_most_of_the_time(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.insides.reported = report("active")
        bench.insides.seconds = 1.0
        bench.prober.watch([target(unit(interval_seconds=1))])
        await bench.run(110)
        assert len(bench.insides.reports) == 10

    virtually(body)


def test_unit_without_an_agent_and_none_are_healthy_at_once(virtually, target) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(unit(), has_agent=False)])
        assert (await bench.run(0.1)).healthy is True
        bench.prober.watch([])
        bench.prober.watch([target(HealthCheck(kind=HealthKind.NONE), has_agent=False)])
        assert (await bench.run(0.1)).healthy is True

    virtually(body)


def test_commands(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.insides.reported = report()
        bench.prober.watch([target(HealthCheck(kind=HealthKind.CMD_SHELL, argument=("exit $X",)))])
        assert (await bench.run(1)).healthy is True
        assert bench.insides.commands[0] == ("/bin/sh", "-c", "exit $X")
        bench.insides.code, bench.insides.output = 3, b"first\nno \x1b[31mdatabase\n"
        health = await bench.run(8)
        assert health.healthy is False
        assert health.message == "the check's command ended with 3: no [31mdatabase"
        bench.prober.watch([target(HealthCheck(kind=HealthKind.CMD, argument=("probe", "-x")))])
        await bench.run(0.1)
        assert bench.insides.commands[-1] == ("probe", "-x")

    virtually(body)


def test_commands_need_an_agent(virtually, target) -> None:
    async def body(bench) -> None:
        check = HealthCheck(kind=HealthKind.CMD, argument=("true",))
        bench.prober.watch([target(check, has_agent=False)])
        health = await bench.run(70)
        assert health.healthy is False
        assert "agent" in health.message

    virtually(body)


def test_cloud_init_belongs_to_readiness(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.insides.reported = report(cloud_init="running")
        bench.prober.watch([target(http(), wants_cloud_init=True)])
        health = await bench.run(5)
        assert (health.healthy, health.message) == (None, "waiting for cloud-init")
        bench.insides.reported = report(cloud_init="error", cloud_init_detail="no such package")
        health = await bench.run(3)
        assert (health.healthy, health.message) == (False, "cloud-init failed: no such package")
        bench.insides.reported = report(cloud_init="done")
        assert (await bench.run(3)).healthy is True
        asked = len(bench.insides.reports)
        await bench.run(20)
        assert len(bench.insides.reports) == asked

    virtually(body)


def test_cloud_init_that_nobody_wanted_does_not_matter(virtually, target, report) -> None:
    async def body(bench) -> None:
        bench.insides.reported = report(cloud_init="running")
        bench.prober.watch([target(unit())])
        assert (await bench.run(1)).healthy is True

    virtually(body)


def test_the_reconciler_is_woken_by_changes_only(virtually, target) -> None:
    async def body(bench) -> None:
        bench.server.error = errno.ECONNREFUSED
        bench.prober.watch([target(http())])
        await bench.run(10)
        bench.server.error = None
        await bench.run(20)
        assert [health.healthy for health in bench.changes] == [True]

    virtually(body)


def test_another_check_keeps_the_verdict_until_it_has_one(virtually, target) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(http(retries=1))])
        await bench.run(1)
        bench.server.error = errno.ECONNREFUSED
        bench.prober.watch([target(http(retries=2))])
        assert (await bench.run(0.1)).healthy is True
        assert (await bench.run(2)).healthy is False

    virtually(body)


def test_a_restarted_guest_has_no_history(virtually, target) -> None:
    async def body(bench) -> None:
        bench.prober.watch([target(http())])
        await bench.run(1)
        bench.server.error = errno.ECONNREFUSED
        again = ("shop", "orders-1", 2)
        bench.prober.watch([target(http(), key=again)])
        await asyncio.sleep(1)
        assert list(bench.prober.results()) == [again]
        assert bench.prober.results()[again].healthy is None

    virtually(body)


def test_a_broken_probe_is_a_failure_and_probing_goes_on(virtually, target, report) -> None:
    async def body(bench) -> None:
        good = bench.insides.run_as_service
        bench.insides.reported = report()

        async def broken(*arguments: object) -> tuple[int, bytes]:
            raise RuntimeError("oops")

        bench.insides.run_as_service = broken
        bench.prober.watch([target(HealthCheck(kind=HealthKind.CMD, argument=("x",)))])
        assert "oops" in (await bench.run(8)).message
        bench.insides.run_as_service = good
        assert (await bench.run(3)).healthy is True

    with capture_logs() as logs:
        virtually(body)
    assert {entry["event"] for entry in logs} == {"probe failed"}


def test_libvirt_away_for_a_while_does_not_end_the_asking(virtually, target, report) -> None:
    """Neither is a GuestError: one that got through would end this instance's probing for good."""

    async def body(bench) -> None:
        good = bench.insides.report

        async def away(*arguments: object) -> object:
            raise HypervisorError("libvirtd is not there")

        bench.insides.report = away
        bench.server.error = errno.ECONNREFUSED
        bench.prober.watch([target(http()), target(unit(), key=("shop", "orders-2", 1))])
        await bench.run(5)
        bench.insides.report = good
        bench.insides.reported = report("active")
        bench.server.error = None
        await bench.run(10)
        assert [h.healthy for h in bench.prober.results().values()] == [True, True]

    virtually(body)


def test_a_guest_without_its_identity_is_not_well(virtually, target) -> None:
    """It says "none" of its service, as one that has none; but its bundle could not be applied."""

    async def body(bench) -> None:
        bench.insides.reported = GuestReport(instance_id="", service="none", cloud_init="off")
        bench.prober.watch([target(unit(retries=1))])
        health = await bench.run(10)
        assert health.healthy is False
        assert "identity" in health.message

    virtually(body)
