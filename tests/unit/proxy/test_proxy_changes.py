"""The difference between desired and running servers. `World` is HAProxy's side of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from vmorch.proxy.changes import Command, changes
from vmorch.proxy.protocol import Backend, Check, Mode, Server
from vmorch.proxy.running import RunningServer

CHECK = Check(path="/", port=80, interval_seconds=1, retries=3)


def server(number: int, *, admitted: bool = True) -> Server:
    return Server(name=f"s-{number}", id=number, address="10.0.0.1", port=80, admitted=admitted)


def backend(*servers: Server, check: Check | None = None) -> Backend:
    return Backend(name="b", mode=Mode.HTTP, servers=servers, check=check)


def running(item: Server, *, checked: bool = False) -> RunningServer:
    return RunningServer(
        id=item.id,
        address=item.address,
        port=item.port,
        weight=item.weight,
        maintenance=False,
        drained=not item.admitted,
        checked=checked,
    )


def texts(commands: list[Command]) -> list[str]:
    return [command.text for command in commands]


def test_nothing_to_change() -> None:
    now = {"b": {"s-1": running(server(1)), "s-2": running(server(2, admitted=False))}}
    assert changes((backend(server(1), server(2, admitted=False)),), now) == []


def test_an_addition_enables_its_check_and_leaves_maintenance_last() -> None:
    add, *rest = texts(changes((backend(server(1), check=CHECK),), {}))
    assert add.startswith("add server b/s-1 10.0.0.1:80 id 1 weight 100 ")
    assert " check pool-purge-delay 1s port 80 inter 1000ms fall 3 rise 1" in add
    assert rest == ["enable health b/s-1", "set server b/s-1 state ready"]


def test_an_addition_without_check_enables_none() -> None:
    commands = texts(changes((backend(server(1, admitted=False)),), {}))
    assert commands[1:] == ["set server b/s-1 state drain"]


def test_additions_go_before_removals() -> None:
    commands = texts(changes((backend(server(2)),), {"b": {"s-1": running(server(1))}}))
    assert commands[0].startswith("add server b/s-2 ")
    assert commands[-2:] == ["set server b/s-1 state maint", "del server b/s-1"]


def test_a_server_left_by_a_kill_in_the_middle_of_its_addition_is_finished() -> None:
    half = replace(running(server(1)), maintenance=True)
    assert texts(changes((backend(server(1), check=CHECK),), {"b": {"s-1": half}})) == [
        "enable health b/s-1",
        "set server b/s-1 state ready",
    ]


def test_a_removal_left_by_connections_is_only_tried_again() -> None:
    half = replace(running(server(1)), maintenance=True)
    (command,) = changes((backend(),), {"b": {"s-1": half}})
    assert (command.text, command.later) == ("del server b/s-1", True)


def test_sessions_are_ended_once_and_their_server_can_come_back() -> None:
    closed = replace(server(1, admitted=False), closed=True)
    now = {"b": {"s-1": running(server(1, admitted=False))}}
    assert texts(changes((backend(closed),), now)) == [
        "set server b/s-1 state drain",
        "shutdown sessions server b/s-1",
        "set server b/s-1 state maint",
    ]
    done = {"b": {"s-1": replace(running(server(1)), maintenance=True)}}
    assert changes((backend(closed),), done) == []
    assert texts(changes((backend(server(1)),), done)) == ["set server b/s-1 state ready"]
    assert changes((backend(closed),), {}) == []


def test_a_server_disabled_by_the_file_is_drained_instead() -> None:
    disabled = replace(running(server(1)), maintenance=True)
    commands = changes((backend(server(1, admitted=False)),), {"b": {"s-1": disabled}})
    assert texts(commands) == ["set server b/s-1 state drain"]


def test_a_moved_or_reweighted_server_is_changed_in_place() -> None:
    moved = replace(server(1), address="10.0.0.2", port=81, weight=50)
    assert texts(changes((backend(moved),), {"b": {"s-1": running(server(1))}})) == [
        "set server b/s-1 addr 10.0.0.2 port 81",
        "set weight b/s-1 50",
    ]


@dataclass
class World:
    """What HAProxy does with the commands, as the management guide says it."""

    servers: dict[str, RunningServer] = field(default_factory=dict)

    def run(self, text: str) -> None:
        words = text.split()
        name = next(word for word in words if word.startswith("b/")).removeprefix("b/")
        if text.startswith("add server"):
            assert name not in self.servers
            self._add(name, text)
        elif text.startswith("enable health"):
            self._set(name, checked=True)
        elif text.startswith("set weight"):
            self._set(name, weight=int(words[-1]))
        elif " addr " in text:
            self._set(name, address=words[4], port=int(words[6]))
        elif text.startswith("del server"):
            assert self.servers.pop(name).maintenance
        else:
            state = words[-1]
            self._set(name, maintenance=state == "maint", drained=state == "drain")

    def _set(self, name: str, **changed: object) -> None:
        self.servers[name] = replace(self.servers[name], **changed)  # type: ignore[arg-type]

    def _add(self, name: str, text: str) -> None:
        found = re.search(r" ([\d.]+):(\d+) id (\d+) weight (\d+)", text)
        assert found
        self.servers[name] = RunningServer(
            address=found[1],
            port=int(found[2]),
            id=int(found[3]),
            weight=int(found[4]),
            maintenance=True,
            drained=False,
            checked=False,
        )


fleets = st.lists(
    st.builds(
        lambda number, admitted, port: replace(server(number, admitted=admitted), port=port),
        st.integers(1, 5),
        st.booleans(),
        st.integers(80, 81),
    ),
    max_size=5,
    unique_by=lambda item: item.id,
)


@given(
    steps=st.lists(st.tuples(fleets, st.integers(0, 12)), max_size=4),
    last=fleets,
    check=st.sampled_from([None, CHECK]),
)
def test_whatever_was_interrupted_where_the_last_wish_comes_true(
    steps: list[tuple[list[Server], int]], last: list[Server], check: Check | None
) -> None:
    world = World()
    for wish, kept in steps:
        for command in changes((backend(*wish, check=check),), {"b": world.servers})[:kept]:
            world.run(command.text)
    wanted = backend(*last, check=check)
    for command in changes((wanted,), {"b": world.servers}):
        world.run(command.text)
    assert world.servers == {s.name: running(s, checked=check is not None) for s in last}
    assert changes((wanted,), {"b": world.servers}) == []
