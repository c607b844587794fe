"""Images from the command line to the store, through a whole daemon: no guest boots here."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

TEXT = "FROM tiny\nRUN echo {what} > /what\nRUN cat /what\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(TEXT.format(what="one"))
    return tmp_path


def rows(daemon: Any) -> dict[str, dict[str, Any]]:
    listed = json.loads(daemon.cli("image", "ls", "-o", "json").stdout)
    return {name: row for row in listed for name in row["names"] or [row["digest"]]}


def test_names_history_and_removal(daemon: Any, project: Path) -> None:
    daemon.cli("image", "build", "-t", "life", str(project))
    first = rows(daemon)["life"]
    assert 0 < first["own_bytes"] < first["shared_bytes"]
    assert rows(daemon)["tiny"]["own_bytes"] == 0
    history = json.loads(daemon.cli("image", "history", "life", "-o", "json").stdout)
    assert [row["created_by"] for row in history] == [
        "RUN cat /what",
        "RUN echo one > /what",
        "tiny",
    ]
    assert [row["cached"] for row in history] == [False, False, True]
    daemon.cli("image", "build", "-t", "life", str(project))
    history = json.loads(daemon.cli("image", "history", "life", "-o", "json").stdout)
    assert all(row["cached"] for row in history)
    short = first["digest"].removeprefix("sha256:")[:12]
    inspected = json.loads(daemon.cli("image", "inspect", short).stdout)
    assert inspected["names"] == ["life"]
    assert inspected["layers"][-1]["created_by"] == "RUN cat /what"
    daemon.cli("image", "tag", "life", "life:good")
    said = daemon.cli("image", "rm", "life")
    assert "name" in said.stdout
    assert "life:good" in rows(daemon)
    said = daemon.cli("image", "rm", "life:good")
    assert said.stdout.count("layer") == 2
    assert "freed" in said.stderr
    gone = daemon.cli("image", "rm", "life:good", check=False)
    assert gone.returncode == 4


def test_prune_spares_what_revisions_need(daemon: Any, project: Path) -> None:
    (project / "vmorch.yaml").write_text(
        "name: prune\nservices:\n  one:\n    build: .\n    image: pruned\n"
        "    deploy: {replicas: 0, resources: {limits: {memory: 96M}}}\n"
    )
    daemon.cli("up", "-d", cwd=project)
    needed = rows(daemon)["pruned"]["digest"]
    (project / "Dockerfile").write_text(TEXT.format(what="two"))
    daemon.cli("image", "build", "-t", "pruned", str(project))
    (project / "Dockerfile").write_text(TEXT.format(what="three"))
    daemon.cli("image", "build", "-t", "pruned", str(project))
    pruned = json.loads(daemon.cli("image", "prune", "--all", "-o", "json").stdout)
    assert len(pruned["images"]) == 1
    assert len(pruned["layers"]) == 2
    assert pruned["bytes_freed"] > 0
    assert needed in rows(daemon)
    refused = daemon.cli("image", "rm", needed[7:19], check=False)
    assert refused.returncode == 7
    assert "prune/one" in refused.stderr
    daemon.cli("down", cwd=project)
    daemon.cli("image", "prune", "--all")
    assert needed not in rows(daemon)


SECRETS = ("hush-nobody-may-know", "nor-may-anybody-know-this")
WITH_SECRETS = """
name: hush
services:
  one:
    build:
      context: made
      secrets: [token, {source: variable, target: var}]
    image: hushed
    deploy: {replicas: 0, resources: {limits: {memory: 96M}}}
secrets:
  token: {file: ./token}
  variable: {environment: VARIABLE}
"""
STEP = """FROM tiny
RUN --mount=type=secret,id=token,required --mount=type=secret,id=var,required,env=VAR \\
    cat /run/secrets/token; echo "<$VAR>"; cat /run/secrets/token | wc -c > /length
RUN --mount=type=secret,id=variable ls /run/secrets || echo none
"""


def traces(secret: str) -> list[str]:
    """How a file could tell it: as it is, encoded, or by a digest to guess against."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return [secret, base64.b64encode(secret.encode()).decode(), digest]


def test_secrets_of_a_build_are_kept_nowhere(
    daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmorch.yaml").write_text(WITH_SECRETS)
    (tmp_path / "token").write_text(SECRETS[0])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "Dockerfile").write_text(STEP)
    unset = daemon.cli("up", "-d", cwd=tmp_path, check=False)
    assert unset.returncode == 3
    assert "vmorch.yaml:12:" in unset.stderr
    assert "'VARIABLE' is not set" in unset.stderr
    assert "hushed" not in rows(daemon)
    monkeypatch.setenv("VARIABLE", SECRETS[1])
    said = daemon.cli("up", "-d", cwd=tmp_path).stderr
    lines = [line.strip() for line in said.splitlines()]
    assert any("***<***>" in line for line in lines), said
    assert any(line.endswith("none") for line in lines), said
    made = rows(daemon)["hushed"]["digest"]
    (tmp_path / "token").write_text("another")
    daemon.cli("image", "build", cwd=tmp_path)
    assert rows(daemon)["hushed"]["digest"] == made
    every = [trace for secret in SECRETS for trace in traces(secret)]
    assert not [trace for trace in every if trace in said]
    patterns = [word for trace in every for word in ("-e", trace)]
    state = str(daemon.settings.state_dir)
    found = subprocess.run(["grep", "-rlaF", *patterns, state], capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("", "")
    daemon.cli("down", cwd=tmp_path)


def test_a_step_that_dies_with_the_daemon_leaves_no_control_group(
    daemon: Any, project: Path
) -> None:
    checks = json.loads(daemon.cli("doctor", "-o", "json", check=False).stdout)
    (check,) = [check for check in checks if check["name"] == "build-steps"]
    assert check["message"].startswith("a RUN step may have 4096 processes and ")
    installation = (daemon.settings.state_dir / "installation").read_text()[:6]

    def groups() -> list[Path]:
        return list(Path("/sys/fs/cgroup").rglob(f"{installation}-step-*"))

    (project / "Dockerfile").write_text("FROM tiny\nRUN sleep 600\n")
    words = ["image", "build", "-t", "long", str(project)]
    with ThreadPoolExecutor() as pool:
        building = pool.submit(daemon.cli, *words, check=False)
        deadline = time.monotonic() + 60
        while not groups() and not building.done() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert groups()
        daemon.kill()
        assert building.result().returncode != 0
    daemon.start()
    assert groups() == []


def test_names_that_cannot_be(daemon: Any, project: Path) -> None:
    for name, code in (("debian:12", 7), ("sha256:00", 2), ("../up", 2)):
        assert (
            daemon.cli("image", "build", "-t", name, str(project), check=False).returncode == code
        )
