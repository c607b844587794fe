"""vmorch why, and what --dry-run says of orders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.model.instance import State
from vmorch.planner.look import Look
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

Run = Callable[..., tuple[int, str, str]]

FILE = """\
name: shop
services:
  db:
    build: .
    volumes: ["data:/data"]
  web:
    build: .
    depends_on: {db: {condition: service_healthy}}
    deploy: {replicas: 2}
volumes:
  data: {}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "vmorch.yaml").write_text(FILE)
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look_with(daemon: Any, name: str, **changes: Any) -> None:
    """The reconciler saw everything as the store has it, but for one instance."""
    record = daemon.do(daemon.store.environment("shop"))
    rows = daemon.do(daemon.store.instances("shop"))
    views = [
        InstanceView(
            instance=replace(row, **changes) if row.name == name else row,
            spec=record.spec.services[row.service],
        )
        for row in rows
    ]
    shop = EnvironmentView(
        name="shop",
        removing=False,
        services=record.spec.services,
        current=record.current,
        instances=tuple(views),
        network_ready=True,
        in_proxy=True,
    )
    daemon.look = Look(snapshot=Snapshot(environments=(shop,)), at=time.time())


def test_why_says_what_it_is_waits_for_and_does_next(run: Run, daemon: Any) -> None:
    run("up")
    look_with(
        daemon,
        "db-1",
        state=State.PENDING,
        boot=2,
        failures=2,
        not_before=time.time() + 300,
        reason="\x1b[31mQEMU died; restart 2 in 2 s",
    )
    code, out, err = run("why", "db-1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "db-1 is pending: QEMU died; restart 2 in 2 s"
    assert lines[1] == "now:"
    assert lines[2].startswith("  restart 2 in 5 min 0 s (0 s already waited), after: QEMU died")
    assert lines[3] == "next:"
    assert lines[4].endswith("its guest is booted (boot 3) (restarted)")
    assert "also:" in lines
    assert lines[lines.index("events:") + 1].endswith("ago  instance-ready: because")
    assert run("why", "web")[1].splitlines()[0] == "web has 2 of 2 instances ready, revision 1"


def test_why_for_programs_has_times_and_not_ages(run: Run, daemon: Any) -> None:
    run("up")
    due = time.time() + 300
    look_with(daemon, "db-1", state=State.PENDING, boot=1, not_before=due, failures=1)
    found = json.loads(run("why", "db-1", "-o", "json")[1])
    assert (found["subject"], found["state"]) == ("db-1", "pending")
    assert found["steps"][0]["at"] == due
    assert [event["kind"] for event in found["events"]] == ["instance-ready"]


def test_why_of_what_never_was_is_4_with_a_guess(run: Run) -> None:
    run("up")
    code, out, err = run("why", "wbe")
    assert (code, out) == (4, "")
    assert err.splitlines() == [
        "error: Environment 'shop' has no instance or service 'wbe', nor had one. "
        "Did you mean 'web'?",
        "There are: db, web, db-1, web-1, web-2.",
    ]
    assert run("why", "-p", "nope", "web")[0] == 4
    assert run("why")[0] == 2


def test_scale_dry_run_shows_what_comes_and_what_goes(run: Run, daemon: Any) -> None:
    run("up")
    code, out, err = run("scale", "web=1", "--dry-run")
    assert (code, err) == (0, "")
    header, row = out.splitlines()
    assert header.split() == ["ACTION", "SUBJECT", "WHY"]
    assert row.split()[:5] == ["remove", "web-2", "scaled", "to", "1;"]
    (step,) = json.loads(run("scale", "web=3", "--dry-run", "-o", "json")[1])
    assert (step["action"], step["subject"]) == ("create", "web")
    assert step["reason"].endswith("after 'db' (service_healthy)")
    assert len(json.loads(run("ps", "-o", "json")[1])) == 3
    assert run("scale", "nope=3", "--dry-run")[0] == 4
    assert run("scale", "db=2", "--dry-run")[0] == 7
    scaled = json.loads(run("scale", "web=3", "-o", "json")[1])
    assert [row["instance"] for row in scaled] == ["web-1", "web-2", "web-3"]
