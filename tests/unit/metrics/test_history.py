"""From looks to measures: rates, resets, gaps, what is unknown, windows and sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.metrics.looks import MIB, guest, look, subject, traffic
from vmorch.metrics.history import WINDOW_SECONDS, History
from vmorch.model.counters import MEAN_OF, MemoryWeight, TrafficCounters, TrafficReport
from vmorch.model.use import InstanceUse, Totals


def history_of(*looks: object) -> History:
    history = History()
    for one in looks:
        history.take(one)  # type: ignore[arg-type]
    return history


def latest(history: History, uuid: str = "uuid-1") -> InstanceUse:
    return history.instances[uuid].latest


def test_a_rate_is_the_rise_over_the_time_and_the_share_is_of_the_cap() -> None:
    measure = latest(
        history_of(
            look(10, guest(3.0, throttled_seconds=1.0, received_bytes=0)),
            look(12, guest(3.5, throttled_seconds=1.5, received_bytes=3000)),
        )
    )
    assert (measure.cpus, measure.cpu_share) == (0.25, 0.5)
    assert (measure.throttled, measure.received_bytes) == (0.25, 1500)
    assert measure.read_bytes is None


def test_the_first_look_knows_no_rate_and_no_sum() -> None:
    history = history_of(look(10, guest(3.0, rss_bytes=5)))
    assert (latest(history).cpus, latest(history).rss_bytes) == (None, 5)
    assert history.instances["uuid-1"].totals == Totals()


def test_a_new_process_has_counted_from_nothing() -> None:
    history = history_of(look(10, guest(500.0, life=1)), look(12, guest(1.0, life=2)))
    assert latest(history).cpus == 0.5


def test_a_counter_that_fell_says_nothing() -> None:
    assert latest(history_of(look(10, guest(500.0)), look(12, guest(1.0)))).cpus is None


@pytest.mark.parametrize("then", [3610.0, 9.0, 10.0])
def test_a_wall_clock_that_is_set_changes_no_rate_and_no_sum(then: float) -> None:
    before = traffic(http=TrafficCounters(requests=10))
    now = traffic(http=TrafficCounters(requests=14))
    history = history_of(
        look(10, guest(1.0, rss_bytes=MIB), guests_at=50, traffic_at=50, traffic=before),
        look(then, guest(2.0, rss_bytes=MIB), guests_at=52, traffic_at=52, traffic=now),
    )
    assert (latest(history).at, latest(history).cpus, latest(history).requests) == (then, 0.5, 2.0)
    totals = history.services["shop", "web"].totals
    assert (totals.cpu_seconds, totals.held_byte_seconds) == (1.0, 2 * MIB)


def test_each_source_is_divided_by_the_time_between_its_own_answers() -> None:
    """The proxy's second answer came late, and held up the end of that look."""
    counts = [traffic(http=TrafficCounters(requests=n)) for n in (0, 20, 24)]
    history = history_of(
        look(10, guest(1.0), guests_at=10, traffic_at=10, traffic=counts[0]),
        look(20, guest(2.0), guests_at=12, traffic_at=20, traffic=counts[1]),
        look(22, guest(7.0), guests_at=22, traffic_at=22, traffic=counts[2]),
    )
    assert (latest(history).cpus, latest(history).requests) == (0.5, 2.0)


def test_after_a_gap_there_is_no_rate_and_nothing_is_lost_of_the_sums() -> None:
    before = traffic(http=TrafficCounters(requests=10))
    now = traffic(http=TrafficCounters(requests=14, errors=1))
    history = history_of(
        look(10, guest(1.0, rss_bytes=5, sent_bytes=0), traffic=before),
        look(100, guest(7.0, rss_bytes=5, sent_bytes=8), traffic=now),
    )
    assert (latest(history).cpus, latest(history).requests) == (None, None)
    for totals in (
        history.instances["uuid-1"].totals,
        history.services["shop", "web"].totals,
    ):
        assert (totals.cpu_seconds, totals.sent_bytes, totals.held_byte_seconds) == (6.0, 8, 450)
        assert (totals.requests, totals.errors) == (4, 1)


