"""vmorch rollout, and what `up` says of rollouts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Coroutine
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
    daemon.do(changed(daemon.store, **changes))


async def changed(store: Any, **changes: Any) -> None:
    was = await store.latest_rollout("shop", "web")
    await store.put_rollout(replace(was, **changes), was=was)


def roll_back(daemon: Any) -> None:
    daemon.do(led_back(daemon.store))


async def led_back(store: Any) -> None:
    was = await store.latest_rollout("shop", "web")
    ended = replace(was, phase=Phase.FAILED, reason="web-3: HTTP 500", failed=(3,))
    await store.roll_back(ended, 1, was=was, reason="web-3: HTTP 500", now=time.time())


def right_after_apply(
    daemon: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """What `up` applies has gone on before `up` can look."""
    apply = daemon.store.apply

    async def applied(*arguments: Any, **options: Any) -> Any:
        record = await apply(*arguments, **options)
        await change()
        return record

    monkeypatch.setattr(daemon.store, "apply", applied)


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
    assert "'web' went back to revision 1: web-3: HTTP 500" in err
    assert "'vmorch logs web-3'" in err


def test_the_way_back_from_a_bad_revision_is_no_success(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    roll_back(daemon)
    timer = later(lambda: put(daemon, phase=Phase.COMPLETED))
    status, _, err = run("rollout", "status", "web", "-w")
    timer.join()
    assert (status, "went back to revision 1" in err) == (1, True)
    assert run("rollout", "status", "web", "-w")[0] == 1, "also when asked later"
    assert run("rollout", "status", "web")[0] == 0


def test_an_undo_that_is_done_is_a_success(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    run("rollout", "undo", "web")
    put(daemon, phase=Phase.COMPLETED)
    assert run("rollout", "status", "web", "--wait")[0] == 0


def test_an_undo_ends_the_waiting_for_what_it_undoes(shop: Path, run: Run, daemon: Any) -> None:
    from vmorch.client import Client

    run("up", "-d")
    timer = later(lambda: Client(daemon.settings.socket).undo("shop", "web"))
    status, _, err = run("rollout", "status", "web", "--wait")
    timer.join()
    assert (status, "went back to revision 1: undone by the user" in err) == (1, True)


@pytest.mark.parametrize("early", [True, False])
def test_waiting_ends_when_it_is_paused(shop: Path, run: Run, daemon: Any, early: bool) -> None:
    run("up", "-d")
    timer = later(lambda: put(daemon, phase=Phase.PAUSED, reason="paused by the user"))
    if early:
        timer.join()
    status, _, err = run("rollout", "status", "web", "--wait")
    timer.join()
    assert status == 1
    assert "to revision 2 is paused: paused by the user" in err
    assert "'vmorch rollout resume web'" in err


def test_waiting_ends_when_it_is_completed(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    timer = later(lambda: put(daemon, phase=Phase.COMPLETED))
    assert run("rollout", "status", "web", "--wait")[0] == 0
    timer.join()
    assert run("rollout", "status", "web", "--wait")[0] == 0


def test_waiting_has_its_bound(shop: Path, run: Run) -> None:
    run("up", "-d")
    assert run("rollout", "status", "web", "--wait", "--timeout", "0.1")[0] == 6


def test_up_ends_with_what_became_of_its_rollout(
    shop: Path, run: Run, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right_after_apply(daemon, monkeypatch, lambda: led_back(daemon.store))
    status, out, err = run("up")
    assert (status, out) == (1, "")
    assert "'web' went back to revision 1: web-3: HTTP 500" in err
    assert "'vmorch logs web-3'" in err


def test_up_ends_at_once_where_its_rollout_is_paused(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    put(daemon, phase=Phase.PAUSED, reason="paused by the user")
    status, _, err = run("up")
    assert (status, "is paused: paused by the user" in err) == (1, True)


def test_up_waits_for_a_canary_to_pass(
    shop: Path, run: Run, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right_after_apply(daemon, monkeypatch, lambda: changed(daemon.store, passed=(3,)))
    assert run("up", "--canary", "10%")[0] == 0
    assert last(daemon).canary == 10


def test_up_says_who_gets_no_canary(directory: Path, run: Run, daemon: Any) -> None:
    declare(directory, "one")
    said = "'web' gets no canary: no earlier revision of it was rolled out whole."
    assert said in run("up", "-d", "--canary", "10%")[2]
    put(daemon, phase=Phase.COMPLETED)
    declare(directory, "two")
    assert run("up", "-d")[0] == 0
    said = "'web' gets no canary: its rollout was under way already."
    assert said in run("up", "-d", "--canary", "10%")[2]


def test_ps_tells_of_a_rollout_below_its_table(shop: Path, run: Run, daemon: Any) -> None:
    assert "web:" not in run("ps")[1]
    run("up", "-d")
    assert run("ps")[1].splitlines()[-1].startswith("web: rollout to revision 2, 0 of 2 replaced")
    assert run("ps", "-a")[1].splitlines()[-1].startswith("web: rollout to revision 2")
    put(daemon, phase=Phase.PAUSED, reason="paused by the user")
    assert "web: rollout to revision 2 is paused, 0 of 2 replaced" in run("ps")[1]
    put(daemon, phase=Phase.RUNNING)
    roll_back(daemon)
    put(daemon, phase=Phase.COMPLETED)
    told = run("ps")[1].splitlines()[-1]
    assert told == "web: the last rollback, to revision 1, completed: web-3: HTTP 500"
    rows = json.loads(run("ps", "-o", "json")[1])
    assert {row["service"] for row in rows} == {"web"}


def test_a_first_start_is_no_rollout_to_tell_of(directory: Path, run: Run) -> None:
    declare(directory, "one")
    run("up", "-d")
    assert "rollout" not in run("ps")[1]


def test_the_logs_of_a_failed_instance_outlive_it(shop: Path, run: Run, daemon: Any) -> None:
    run("up", "-d")
    daemon.write_log("shop", "web-3", "1700000000.5 web-3 app: no such table\n")
    roll_back(daemon)
    assert "web-3" not in {row["instance"] for row in json.loads(run("ps", "-o", "json")[1])}
    status, out, _ = run("logs", "web-3")
    assert (status, "no such table" in out) == (0, True)


def test_status_lists_the_instances(shop: Path, run: Run) -> None:
    run("up", "-d")
    lines = run("rollout", "status", "web")[1].splitlines()
    assert [line.split()[:4] for line in lines if line.startswith("web-")] == [
        ["web-1", "1", "ready", "-"],
        ["web-2", "1", "ready", "-"],
    ]


@pytest.mark.parametrize(
    "name", ["status", "history", "diff", "pause", "resume", "promote", "undo"]
)
def test_each_command_has_help_with_an_example(run: Run, name: str) -> None:
    status, out, _ = run("rollout", name, "--help")
    assert status == 0
    assert f"vmorch rollout {name} orders" in out
