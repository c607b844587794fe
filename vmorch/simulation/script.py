"""A script from a seed: users' orders, failures, crashes. Pure: the same seed and the same code
give the same script, whatever comes of it."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable
from pathlib import Path

import vmorch
from vmorch.model.instance import Goal
from vmorch.model.rollout import FailureAction, UpdateOrder
from vmorch.model.spec import DependencyCondition, RestartCondition, StartPolicy
from vmorch.simulation.steps import (
    Ask,
    Command,
    Crash,
    Down,
    DropSnapshot,
    FillDisk,
    Harm,
    Health,
    Hurt,
    KillProxy,
    LoseNetworks,
    Mishear,
    Scale,
    Script,
    Sketch,
    Spoil,
    Steer,
    Step,
    Up,
    Volume,
    Want,
    WarmUp,
)
from vmorch.simulation.troubles import Kind
from vmorch.simulation.world import JOB

ENVIRONMENTS = ("red", "green")
SERVICES = ("web", "db")
PAUSES_SECONDS = (0.0, 0.1, 1.0, 5.0, 30.0)
STARTED_OR_HEALTHY = (DependencyCondition.STARTED, DependencyCondition.HEALTHY)

CALLS = {
    "hypervisor": (
        *("start", "fork", "destroy", "shutdown", "set_cpus", "save", "wake", "suspend"),
        *("resume", "raise_link", "guests", "agent", "fingerprint", "acceleration"),
    ),
    "network": ("ensure_host", "ensure", "set_names", "remove", "present"),
    "proxy": ("apply", "status", "running"),
    "images": ("create_disk", "create_fork", "manifest"),
    "guests": ("write_seed", "become", "report", "run", "wake"),
    "snapshots": ("all", "draft", "publish", "lend", "remove"),
    "disks": ("ensure", "remove"),
    "store": ("put_instance", "create_instance", "delete_instance", "add_event", "instances"),
}
"""What may go wrong, by port."""
WHOLE = frozenset({"store", "snapshots", "disks", "images"})
"""Ports of which a call that fails has not happened: a transaction, a rename."""


@functools.cache
def fault_points() -> tuple[str, ...]:
    """Every point that the reconciler and the fakes name (see `vmorch.effects.Faults`)."""
    package = Path(vmorch.__file__).parent
    sources = (*package.glob("reconciler/*.py"), *package.glob("*/fake.py"))
    named = (re.findall(r'(?:faults|points)\.at\("([^"]+)"\)', p.read_text()) for p in sources)
    return tuple(sorted({point for points in named for point in points}))


def script_of(seed: int, count: int) -> Script:
    """The script with that seed, of `count` steps."""
    return _Writer(seed).script(count)


class _Writer:
    """`single` are the services that may have a volume for one instance in this script; they
    never have more instances than that one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self._single = {name for name in SERVICES if self._random.random() < 0.3}

    def script(self, count: int) -> Script:
        warm = self._random.random() < 0.5
        steps = tuple(self._step() for _ in range(count))
        return Script(seed=self._seed, warm=warm, steps=steps)

    def _step(self) -> Step:
        then = self._random.choice(PAUSES_SECONDS)
        kinds: list[tuple[int, Callable[[float], Step]]] = [
            (6, self._up),
            (3, self._scale),
            (3, self._ask),
            (2, self._down),
            (3, self._want),
            (2, self._steer),
            (1, self._snapshots),
            (7, self._hurt),
            (1, self._host),
            (5, self._spoil),
            (2, self._mishear),
            (5, self._crash),
        ]
        weights, writers = zip(*kinds, strict=True)
        (write,) = self._random.choices(writers, weights)
        step: Step = write(then)
        return step

    def _up(self, then: float) -> Step:
        names = self._random.sample(SERVICES, self._random.randint(1, 2))
        services = [self._service(name, names) for name in names]
        if self._random.random() < 0.3:
            services.append(self._job())
        canary = self._random.choice((None, None, None, 20))
        return Up(
            environment=self._environment(), services=tuple(services), canary=canary, then=then
        )

    def _service(self, name: str, names: list[str]) -> Sketch:
        choose = self._random.choice
        single = name in self._single
        volume = choose((Volume.NONE, Volume.SHARED if single else Volume.EACH))
        needs = name == "web" and "db" in names and self._random.random() < 0.5
        orders = (None, UpdateOrder.STOP_FIRST, UpdateOrder.START_FIRST)
        return Sketch(
            name=name,
            idles=choose((False, False, True)),
            edition=self._random.randint(0, 2),
            health=choose((*(Health.GOOD,) * 6, Health.NEVER, Health.SICKENS)),
            replicas=self._random.randint(0, 1 if single else 3),
            cpus=choose((0.25, 0.5)),
            grace=choose((2.0, 10.0)),
            delay=choose((0.5, 5.0)),
            attempts=choose((None, None, 3)),
            start=choose((StartPolicy.AUTO, StartPolicy.AUTO, StartPolicy.COLD)),
            volume=volume,
            needs=(("db", choose(STARTED_OR_HEALTHY)),) if needs else (),
            order=choose(orders if volume is Volume.NONE else orders[:2]),
            parallelism=choose((1, 1, 2, 0)),
            monitor=choose((0.0, 5.0, 20.0)),
            on_failure=choose(tuple(FailureAction)),
        )

    def _job(self) -> Sketch:
        """What is over once it has been done."""
        once = (RestartCondition.NONE, RestartCondition.ON_FAILURE)
        return Sketch(name=JOB, condition=self._random.choice(once))

    def _scale(self, then: float) -> Step:
        service = self._random.choice(SERVICES)
        count = self._random.randint(0, 1 if service in self._single else 4)
        return Scale(environment=self._environment(), service=service, replicas=count, then=then)

    def _ask(self, then: float) -> Step:
        service = self._random.choice(SERVICES)
        return Ask(environment=self._environment(), service=service, then=then)

    def _down(self, then: float) -> Step:
        volumes = self._random.random() < 0.5
        return Down(environment=self._environment(), volumes=volumes, then=then)

    def _want(self, then: float) -> Step:
        goal = self._random.choice((Goal.RUN, Goal.STOP, Goal.SLEEP, Goal.PAUSE))
        service = self._random.choice(("", *SERVICES))
        return Want(environment=self._environment(), goal=goal, service=service, then=then)

    def _steer(self, then: float) -> Step:
        return Steer(
            environment=self._environment(),
            service=self._random.choice(SERVICES),
            command=self._random.choice(tuple(Command)),
            then=then,
        )

    def _snapshots(self, then: float) -> Step:
        if self._random.random() < 0.5:
            return DropSnapshot(pick=self._random.randrange(8), then=then)
        service = self._random.choice(SERVICES)
        return WarmUp(environment=self._environment(), service=service, then=then)

    def _hurt(self, then: float) -> Step:
        harm = self._random.choice((Harm.KILL, *Harm))
        return Hurt(harm=harm, pick=self._random.randrange(60), then=then)

    def _host(self, then: float) -> Step:
        return self._random.choice(
            (
                LoseNetworks(then=then),
                KillProxy(then=then),
                FillDisk(then=then),
                FillDisk(full=False, then=then),
            )
        )

    def _spoil(self, then: float) -> Step:
        port = self._random.choice(("hypervisor", "hypervisor", *CALLS))
        kinds = [kind for kind in Kind if not (port in WHOLE and kind is Kind.BROKEN_OFF)]
        return Spoil(
            port=port,
            call=self._random.choice(CALLS[port]),
            kind=self._random.choice((Kind.FAILS, *kinds)),
            times=self._random.randint(1, 3),
            then=then,
        )

    def _mishear(self, then: float) -> Step:
        what = self._random.choice(("lose", "repeat", "delay"))
        return Mishear(**{what: self._random.randint(1, 3)}, then=then)

    def _crash(self, then: float) -> Step:
        match self._random.choice(("now", "point", "point", "effects", "effects")):
            case "point":
                point = self._random.choice(fault_points())
                return Crash(point=point, skip=self._random.choice((0, 0, 1, 4)), then=then)
            case "effects":
                return Crash(effects=self._random.randrange(60), then=then)
        return Crash(then=then)

    def _environment(self) -> str:
        return self._random.choice(ENVIRONMENTS)
