from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.model.instance import State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec


@pytest.fixture
def client(daemon: Any) -> Client:
    client = Client(daemon.settings.socket)
    image = client.ensure_image("debian:12", lambda _: None)
    service = ServiceSpec(
        name="web", image=image, environment={"B": "spec", "C": "spec"}, replicas=2
    )
    other = ServiceSpec(name="db", image=image, user="postgres", working_dir="/data", replicas=0)
    client.apply(EnvironmentSpec(name="shop", services={"web": service, "db": other}))
    while len(client.instances("shop")) < 2:
        pass
    return client


def set_state(daemon: Any, ordinal: int, state: State) -> None:
    (row,) = [r for r in daemon.do(daemon.store.instances("shop")) if r.ordinal == ordinal]
    daemon.do(daemon.store.put_instance(replace(row, state=state)))


def test_a_command_runs_as_the_service_would(daemon: Any, client: Client) -> None:
    client.open_exec("shop", "web-2", argv=["ls"], tty=False, variables={"C": "mine"})
    (request,) = daemon.sessions.requests
    assert (request.domain, request.address) == ("abcdef-shop-web-2", "10.213.0.65")
    assert (request.user, request.working_dir) == ("app", "/opt")
    assert request.environment == {"A": "image", "B": "spec", "C": "mine"}
    assert request.has_ssh and request.has_agent


def test_a_shell_begins_at_home_and_the_users_word_wins(daemon: Any, client: Client) -> None:
    client.open_exec("shop", "web-1", argv=None, tty=True, user="root", columns=99, rows=9)
    client.open_exec("shop", "web-1", argv=["ls"], tty=False, user="me", working_dir="/x")
    shell, command = daemon.sessions.requests
    assert (shell.argv, shell.user, shell.working_dir) == (None, "root", None)
    assert (shell.columns, shell.rows, shell.tty) == (99, 9, True)
    assert (command.user, command.working_dir) == ("me", "/x")


def test_a_service_stands_for_its_first_ready_instance(daemon: Any, client: Client) -> None:
    set_state(daemon, 1, State.STARTING)
    client.open_exec("shop", "web", argv=["ls"], tty=False)
    assert daemon.sessions.requests[0].domain == "abcdef-shop-web-2"


def test_what_does_not_run_is_refused(daemon: Any, client: Client) -> None:
    set_state(daemon, 1, State.FAILED)
    with pytest.raises(Refused, match="web-1 is failed"):
        client.open_exec("shop", "web-1", argv=["ls"], tty=False)
    assert daemon.sessions.requests == []


@pytest.mark.parametrize("name", ["db", "nope", "web-9"])
def test_what_is_not_there_is_not_found(client: Client, name: str) -> None:
    with pytest.raises(NotFound):
        client.open_exec("shop", name, argv=["ls"], tty=False)


def test_an_empty_command_is_no_command(client: Client) -> None:
    with pytest.raises(UsageError):
        client.open_exec("shop", "web-1", argv=[], tty=False)
