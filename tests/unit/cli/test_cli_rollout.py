"""vmorch rollout, and what `up` says of rollouts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.model.rollout import Phase, Rollout

Run = Callable[..., tuple[int, str, str]]

FILE = """\
name: shop
services:
  web:
    build: .
    command: [COMMAND]
    deploy: {replicas: 2}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop(directory: Path, run: Run, daemon: Any) -> Path:
    declare(directory, "one")
    assert run("up", "-d")[0] == 0
    put(daemon, phase=Phase.COMPLETED)
    declare(directory, "two")
    return directory


def declare(directory: Path, command: str) -> None:
    (directory / "vmorch.yaml").write_text(FILE.replace("COMMAND", command))


def last(daemon: Any) -> Rollout:
    found: Rollout = daemon.do(daemon.store.latest_rollout("shop", "web"))
    return found


def put(daemon: Any, **changes: Any) -> None:
    was = last(daemon)
    daemon.do(daemon.store.put_rollout(replace(was, **changes), was=was))


def roll_back(daemon: Any) -> None:
    was = last(daemon)
    ended = replace(was, phase=Phase.FAILED, reason="web-3: HTTP 500", failed=(3,))
    work = daemon.store.roll_back(ended, 1, was=was, reason="web-3: HTTP 500", now=time.time())
    daemon.do(work)


def test_status_history_and_undo(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    status, out, _ = run("rollout", "status", "web")
    assert status == 0
    assert "rollout to revision 2, 0 of 2 replaced" in out
    steps = json.loads(run("rollout", "undo", "web", "--dry-run", "-o", "json")[1])
    assert steps[0]["subject"] == "web"
    assert last(daemon).number == 2
    status, out, _ = run("rollout", "undo", "web", "-o", "json")
    assert (status, json.loads(out)["revision"]) == (0, 1)
    out = run("rollout", "history", "web")[1]
    assert [line.split()[3] for line in out.splitlines()[1:]] == [
        "completed",
        "superseded",
        "running",
    ]


def test_diff_names_what_changed(shop: Path, run: Run) -> None:
    run("up", "-d")
    out = run("rollout", "diff", "web")[1]
    assert out.splitlines() == ["command:", '  - ["one"]', '  + ["two"]']


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("rollout", "resume", "web"), 7),
        (("rollout", "promote", "web"), 7),
        (("rollout", "undo", "web", "--to", "9"), 4),
        (("rollout", "status", "wob"), 4),
        (("rollout", "undo", "web", "--to", "0"), 2),
        (("up", "--canary", "100%"), 2),
        (("up", "--canary", "many"), 2),
    ],
)
def test_what_cannot_be_ends_with_its_code(
    shop: Path, run: Run, daemon: Any, words: tuple[str, ...], status: int
) -> None:
    run("up", "-d")
    before = last(daemon)
    assert run(*words)[0] == status
    assert last(daemon) == before


def test_a_canary_waits_for_its_user(shop: Path, run: Run, daemon: Any) -> None:
    assert run("up", "-d", "--canary", "10%")[0] == 0
    assert last(daemon).canary == 10
    put(daemon, passed=(3,))
    status, out, _ = run("rollout", "status", "web", "--wait")
    assert status == 0
    assert "10 % of the requests" in out


def later(work: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(0.5, work)
    timer.start()
    return timer


def test_waiting_ends_when_it_is_rolled_back(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    timer = later(lambda: roll_back(daemon))
    status, _, err = run("rollout", "status", "web", "--wait")
    timer.join()
    assert status == 1
    assert "web-3: HTTP 500" in err


def test_waiting_ends_when_it_is_completed(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    timer = later(lambda: put(daemon, phase=Phase.COMPLETED))
    assert run("rollout", "status", "web", "--wait")[0] == 0
    timer.join()
    assert run("rollout", "status", "web", "--wait")[0] == 0


def test_waiting_has_its_bound(shop: Path, run: Run) -> None:
    run("up", "-d")
    assert run("rollout", "status", "web", "--wait", "--timeout", "0.1")[0] == 6
