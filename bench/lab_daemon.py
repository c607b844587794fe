"""A whole daemon of its own inside the lab, and the made bases: for benchmarks and real tests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmorch.client import Client
from vmorch.config import Settings
from vmorch.errors import VmorchError
from vmorch.images.bases import BaseCatalog
from vmorch.images.protocol import BuildProgress, StepState
from vmorch.resources import data_dir

STARTED_SECONDS = 60.0
_numbers = itertools.count(1)


def made_bases(*names: str) -> Path:
    """A store of images that holds these bases; made once and kept between runs."""
    directory = Path(os.environ.get("VMORCH_TEST_DIR", "/var/tmp/vmorch-test")) / "images"
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    outside = os.environ.get("VMORCH_OUTSIDE_NETNS", "")
    catalog = BaseCatalog(directory, data_dir("images"), outside)

    async def make() -> None:
        for name in names:
            await catalog.ensure(name, _tell)

    asyncio.run(make())
    return directory


def _tell(progress: BuildProgress) -> None:
    if progress.state is not StepState.OUTPUT:
        sys.stderr.write(f"{progress.step}: {progress.state} {progress.text}\n")


@dataclass(slots=True)
class LabDaemon:
    """A vmorchd of its own. `cli` runs the command line against it, `client` is the typed way."""

    settings: Settings
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "VMORCH_STATE_DIR": str(self.settings.state_dir),
            "VMORCH_RUN_DIR": str(self.settings.run_dir),
            "VMORCH_SOCKET": str(self.settings.socket),
            "VMORCH_HTTP_PORT": str(self.settings.http_port),
            "VMORCH_HTTPS_PORT": str(self.settings.https_port),
            "VMORCH_OUTER_POOL": self.settings.outer_pool,
            "VMORCH_ACCEL": self.settings.accel,
            "VMORCH_WARM_SNAPSHOTS": self.settings.warm_snapshots,
        }

    @property
    def client(self) -> Client:
        return Client(self.settings.socket)

    @property
    def log(self) -> Path:
        return self.settings.state_dir / "daemon.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vmorch.daemon"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < deadline:
            try:
                self.client.version()
                return
            except VmorchError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise AssertionError(f"the daemon did not start:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=30)

    def cli(
        self, *words: str, check: bool = True, cwd: Path | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vmorch.cli.main", *words],
            env=self.environment,
            cwd=cwd,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"vmorch {' '.join(words)} ended with {done.returncode}:\n"
                f"{done.stdout}{done.stderr}\n{self.log.read_text()[-6000:]}"
            )
        return done

    def ps(self, *words: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.cli(*words, "ps", "-o", "json").stdout)
        return rows


@contextlib.contextmanager
def lab_daemon(images_dir: Path, *, warm_snapshots: bool = False) -> Iterator[LabDaemon]:
    """A running daemon with the images of `images_dir`; whatever it runs goes with it. Where warm
    snapshots are not the subject, their making would only disturb."""
    number = next(_numbers)
    state_dir = Path(os.environ["VMORCH_LAB"]) / f"d{number}"
    state_dir.mkdir(mode=0o711)
    _share_images(images_dir, state_dir / "images")
    run_dir = Path(f"/run/vmorch-{number}")
    own = LabDaemon(
        Settings(
            state_dir=state_dir,
            run_dir=run_dir,
            socket=run_dir / "api.sock",
            http_port=18000 + number,
            https_port=18500 + number,
            outer_pool=f"10.{20 + number}.0.0/16",
            accel="tcg",
            warm_snapshots="auto" if warm_snapshots else "off",
        )
    )
    own.start()
    try:
        yield own
    finally:
        _end_everything(own)
        own.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


def _share_images(source: Path, target: Path) -> None:
    """The same immutable files under another name; copied where a link is not possible."""
    link = subprocess.run(["cp", "-al", source, target], capture_output=True)
    if link.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", source, target], check=True)


def _end_everything(own: LabDaemon) -> None:
    if own.process is None or own.process.poll() is not None:
        own.start()
    for environment in {row["environment"] for row in own.ps()}:
        own.cli("-p", environment, "down", check=False)
