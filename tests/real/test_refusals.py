"""What vmorch says when it cannot: the exit codes, the texts, and that nothing was changed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.lab_daemon import LabDaemon
from vmorch.config import Settings
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.images.bases import BaseCatalog
from vmorch.resources import data_dir


@pytest.fixture
def nobody(tmp_path: Path) -> LabDaemon:
    """Settings of a machine on which vmorch has never run."""
    run_dir = Path("/run/vmorch-nobody")
    return LabDaemon(
        Settings(state_dir=tmp_path / "state", run_dir=run_dir, socket=run_dir / "api.sock")
    )


def state_of_host() -> list[str]:
    commands: list[list[str]] = [
        ["ip", "-o", "link"],
        ["ip", "netns"],
        ["nft", "list", "ruleset"],
        ["virsh", "list", "--all", "--name"],
        ["sysctl", "net.ipv4.ip_forward"],
    ]
    return [subprocess.check_output(command, text=True) for command in commands]


@pytest.mark.parametrize("words", [["ps"], ["-p", "x", "logs"], ["events"], ["-p", "x", "down"]])
def test_without_a_daemon_nothing_changes(nobody: LabDaemon, words: list[str]) -> None:
    before = state_of_host()
    done = nobody.cli(*words, check=False)
    assert done.returncode == 5
    message, hint = done.stderr.strip().splitlines()
    assert message.startswith("error: ")
    assert "vmorch daemon start" in hint
    assert state_of_host() == before
    assert not nobody.settings.state_dir.exists()
    assert not nobody.settings.run_dir.exists()


def test_ps_of_an_idle_daemon_changes_nothing(daemon: LabDaemon) -> None:
    before = state_of_host()
    assert daemon.ps() == []
    assert state_of_host() == before


def test_forced_kvm_is_refused_where_no_kernel_runs_under_it(
    nobody: LabDaemon, images_dir: Path
) -> None:
    """On a machine with a working KVM the same daemon starts, which is as right."""
    probe = AccelerationProbe(
        images_dir.parent / "verdict.json",
        BaseCatalog(images_dir, data_dir("images")).probe_kernel,
    )
    usable = _run(probe.verdict)
    nobody.settings.state_dir.mkdir(mode=0o711)
    subprocess.run(["cp", "-al", images_dir, nobody.settings.images_dir], check=True)
    forced = replace(nobody, settings=replace(nobody.settings, accel="kvm"))
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "vmorch.daemon"],
        env=forced.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    if usable:
        process.terminate()
        process.wait()
        return
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - start < 15, "the issue's own bound, not a measure of speed"
    assert process.returncode == 7
    assert "KVM was asked for and cannot be used here" in said
    assert "accel" in said


def _run(verdict: Callable[..., object]) -> bool:
    import asyncio

    return bool(asyncio.run(verdict()).usable)  # type: ignore[arg-type, attr-defined]


def test_a_second_daemon_on_one_state_directory_is_refused(daemon: LabDaemon) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vmorch.daemon"],
        env={**daemon.environment, "VMORCH_SOCKET": "/run/vmorch-other.sock"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 7
    assert f"process {daemon.process.pid if daemon.process else ''}" in done.stderr
    assert daemon.ps() == []


def test_a_mistake_in_the_file_creates_nothing(daemon: LabDaemon, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "name: wrong\nservices:\n  web:\n    imag: tiny\n    deploy: {replicas: many}\n"
    )
    done = daemon.cli("up", cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert "compose.yaml:4:5" in done.stderr
    assert "compose.yaml:5" in done.stderr
    assert "Traceback" not in done.stderr
    assert daemon.cli("env", "ls", "-o", "json").stdout.strip() == "[]"


def test_a_failing_step_is_told_with_its_line(daemon: LabDaemon, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("name: wrong\nservices: {web: {build: .}}\n")
    (tmp_path / "Dockerfile").write_text(
        'FROM tiny\nRUN echo about to fail && exit 3\nCMD ["/bin/true"]\n'
    )
    done = daemon.cli("up", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "Dockerfile:2" in done.stderr
    assert "about to fail" in done.stdout + done.stderr
    assert daemon.cli("env", "ls", "-o", "json").stdout.strip() == "[]"


def test_a_port_that_is_taken_is_named(daemon: LabDaemon, tmp_path: Path) -> None:
    """The instance runs all the same; the event says which port, and who has it."""
    holder = subprocess.Popen(
        [sys.executable, "-m", "http.server", "18777", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        (tmp_path / "compose.yaml").write_text(
            "name: taken\nservices: {web: {image: tiny, command: sleep 1000,"
            ' ports: ["18777:80"], deploy: {resources: {limits: {memory: 96M}}}}}\n'
        )
        daemon.cli("up", cwd=tmp_path)
        told = daemon.cli("events").stdout
        assert "18777" in told
        assert str(holder.pid) in told
    finally:
        holder.kill()
        holder.wait()
        daemon.cli("-p", "taken", "down", check=False)
