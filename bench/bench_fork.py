"""How soon an instance answers that is forked from a warm snapshot.

`fork.keep_seconds` and `fork.restart_seconds`: from the request for one more instance of
`examples/hello` to the first 200 through the proxy, the service kept as it ran or started anew.
`fork.vs_cold`: the kept one against a cold boot of the same revision. `fork.restore_ratio`: our
restore leg (overlay, restore, limits, resume) against a plain `virsh restore` of the same saved
guest. `fork.four_ratio`: until four answer that were asked for at once, against one.
`fork.keep.LEG` and `fork.restart.LEG`: where the time goes, by the daemon's events: `begin` until
it is decided and written down, `become` until the fork is who it should be, `health` until its
check has succeeded, `answer` until the proxy has given the first answer.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.bench_cold import HELLO, wait_for_200
from bench.figure import Figure, compared
from bench.lab_daemon import LabDaemon, lab_daemon, made_bases
from bench.saved_guest import saved_guest
from vmorch.images.bases import BaseCatalog
from vmorch.model.view.instance import InstanceView
from vmorch.resources import data_dir

ROUNDS = 10
COLD_ROUNDS = 3
FOUR = 4
FOUR_ROUNDS = 5
LIMIT_SECONDS = 300.0


def run() -> Iterator[Figure]:
    images = made_bases("debian-12")
    with ExitStack() as stack:
        daemon = stack.enter_context(lab_daemon(images, warm_snapshots=True))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hello = Hello(daemon, scratch / "hello")
        hello.up("{fork: {service: keep}}")
        hello.wait_for_snapshot()
        hello.scale(0)
        kept = [hello.seconds_to_answer() for _ in range(ROUNDS)]
        kept_legs = hello.legs()
        hello.up("fork")
        restarted = [hello.seconds_to_answer() for _ in range(ROUNDS)]
        restarted_legs = hello.legs()
        four = [hello.seconds_to_answer(FOUR) for _ in range(FOUR_ROUNDS)]
        hello.up("cold")
        cold = [hello.seconds_to_answer() for _ in range(COLD_ROUNDS)]
    yield _figure("fork.keep_seconds", kept)
    yield _figure("fork.restart_seconds", restarted)
    for way, legs in (("keep", kept_legs), ("restart", restarted_legs)):
        for name, samples in legs.items():
            yield _figure(f"fork.{way}.{name}", samples)
    yield _against("fork.vs_cold", kept, cold)
    yield _restored(images)
    yield _against("fork.four_ratio", four, restarted)


class Hello:
    """The example under load of nobody, without instances between two measurements."""

    def __init__(self, daemon: LabDaemon, project: Path) -> None:
        self._daemon = daemon
        self._project = project
        shutil.copytree(HELLO, project)
        self._text = (project / "compose.yaml").read_text()
        self._asked: list[tuple[float, float]] = []

    def up(self, start: str) -> None:
        """Instances come up in another way; the revision stays the same."""
        text = self._text.replace("replicas: 2", "replicas: 1")
        text = text.replace("    build: .\n", f"    build: .\n    start: {start}\n")
        (self._project / "compose.yaml").write_text(text)
        self._daemon.cli("up", "--wait", cwd=self._project)
        self.scale(0)

    def wait_for_snapshot(self) -> None:
        self.scale(1)
        self._until(lambda: any(self._daemon.settings.snapshots_dir.glob("[!.]*")))

    def scale(self, count: int) -> None:
        self._daemon.client.scale("demo", {"hello": count})
        self._until(lambda: len(self._instances()) == count)

    def seconds_to_answer(self, count: int = 1) -> float:
        """Until one answers, or until that many are ready."""
        began, asked = time.perf_counter(), time.time()
        self._daemon.client.scale("demo", {"hello": count})
        url = f"http://127.0.0.1:{self._daemon.settings.http_port}/"
        wait_for_200(url, "hello.demo.localhost")
        if count > 1:
            self._wait_for_ready(count, asked)
        seconds = time.perf_counter() - began
        self._asked.append((asked, asked + seconds))
        self.scale(0)
        return seconds

    def legs(self) -> dict[str, list[float]]:
        """Of the last measurements, each of one instance."""
        told = self._daemon.cli("-p", "demo", "events", "-o", "json").stdout
        events = [(row["time"], row["kind"]) for row in map(json.loads, told.splitlines())]
        legs: dict[str, list[float]] = {leg: [] for leg in ("begin", "become", "health", "answer")}
        for asked, answered in self._asked[-ROUNDS:]:
            marks = [asked]
            for kind in ("instance-starting", "instance-running", "instance-ready"):
                marks.append(next(at for at, what in events if what == kind and at > asked))
            marks.append(answered)
            for samples, begin, end in zip(legs.values(), marks, marks[1:], strict=False):
                samples.append(end - begin)
        return legs

    def _wait_for_ready(self, count: int, since: float) -> None:
        """By the daemon's own word, as asking it again and again would take a core from the
        guests."""
        events = self._daemon.client.events(environment="demo", since=since, follow=True)
        ready = (event.instance for event in events if event.kind == "instance-ready")
        seen: set[str] = set()
        while len(seen) < count:
            seen.add(next(ready))

    def _instances(self) -> list[InstanceView]:
        """By a call and not by the command line, which would take a core from the guests."""
        return self._daemon.client.instances("demo")

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(self._daemon.log.read_text()[-4000:])
            time.sleep(0.05)  # as `wait_for_200` does


def _restored(images: Path) -> Figure:
    base = asyncio.run(
        BaseCatalog(images, data_dir("images")).ensure("debian-12", lambda progress: None)
    )
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        directory.chmod(0o711)
        with saved_guest(base, images, directory) as saved:
            return compared(
                "fork.restore_ratio",
                saved.seconds_of_fork,
                saved.seconds_of_virsh,
                rounds=ROUNDS,
            )


def _figure(name: str, samples: list[float]) -> Figure:
    return Figure(name=name, value=statistics.median(samples), unit="s", samples=samples)


def _against(name: str, ours: list[float], baseline: list[float]) -> Figure:
    value, base = statistics.median(ours), statistics.median(baseline)
    ratio = value / base
    return Figure(name=name, value=value, unit="s", baseline=base, ratio=ratio, samples=ours)
