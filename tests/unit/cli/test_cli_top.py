"""vmorch top and ps --stats, over the real API."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.metrics.looks import MIB, guest, look, subject, traffic
from vmorch.cli.commands.top import _View
from vmorch.cli.measures import SORT_HELP, SORT_KEYS, SORTS
from vmorch.cli.screen import framed
from vmorch.model.access import Access
from vmorch.model.counters import MemoryWeight, TrafficCounters
from vmorch.model.use import HostUse

LEFT = "\x1b[?25h\x1b[?1049l"
"""The cursor and the screen of before are back."""

Run = Callable[..., tuple[int, str, str]]

FILE = "name: shop\nservices:\n  web:\n    build: ./app\n    deploy: {replicas: 2}\n"
HOST = HostUse(
    at=12,
    cpus=4,
    busy_cpus=1.25,
    memory_bytes=8 * MIB,
    available_bytes=6 * MIB,
    merged_bytes=MIB,
)


ACCESS = Access(
    time=10,
    environment="shop",
    service="web",
    instance="web-1",
    client="127.0.0.1",
    http=1,
    tls="",
    method="GET",
    host="web.localhost",
    uri="/",
    status=200,
    sent_bytes=1,
    received_bytes=2,
    seconds=9.0,
    wait_seconds=0.002,
    connect_seconds=0.001,
    answer_seconds=0.0,
    end="--",
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "app").mkdir()
    (tmp_path / "vmorch.yaml").write_text(FILE)
    (tmp_path / "app" / "Dockerfile").write_text("FROM debian:12\n")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def measured(daemon: Any, run: Run) -> None:
    """web-1 is heavy and slow, web-2 busy; web-3 has just begun."""
    run("up")
    subjects = [subject(n) for n in (1, 2, 3)]
    weight = MemoryWeight(pss_bytes=30 * MIB, shared_bytes=10 * MIB)
    for at, requests in ((10.0, 0), (12.0, 50)):
        counters = {
            "uuid-1": guest(at / 20, rss_bytes=60 * MIB, used_bytes=9 * MIB, usable_bytes=90 * MIB),
            "uuid-2": guest(at / 5, rss_bytes=40 * MIB, weight=weight),
        }
        report = traffic(
            http=TrafficCounters(requests=requests, response_seconds=0.02), instance="web-2"
        )
        seen = look(at, subjects=subjects, guests=counters, traffic=report)
        daemon.history.take(replace(seen, host=HOST))


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_once_without_a_terminal(run: Run, measured: None) -> None:
    code, out, _ = run("top")
    host, header, *lines = out.splitlines()
    assert code == 0
    assert host == ("host: 1.25 of 4 cpus busy, 2M of 8M memory in use, 1M saved by merged pages")
    assert header.split()[:2] == ["INSTANCE", "CPU"]
    assert lines[0].split() == [
        *("web-1", "0.05", "10%", "-", "9M", "10%", "60M"),
        *("-",) * 9,
    ]
    assert "25.0" in lines[1].split()
    assert "20ms" in lines[1].split()


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("name", ["web-1", "web-2", "web-3"]),
        ("cpu", ["web-2", "web-1", "web-3"]),
        ("memory", ["web-1", "web-2", "web-3"]),
        ("requests", ["web-2", "web-1", "web-3"]),
        ("errors", ["web-2", "web-1", "web-3"]),
    ],
)
def test_sorted_and_the_unknown_last(run: Run, measured: None, sort: str, order: list[str]) -> None:
    out = run("top", "--once", "--sort", sort)[1]
    assert [row[0] for row in rows(out)[2:]] == order


def test_services_and_what_they_cost(run: Run, measured: None) -> None:
    _, header, line = rows(run("top", "--services")[1])
    row = dict(zip(header, line, strict=False))
    assert (row["SERVICE"], row["READY"], row["SHARED"]) == ("web", "3/3", "10M")
    held, declared = (60 + 30) * 2 * MIB, 2 * 2 * 100 * MIB
    assert line[-2:] == [f"{held / 3.6e12:.3f}", f"{held / declared:.0%}"]


def test_quantiles_of_services_that_log_their_requests(
    daemon: Any, run: Run, measured: None, tmp_path: Path
) -> None:
    columns = ("P50", "P95", "P99")

    def shown() -> list[str]:
        _, header, line = rows(run("top", "--services")[1])
        row = dict(zip(header, line, strict=False))
        return [row[name] for name in columns]

    daemon.proxy.log = [replace(ACCESS, answer_seconds=n / 1000) for n in range(100)]
    assert shown() == ["-"] * 3, "no route is logged"
    logged = FILE + "    expose: [80]\n    route: {host: web.localhost, access_log: true}\n"
    (tmp_path / "vmorch.yaml").write_text(logged)
    run("up")
    assert shown() == ["52ms", "97ms", "101ms"]
    (found,) = json.loads(run("top", "--services", "-o", "json")[1])
    assert found["latency"]["answers"] == 100


def test_for_programs(run: Run, measured: None) -> None:
    found = json.loads(run("top", "-o", "json", "--sort", "cpu")[1])
    assert [row["instance"] for row in found] == ["web-2", "web-1", "web-3"]
    assert found[0]["now"]["pss_bytes"] == 30 * MIB
    assert found[2]["now"]["cpus"] is None


def test_only_the_services_named_and_every_environment(run: Run, measured: None) -> None:
    assert len(rows(run("top", "db")[1])) == 2
    assert rows(run("top", "-a")[1])[1][0] == "ENVIRONMENT"


def test_ps_with_stats(run: Run, measured: None) -> None:
    header, first, second = rows(run("ps", "--stats")[1])
    assert "USED" in header
    assert first[-6:-1] == ["0.05", "10%", "9M", "10%", "-"]
    assert second[-5:-1] == ["0.20", "40%", "-", "25.0"]
    assert "stats" not in json.loads(run("ps", "-o", "json")[1])[0]
    found = json.loads(run("ps", "--stats", "-o", "json")[1])
    assert found[1]["stats"]["requests"] == 25.0


def test_ps_with_stats_of_what_was_not_looked_at_yet(run: Run) -> None:
    run("up")
    assert rows(run("ps", "--stats")[1])[1][-5:-1] == ["-"] * 4


def test_every_order_has_a_key_of_its_own_that_means_nothing_else() -> None:
    assert sorted(SORT_KEYS.values()) == sorted(SORTS)
    assert not SORT_KEYS.keys() & {"s", "q"}
    assert SORT_HELP.startswith("n(ame) c(pu) m(emory)")


def test_a_key_sorts_switches_or_ends(daemon: Any, run: Run, measured: None) -> None:
    from vmorch.client import Client

    view = _View(Client(daemon.settings.socket), "shop", [], by_service=False, sort="name")
    assert not view.typed("c")
    assert rows("\n".join(view.lines()))[2][0] == "web-2"
    assert not view.typed("s")
    assert rows("\n".join(view.lines()))[1][0] == "SERVICE"
    assert not view.typed("?")
    assert view.typed("q")


def test_a_frame_fits_the_terminal() -> None:
    text = framed([f"line {n} is long" for n in range(9)], columns=6, rows=4)
    assert text.count("\n") == 3
    assert "line 2" in text
    assert "line 3" not in text
    assert "is" not in text


def test_live_on_a_terminal_until_q(daemon: Any, run: Run, measured: None) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "vmorch.cli.main", "top", "-a", "--interval", "0.1"]
    environment = {**os.environ, "VMORCH_SOCKET": str(daemon.settings.socket)}
    program = subprocess.Popen(words, stdin=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    try:
        for _ in range(2):  # it goes on by itself
            assert "web-1" in shown_until(ours, "q(uit)")
        os.write(ours, b"s")
        assert "READY" in shown_until(ours, "q(uit)")
        os.write(ours, b"q")
        assert shown_until(ours, LEFT).endswith(LEFT)
        assert program.wait(timeout=20) == 0
    finally:
        program.kill()
        program.wait()
        os.close(ours)


def shown_until(terminal: int, mark: str) -> str:
    text = ""
    while mark not in text:
        assert select.select([terminal], [], [], 20)[0], f"no {mark!r} in {text!r}"
        text += os.read(terminal, 4096).decode()
    return text