def test_what_was_counted_across_a_look_that_failed_is_in_the_sums() -> None:
    counts = [traffic(http=TrafficCounters(requests=n)) for n in (10, 16)]
    history = history_of(
        look(10, guest(1.0, rss_bytes=5), traffic=counts[0]),
        look(12, guests=None, failed=["hypervisor", "proxy"]),
        look(14, guest(3.0, rss_bytes=5), traffic=counts[1]),
    )
    totals = history.services["shop", "web"].totals
    assert (totals.cpu_seconds, totals.requests, totals.held_byte_seconds) == (2.0, 6, 20)
    assert history.instances["uuid-1"].totals == totals


def test_a_process_that_began_in_a_gap_has_held_memory_for_nobody_knows_how_long() -> None:
    looks = (look(10, guest(9.0, rss_bytes=5)), look(100, guest(1.0, life=2, rss_bytes=5)))
    totals = history_of(*looks).instances["uuid-1"].totals
    assert (totals.cpu_seconds, totals.held_byte_seconds) == (1.0, 0)


def test_an_instance_that_is_new_since_the_last_look_has_held_memory_since() -> None:
    history = history_of(look(10, subjects=[]), look(12, guest(1.0, rss_bytes=5)))
    assert history.services["shop", "web"].totals.held_byte_seconds == 10


def test_what_could_not_be_asked_is_unknown_and_the_next_rate_spans_both_ticks() -> None:
    looks = [look(10, guest(1.0)), look(12, guests=None, failed=["hypervisor"])]
    history = history_of(*looks)
    assert latest(history) == InstanceUse(at=12)
    service = history.services["shop", "web"].latest
    assert (service.ready, service.cpu_share, service.cpu_told) == (1, None, 0)
    history.take(look(14, guest(3.0)))
    assert latest(history).cpus == 0.5
    assert history.failures == {"hypervisor": 1}


def test_requests_are_of_the_instance_and_of_its_service() -> None:
    before = TrafficCounters(connections=10, requests=10, errors=1)
    now = TrafficCounters(
        sessions=3, queued=2, connections=30, requests=20, errors=2, response_seconds=0.25
    )
    history = history_of(
        look(10, traffic=traffic(http=before)), look(12, traffic=traffic(http=now))
    )
    measure, service = latest(history), history.services["shop", "web"].latest
    assert (measure.sessions, measure.requests, measure.errors) == (3, 5.0, 0.5)
    assert measure.response_seconds == 0.25
    assert (service.sessions, service.queued, service.requests) == (5, 2, 5.0)
    totals = history.services["shop", "web"].totals
    assert (totals.requests, totals.errors, totals.connections) == (10, 1, 20)


def test_a_mean_stays_what_it_was_while_nobody_asks() -> None:
    seen = traffic(http=TrafficCounters(requests=5, response_seconds=0.25))
    history = history_of(look(10, traffic=seen), look(12, traffic=seen))
    assert history.services["shop", "web"].latest.response_seconds == 0.25
    assert latest(history).response_seconds == 0.25


def test_a_mean_over_several_ports_is_of_as_many_answers_as_each_is_of() -> None:
    answered = [
        TrafficCounters(requests=3 * MEAN_OF, response_seconds=0.1),
        TrafficCounters(requests=MEAN_OF, response_seconds=0.3),
        TrafficCounters(),
    ]
    backends = {f"shop.web.{n}.http": counters for n, counters in enumerate(answered)}
    report = TrafficReport(backends={**backends, "vmorch-no-route": TrafficCounters(requests=9)})
    history = history_of(look(10, traffic=TrafficReport()), look(12, traffic=report))
    service = history.services["shop", "web"].latest
    assert (service.requests, service.response_seconds) == (2 * MEAN_OF, pytest.approx(0.2))


def test_a_reloaded_proxy_has_counted_from_nothing() -> None:
    before, now = TrafficCounters(requests=1000), TrafficCounters(requests=4)
    history = history_of(
        look(10, traffic=traffic(http=before)), look(12, traffic=traffic(life=8, http=now))
    )
    assert latest(history).requests == 2.0


def test_what_was_counted_before_the_daemon_began_is_in_no_sum() -> None:
    history = history_of(look(10, traffic=traffic(http=TrafficCounters(requests=1000))))
    assert history.services["shop", "web"].totals.requests == 0


def test_a_proxy_that_cannot_be_asked_is_no_idle_service() -> None:
    history = history_of(look(10, guest(1.0), traffic=None))
    assert history.services["shop", "web"].latest.sessions is None


