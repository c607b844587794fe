"""Pulses and consoles: what is a sign of life, what is a sign of harm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from vmorch.errors import GuestError
from vmorch.hypervisor.protocol import ObservedGuest
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.reconciler.consoles import TOLD_SECONDS, Consoles
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.pulses import STIR_SECONDS, Pulses

KILL = "[ 9.1] Out of memory: Killed process 77 (serve) total-vm:1kB\n"


def instance(boot: int = 1) -> Instance:
    return Instance(
        environment="shop",
        service="web",
        ordinal=1,
        revision=1,
        uuid="u",
        mac="",
        inner_address="",
        outer_address="10.1.0.64",
        goal=Goal.RUN,
        state=State.READY,
        reason="",
        created_at=0.0,
        boot=boot,
    )


class Around:
    """Clock, prober and hypervisor, as far as pulses need them."""

    def __init__(self, answers: bool) -> None:
        self.time = 0.0
        self.stirred: list[str] = []
        self.answers = answers
        self.clock = self.prober = self.hypervisor = self

    def now(self) -> float:
        return self.time

    def stir(self, address: str) -> None:
        self.stirred.append(address)

    async def agent(self, name: str, *_: Any) -> None:
        if not self.answers:
            raise GuestError("Silence.")


Look = Callable[[float], tuple[float, int]]  # time -> processor seconds and packets so far


def silence(look: Look, *, answers: bool = False, seconds: int = 40) -> tuple[float, list[str]]:
    async def story() -> tuple[float, list[str]]:
        around = Around(answers)
        pulses = Pulses(cast("Parts", around))
        for second in range(0, seconds + 1, 5):
            around.time = float(second)
            cpu, packets = look(around.time)
            guest = ObservedGuest(
                name="d",
                uuid="u",
                identity=None,
                state=GuestState.RUNNING,
                cpu_seconds=cpu,
                sent_packets=packets,
            )
            found = pulses.feel([(instance(), guest, 0.5)])
            await asyncio.sleep(0)
        await pulses.close()
        return found["d"].silent_seconds, around.stirred

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("look", "silent"),
    [
        (lambda t: (0.0, 0), 40.0),  # flat
        (lambda t: (0.5 * t, 0), 40.0),  # pegged at its cap
        (lambda t: (0.2 * t, 0), 0.0),  # works
        (lambda t: (0.0, int(t)), 0.0),  # sends
    ],
)
def test_a_guest_is_silent_when_it_neither_sends_nor_works(look: Look, silent: float) -> None:
    assert silence(look)[0] == silent


def test_a_silent_guest_is_stirred_and_its_agent_asked() -> None:
    assert silence(lambda t: (0.0, 0))[1] != []
    silent, stirred = silence(lambda t: (0.0, 0), answers=True)
    assert silent <= STIR_SECONDS + 5
    assert set(stirred) == {"10.1.0.64"}
    assert silence(lambda t: (0.0, int(t)))[1] == []


@pytest.mark.parametrize(("boot", "pause"), [(2, 10.0), (1, 3600.0)])
def test_a_new_boot_and_a_long_gap_begin_anew(boot: int, pause: float) -> None:
    async def story() -> float:
        around = Around(answers=False)
        pulses = Pulses(cast("Parts", around))
        guest = ObservedGuest(name="d", uuid="u", identity=None, state=GuestState.RUNNING)
        pulses.feel([(instance(boot=1), guest, 0.5)])
        around.time = pause
        found = pulses.feel([(instance(boot=boot), guest, 0.5)])
        await pulses.close()
        return found["d"].silent_seconds

    assert asyncio.run(story()) == 0.0


def test_only_what_is_new_on_a_console_is_told(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text(KILL)  # of a former boot, or told by a former daemon
    consoles = Consoles()
    boot = ("shop", "web-1", 1)
    assert consoles.look([(instance(), log)], 0.0) == {}
    with log.open("a") as file:
        file.write("booting\n" + KILL[:30])
        file.flush()
        assert consoles.look([(instance(), log)], 1.0) == {}  # half a line
        file.write(KILL[30:])
        file.flush()
        assert consoles.look([(instance(), log)], 2.0)[boot].endswith("killed 'serve'")
        file.write(KILL)
        file.flush()
        assert consoles.look([(instance(), log)], 3.0)[boot].endswith("'serve' (2 times)")
    assert consoles.look([(instance(), log)], 3.0 + TOLD_SECONDS) == {}
    assert consoles.look([(instance(boot=2), log)], 4.0) == {}


def test_a_console_that_was_turned_over_or_is_missing(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    consoles = Consoles()
    assert consoles.look([(instance(), log)], 0.0) == {}
    log.write_text("x" * 1000 + "\n")
    assert consoles.look([(instance(), log)], 0.0) == {}
    log.write_text(KILL)
    assert len(consoles.look([(instance(), log)], 1.0)) == 1
