"""What the reconciler costs.

`loop.plan_seconds`: one plan for 1,000 services with 10,000 instances. `loop.idle_share` (of a
core) and `loop.rss_bytes`: a daemon with 1,000 fake instances at rest.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.rollout import Phase, Rollout
from vmorch.model.spec import ServiceSpec
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

ENVIRONMENTS = 50
SERVICES = 20
REPLICAS = 10
ROUNDS = 15
NOW = 1_000_000.0
INSTANCES = 1000
REST_SECONDS = 60


def run() -> Iterator[Figure]:
    snapshot = Snapshot(environments=tuple(map(environment, range(ENVIRONMENTS))))
    samples = [seconds(snapshot) for _ in range(ROUNDS)]
    yield Figure(
        name="loop.plan_seconds", value=statistics.median(samples), unit="s", samples=samples
    )
    words = [sys.executable, "-m", "bench.idle_daemon", str(INSTANCES), str(REST_SECONDS)]
    root = Path(__file__).parent.parent
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
    at_rest = json.loads(done.stdout.splitlines()[-1])
    yield Figure(name="loop.idle_share", value=at_rest["share"], unit="cores")
    yield Figure(name="loop.rss_bytes", value=at_rest["rss_bytes"], unit="bytes")


def seconds(snapshot: Snapshot) -> float:
    start = time.perf_counter()
    planned = plan(snapshot, NOW)
    took = time.perf_counter() - start
    if planned.actions:
        raise RuntimeError(f"nothing was to be planned: {planned.actions[0]}")
    return took


def environment(number: int) -> EnvironmentView:
    name = f"e{number}"
    services = {
        f"s{n}": ServiceSpec(name=f"s{n}", image="sha256:1", replicas=REPLICAS)
        for n in range(SERVICES)
    }
    return EnvironmentView(
        name=name,
        removing=False,
        services=services,
        current=dict.fromkeys(services, 1),
        rollouts={service: completed(name, service) for service in services},
        instances=tuple(
            view(name, spec, ordinal)
            for spec in services.values()
            for ordinal in range(1, REPLICAS + 1)
        ),
        network_ready=True,
        in_proxy=True,
    )


def completed(environment: str, service: str) -> Rollout:
    return Rollout(
        environment=environment,
        service=service,
        number=1,
        revision=1,
        previous=None,
        started_at=NOW - 900,
        phase=Phase.COMPLETED,
    )


def view(environment: str, spec: ServiceSpec, ordinal: int) -> InstanceView:
    instance = Instance(
        environment=environment,
        service=spec.name,
        ordinal=ordinal,
        revision=1,
        uuid=f"{environment}-{spec.name}-{ordinal}",
        mac="52:54:00:00:00:01",
        inner_address="10.0.0.64",
        outer_address="10.1.0.64",
        goal=Goal.RUN,
        state=State.READY,
        reason="",
        created_at=NOW - 900,
        boot=1,
        started_at=NOW - 890,
        ready_at=NOW - 880,
        capped=True,
    )
    return InstanceView(
        instance=instance,
        spec=spec,
        guest=GuestState.RUNNING,
        healthy=True,
        admitted=True,
        routed=True,
    )
