from __future__ import annotations

from pathlib import Path

import pytest

from vmorch.config import Settings, load_settings, metrics_endpoint
from vmorch.errors import UsageError
from vmorch.metrics.rates import GAP_SECONDS


def of(tmp_path: Path, text: str, **variables: str) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load_settings(variables, file)


def test_published_ports_are_this_hosts_own_unless_the_settings_say_more(tmp_path: Path) -> None:
    assert of(tmp_path, "").publish_address == "127.0.0.1"
    assert of(tmp_path, 'publish_address = "0.0.0.0"').publish_address == "0.0.0.0"
    both = of(tmp_path, 'publish_address = "0.0.0.0"', VMORCH_PUBLISH_ADDRESS="10.0.0.5")
    assert both.publish_address == "10.0.0.5"


@pytest.mark.parametrize("text", ["", "::", "localhost", "10.0.0", "10.0.0.0/24"])
def test_what_is_no_ipv4_address_is_refused_by_the_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="publish_address"):
        of(tmp_path, f'publish_address = "{text}"')


def test_how_many_snapshots_are_kept_can_be_none_but_not_less(tmp_path: Path) -> None:
    assert of(tmp_path, "").snapshots_kept == 20
    assert of(tmp_path, "snapshots_kept = 0").snapshots_kept == 0
    with pytest.raises(UsageError, match="snapshots_kept"):
        of(tmp_path, "snapshots_kept = -1")


def test_metrics_are_answered_on_no_address_unless_one_is_named(tmp_path: Path) -> None:
    assert of(tmp_path, "").metrics_address == ""
    assert of(tmp_path, 'metrics_address = "[::1]:9464"').metrics_address == "[::1]:9464"
    assert metrics_endpoint("[::1]:9464") == ("::1", 9464)
    assert metrics_endpoint("127.0.0.1:9464") == ("127.0.0.1", 9464)


@pytest.mark.parametrize(
    "text", ["9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536"]
)
def test_metrics_need_an_address_and_a_port(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="metrics_address"):
        of(tmp_path, f'metrics_address = "{text}"')


def test_a_tick_takes_a_second_at_least_and_no_longer_than_there_are_rates(tmp_path: Path) -> None:
    assert of(tmp_path, "metrics_tick_seconds = 10").metrics_tick_seconds == 10
    assert GAP_SECONDS > 2 * 10, "also when a look in between has failed"
    for seconds in (0, 11, 60):
        with pytest.raises(UsageError, match="metrics_tick_seconds"):
            of(tmp_path, f"metrics_tick_seconds = {seconds}")
    with pytest.raises(UsageError, match="must be 10 or less"):
        of(tmp_path, "", VMORCH_METRICS_TICK_SECONDS="31")


def test_what_is_kept_for_the_host_and_how_often_its_cpus_are_counted(tmp_path: Path) -> None:
    assert of(tmp_path, "").cpu_overcommit == 4.0
    assert of(tmp_path, "cpu_overcommit = 2").cpu_overcommit == 2.0
    assert of(tmp_path, "", VMORCH_CPU_OVERCOMMIT="1.5").cpu_overcommit == 1.5
    assert of(tmp_path, "kept_memory_bytes = 0\nkept_disk_bytes = 7").kept_disk_bytes == 7


@pytest.mark.parametrize(
    "text",
    [
        "cpu_overcommit = 0",
        "cpu_overcommit = nan",
        "cpu_overcommit = inf",
        "cpu_overcommit = 'many'",
        "kept_memory_bytes = -1",
        "kept_disk_bytes = -1",
        "concurrent_boots = -1",
    ],
)
def test_a_capacity_that_cannot_be_is_refused_by_the_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=text.split(" = ")[0]):
        of(tmp_path, text)
