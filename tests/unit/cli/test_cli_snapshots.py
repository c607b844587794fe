"""vmorch snapshot, and what other commands say of warm snapshots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmorch.cli.waiting import Limits
from vmorch.cli.warming import make
from vmorch.client import Client
from vmorch.errors import DaemonUnreachable

Run = Callable[..., tuple[int, str, str]]

FILE = """\
name: shop
services:
  web: {build: .}
  db: {build: ., start: cold}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "vmorch.yaml").write_text(FILE)
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key_of_web(daemon: Any) -> str:
    (row,) = Client(daemon.settings.socket).snapshots()
    return row.key


def test_create_tells_what_happens_and_shows_the_snapshot(run: Run, daemon: Any) -> None:
    run("up")
    code, out, err = run("snapshot", "create", "web")
    assert code == 0
    assert err.splitlines() == ["web: waits for its turn to boot", "web: it boots"]
    header, row = out.splitlines()
    assert header.split()[:3] == ["SERVICE", "KEY", "IMAGE"]
    key = key_of_web(daemon)
    assert row.split()[:2] == ["web", key[:12]]
    assert row.endswith("shop/web@1")
    # There is one now: nothing is waited for or told.
    code, out, err = run("snapshot", "create", "web", "-o", "json")
    assert (code, err) == (0, "")
    assert [found["key"] for found in json.loads(out)] == [key]
    assert len(daemon.wishes) == 1


def test_a_failed_try_is_1_and_says_why(run: Run, daemon: Any) -> None:
    run("up")
    daemon.warm_up_failure = "it did not answer."
    code, out, err = run("snapshot", "create", "web")
    assert (code, out) == (1, "")
    assert "error: No warm snapshot of 'web' could be made: it did not answer." in err
    # Only what came after the wish counts.
    daemon.warm_up_failure = ""
    assert run("snapshot", "create", "web")[0] == 0


def test_it_waits_no_longer_than_told(run: Run, daemon: Any) -> None:
    run("up")
    daemon.converges = False
    code, _, err = run("snapshot", "create", "web", "--timeout", "0.2")
    assert code == 6
    assert "within 0 s" in err
    assert run("snapshot", "create", "web", "-d") == (0, "", "")
    assert daemon.wishes == [("shop", "web")] * 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["snapshot", "create", "db"], 7, "start: cold"),
        (["snapshot", "create", "nope"], 4, "no service 'nope'"),
        (["-p", "other", "snapshot", "create", "web"], 4, "other"),
        (["snapshot", "rm"], 2, "--all"),
        (["snapshot", "rm", ""], 2, "--all"),
        (["snapshot", "rm", "--all", "web"], 2, "--all"),
        (["snapshot", "rm", "nope"], 4, "no warm snapshot 'nope'"),
    ],
)
def test_what_cannot_be_done(run: Run, words: list[str], code: int, says: str) -> None:
    run("up")
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    error, hint = err.splitlines()
    assert says in error
    assert hint


def test_a_daemon_that_was_away_is_asked_again(
    run: Run, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps wishes in memory only."""
    run("up")
    client, away = Client(daemon.settings.socket), [True]
    listed = client.snapshots

    def snapshots() -> list[Any]:
        if away:
            away.clear()
            daemon.converges = True
            raise DaemonUnreachable("It has gone away.")
        return listed()

    monkeypatch.setattr(client, "snapshots", snapshots)
    daemon.converges = False
    made = make(client, "shop", "web", Limits(poll_seconds=0.01))
    assert made.service == "web"
    assert daemon.wishes == [("shop", "web")] * 2


def test_ls_and_rm(run: Run, daemon: Any) -> None:
    assert run("snapshot", "ls")[1].splitlines() == [
        "SERVICE  KEY  IMAGE  SERVICE-RUNS  RAM  DISK  AGE  USED BY"
    ]
    run("up")
    run("snapshot", "create", "web")
    key = key_of_web(daemon)
    words = run("snapshot", "ls")[1].splitlines()[1].split()
    assert (words[0], words[2:6], words[-1]) == ("web", ["hello", "yes", "8K", "4K"], "shop/web@1")
    (row,) = json.loads(run("snapshot", "ls", "-o", "json")[1])
    assert row["used_by"] == [
        {"environment": "shop", "service": "web", "revision": 1, "current": True}
    ]
    run("down")
    assert run("snapshot", "ls")[1].splitlines()[1].split()[-1] == "-"
    assert run("snapshot", "rm", "web") == (0, f"REMOVED\n{key[:12]}\n", "12K freed\n")
    freed = json.loads(run("snapshot", "rm", "--all", "-o", "json")[1])
    assert freed == {"keys": [], "bytes_freed": 0}


def test_prune_names_the_snapshots_that_went_with_their_images(run: Run, daemon: Any) -> None:
    run("up")
    run("snapshot", "create", "web")
    key = key_of_web(daemon)
    assert run("image", "rm", "shop-web")[0] == 7
    run("down")
    _, out, err = run("image", "prune")
    assert out.splitlines()[-1].split() == ["snapshot", key[:12]]
    assert err == "2.0M freed\n"
    assert json.loads(run("image", "prune", "-o", "json")[1])["snapshots"] == []


def test_shells_complete_services_and_keys(
    run: Run, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("up")
    run("snapshot", "create", "web")
    key = key_of_web(daemon)[:12]
    monkeypatch.setenv("_VMORCH_COMPLETE", "bash_complete")
    for line, found in {
        "vmorch snapshot rm we": ["web"],
        f"vmorch snapshot rm {key[:4]}": [key],
        "vmorch snapshot create we": ["web"],
        "vmorch snap": ["snapshot"],
        "vmorch help fo": ["forks"],
    }.items():
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
        assert run()[1].split() == [f"plain,{name}" for name in found]
