"""The steps of a script: frozen values without a world, so that a script can be written down,
run again and cut short. `vmorch.simulation.life` takes them.

`pick` chooses among what is there when the step is taken, by its remainder; `then` is how long
the world is left to itself afterwards, in seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

from vmorch.model.instance import Goal
from vmorch.model.rollout import FailureAction, UpdateOrder
from vmorch.model.spec import DependencyCondition, RestartCondition, StartPolicy
from vmorch.simulation.troubles import Kind


class Brief:
    """Shows only what is not the default, as it would be written."""

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={_written(getattr(self, field.name))}"
            for field in fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) != field.default
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def _written(value: object) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return f"({''.join(f'{_written(each)}, ' for each in value)})"
    return repr(value)


class Health(enum.StrEnum):
    """Of a sketched service's image."""

    GOOD = "good"
    NEVER = "never"
    SICKENS = "sickens"


class Volume(enum.StrEnum):
    NONE = "none"
    EACH = "each"
    SHARED = "shared"


@dataclass(frozen=True, repr=False, kw_only=True)
class Sketch(Brief):
    """A service in few words. One that `idles` sleeps at no replicas, and wakes when somebody asks
    for it. `edition` is part of its revision."""

    name: str
    idles: bool = False
    edition: int = 0
    health: Health = Health.GOOD
    replicas: int = 1
    cpus: float = 0.5
    grace: float = 10.0
    delay: float = 0.5
    condition: RestartCondition = RestartCondition.ANY
    attempts: int | None = None
    start: StartPolicy = StartPolicy.AUTO
    volume: Volume = Volume.NONE
    needs: tuple[tuple[str, DependencyCondition], ...] = ()
    order: UpdateOrder | None = None
    parallelism: int = 1
    monitor: float = 5.0
    on_failure: FailureAction = FailureAction.ROLLBACK


@dataclass(frozen=True, repr=False, kw_only=True)
class Step(Brief):
    then: float = 0.0


# What users order


@dataclass(frozen=True, repr=False, kw_only=True)
class Up(Step):
    environment: str
    services: tuple[Sketch, ...]
    canary: int | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class Down(Step):
    environment: str
    volumes: bool = False


@dataclass(frozen=True, repr=False, kw_only=True)
class Scale(Step):
    environment: str
    service: str
    replicas: int


@dataclass(frozen=True, repr=False, kw_only=True)
class Want(Step):
    """`service` empty: all of the environment."""

    environment: str
    goal: Goal
    service: str = ""


class Command(enum.StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    UNDO = "undo"


@dataclass(frozen=True, repr=False, kw_only=True)
class Steer(Step):
    """A service's rollout."""

    environment: str
    service: str
    command: Command


@dataclass(frozen=True, repr=False, kw_only=True)
class WarmUp(Step):
    environment: str
    service: str


@dataclass(frozen=True, repr=False, kw_only=True)
class DropSnapshot(Step):
    pick: int


@dataclass(frozen=True, repr=False, kw_only=True)
class Ask(Step):
    """A request for a service, which is answered at once or waits in the proxy."""

    environment: str
    service: str


# What happens to guests and to the host


class Harm(enum.StrEnum):
    KILL = "kill"
    PANIC = "panic"
    POWER_OFF = "power off"
    HANG = "hang"
    FREEZE = "freeze"
    SICKEN = "sicken"
    VANISH = "vanish"


@dataclass(frozen=True, repr=False, kw_only=True)
class Hurt(Step):
    """VANISH: it is gone without an event."""

    harm: Harm
    pick: int


@dataclass(frozen=True, repr=False, kw_only=True)
class LoseNetworks(Step):
    pass


@dataclass(frozen=True, repr=False, kw_only=True)
class KillProxy(Step):
    pass


@dataclass(frozen=True, repr=False, kw_only=True)
class FillDisk(Step):
    """Or let there be room again."""

    full: bool = True


# What happens between the daemon and the world


@dataclass(frozen=True, repr=False, kw_only=True)
class Spoil(Step):
    """Calls of a port go wrong: see `Trouble`."""

    port: str
    call: str
    kind: Kind = Kind.FAILS
    times: int = 1
    about: str = ""


@dataclass(frozen=True, repr=False, kw_only=True)
class Mishear(Step):
    """Of the hypervisor's next events, so many are lost, come twice, or come late."""

    lose: int = 0
    repeat: int = 0
    delay: int = 0


@dataclass(frozen=True, repr=False, kw_only=True)
class Crash(Step):
    """The daemon dies at once; or, with `point`, when it gets there for the `skip`-th time more;
    or, with `effects`, before the effect after so many others. It is started again."""

    point: str = ""
    skip: int = 0
    effects: int | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class Script(Brief):
    """`seed` is that of the daemon's own randomness. `warm`: it makes warm snapshots."""

    seed: int = 0
    warm: bool = False
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        """One step a line, to be pasted into a test."""
        lines = "".join(f"        {step!r},\n" for step in self.steps)
        return (
            f"Script(\n    seed={self.seed},\n    warm={self.warm},\n    steps=(\n{lines}    ),\n)"
        )
