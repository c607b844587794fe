"""How instances follow a step of load: real guests, forked, in a daemon that ticks every 2 s.

Each request takes a fifth of a second without using the processor, so what is in flight is what
the clients keep there. The load goes from what one instance should have to what three should, and
back. `step.decision_ticks`: looks at the measures, from the first one after the step, until more
instances are wanted; `step.ready_seconds`: from the step until three are ready;
`step.settled_seconds`: from the end of the step until there is one again; `step.failed`: requests
of all the load that had no answer, or one that is no 2xx.

Writes what was seen over time to `docs/autoscaling/`, and to the tests of the decision the
measures and what was decided on them, for them to be decided on again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import load_shapes
from bench.figure import Figure
from bench.guest_server import write_context
from bench.http_load import in_flight
from bench.lab_daemon import LabDaemon, lab_daemon, made_bases
from bench.scaling import Watched
from bench.step_report import Report
from vmorch.model.autoscale import AutoscaleSpec

SPEC = AutoscaleSpec(min=1, max=4, concurrency=4, stabilization_seconds=20.0, window_seconds=12.0)
LOAD = load_shapes.step(2, 11, before=30, during=60, after=60)
WANTED = 3
LIMIT_SECONDS = 300.0
COMPOSE = f"""
name: step
services:
  web:
    build: .
    expose: [8080]
    route: {{host: step.localhost}}
    healthcheck: {{test: ["HTTP", "/"], interval: 1s}}
    autoscale:
      min: {SPEC.min}
      max: {SPEC.max}
      concurrency: {SPEC.concurrency}
      stabilization: {SPEC.stabilization_seconds:g}s
      window: {SPEC.window_seconds:g}s
    deploy: {{resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
"""


def run() -> Iterator[Figure]:
    with (
        lab_daemon(made_bases("tiny"), warm_snapshots=True) as daemon,
        tempfile.TemporaryDirectory() as project,
    ):
        report = _reported(daemon, Path(project))
    report.write()
    yield Figure(name="step.decision_ticks", value=report.decision_ticks, unit="ticks")
    yield Figure(name="step.ready_seconds", value=report.ready_seconds, unit="s")
    yield Figure(name="step.settled_seconds", value=report.settled_seconds, unit="s")
    yield Figure(name="step.failed", value=report.outcome.failed, unit="requests")


def _reported(daemon: LabDaemon, project: Path) -> Report:
    write_context(project)
    (project / "compose.yaml").write_text(COMPOSE)
    web = Watched(client=daemon.client, environment="step", service="web")
    url = f"http://127.0.0.1:{daemon.settings.http_port}/slow"
    with web.recorded() as ticks:
        daemon.cli("up", cwd=project)
        _until(lambda: any(daemon.settings.snapshots_dir.glob("[!.]*")), "a warm snapshot")
        began = time.time()
        outcome = load_shapes.run(LOAD, in_flight(url, "step.localhost"))
        _until(lambda: ticks[-1].instances == 1, "one instance again")
    return Report(
        spec=SPEC,
        shape=LOAD,
        began=began,
        wanted=WANTED,
        ticks=ticks,
        decisions=web.decisions(),
        ready_times=web.ready_times(),
        outcome=outcome,
    )


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"there was not {what} in {LIMIT_SECONDS:g} s")
        time.sleep(0.2)