def test_shares_are_means_of_ready_instances_and_sizes_sums_of_all() -> None:
    subjects = [subject(1), subject(2), subject(3, ready=False)]

    def counters(cpu: tuple[float, float, float]) -> dict[str, object]:
        return {
            f"uuid-{n}": guest(seconds, rss_bytes=MIB, used_bytes=n, usable_bytes=10)
            for n, seconds in enumerate(cpu, start=1)
        }

    history = history_of(
        look(10, subjects=subjects, guests=counters((0.0, 0.0, 0.0))),
        look(12, subjects=subjects, guests=counters((1.0, 0.5, 9.0))),
    )
    service = history.services["shop", "web"].latest
    assert (service.instances, service.ready) == (3, 2)
    assert service.cpu_share == pytest.approx((1.0 + 0.5) / 2)
    assert service.memory_share == pytest.approx(0.15)
    assert (service.cpu_told, service.memory_told) == (2, 2)
    assert (service.cpus, service.rss_bytes) == (5.25, 3 * MIB)


def test_a_service_without_instances_is_known_with_what_waits_for_it() -> None:
    waiting = traffic(http=TrafficCounters(queued=4))
    history = history_of(look(10, subjects=[], traffic=waiting))
    service = history.services["shop", "web"].latest
    assert (service.instances, service.ready, service.sessions) == (0, 0, 4)


def test_memory_held_costs_its_weight_and_declared_memory_while_there_is_a_guest() -> None:
    light = guest(1.0, rss_bytes=9, weight=MemoryWeight(pss_bytes=5, shared_bytes=2))
    history = history_of(look(10, guest(0.0)), look(12, guest(1.0, rss_bytes=9)), look(14, light))
    assert (latest(history).pss_bytes, latest(history).shared_bytes) == (5, 2)
    totals = history.services["shop", "web"].totals
    assert totals.held_byte_seconds == 2 * 9 + 2 * 5
    assert totals.declared_byte_seconds == 4 * 100 * MIB
    history.take(look(16))
    assert history.services["shop", "web"].totals == totals


def test_a_services_sums_outlive_its_instances_and_go_with_the_service() -> None:
    history = history_of(look(10, guest(0.0)), look(12, guest(1.0)))
    history.take(look(14, subjects=[]))
    assert history.services["shop", "web"].totals.cpu_seconds == 1.0
    assert history.instances == {}
    history.take(look(16, subjects=[], services={}))
    assert history.services == {}


def test_a_window_holds_the_last_ticks_and_the_whole_is_bounded() -> None:
    history = History()
    assert history.window("shop", "web", 60) == []
    for tick in range(1000):
        history.take(look(2.0 * tick, guest(float(tick))))
    assert [m.at for m in history.window("shop", "web", 6)] == [1994, 1996, 1998]
    recent = history.services["shop", "web"].recent
    assert recent[0].at == 1998 - WINDOW_SECONDS


def test_a_window_survives_a_clock_that_was_set_back() -> None:
    history = history_of(look(5000.0, guest(1.0)), look(10.0, guest(2.0)), look(12.0, guest(3.0)))
    assert [m.at for m in history.window("shop", "web", 60)] == [10.0, 12.0]


@given(
    st.lists(
        st.tuples(st.floats(0.1, 90), st.floats(0, 100), st.booleans()), min_size=1, max_size=30
    )
)
def test_sums_never_fall_and_come_to_what_was_counted(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Whatever lies between two looks, and whichever of them fail."""
    history = history_of(look(0.0, guest(0.0)))
    at = counted = told = 0.0
    for seconds, used, answers in steps:
        at, counted = at + seconds, counted + used
        before = history.instances["uuid-1"].totals.cpu_seconds
        if answers:
            history.take(look(at, guest(counted)))
            told = counted
        else:
            history.take(look(at, guests=None))
        assert history.instances["uuid-1"].totals.cpu_seconds >= before
    assert history.instances["uuid-1"].totals.cpu_seconds == pytest.approx(told)
    assert history.services["shop", "web"].totals.cpu_seconds == pytest.approx(told)


def test_two_instances_of_one_name_in_two_environments_have_their_own_requests() -> None:
    other = subject(1, environment="test", uuid="uuid-t")
    busy = traffic(http=TrafficCounters(requests=0))
    more = traffic(http=TrafficCounters(requests=8))
    looks = [
        replace(look(at, traffic=report), subjects=[subject(), other])
        for at, report in ((10.0, busy), (12.0, more))
    ]
    history = history_of(*looks)
    assert latest(history).requests == 4.0
    assert latest(history, "uuid-t").requests is None
