from __future__ import annotations

import threading
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.model.event import EventKind


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


def tell(daemon: Any, message: str, environment: str = "shop", service: str = "") -> None:
    daemon.do(
        daemon.store.add_event(
            EventKind.INSTANCE_READY,
            message,
            now=float(len(message)),
            environment=environment,
            service=service,
        )
    )


def messages(client: Client, **filters: Any) -> list[str]:
    return [event.message for event in client.events(**filters)]


def test_filters(daemon: Any, client: Client) -> None:
    tell(daemon, "a", service="web")
    tell(daemon, "bb", environment="other")
    tell(daemon, "ccc", service="db")
    assert messages(client) == ["a", "bb", "ccc"]
    assert messages(client, environment="shop") == ["a", "ccc"]
    assert messages(client, environment="shop", subjects=["db"]) == ["ccc"]
    assert messages(client, after=1) == ["bb", "ccc"]
    assert messages(client, since=3.0) == ["ccc"]


def test_more_than_a_page(daemon: Any, client: Client) -> None:
    for _ in range(1100):
        tell(daemon, "x")
    assert len(messages(client)) == 1100


def test_following_sees_what_comes_past_others_events(daemon: Any, client: Client) -> None:
    tell(daemon, "first")
    followed = client.events(environment="shop", follow=True)
    assert next(followed).message == "first"

    def later() -> None:
        tell(daemon, "noise", environment="other")
        tell(daemon, "second")

    threading.Timer(0.2, later).start()
    assert next(followed).message == "second"


def test_waiting_beside_others_events_is_no_busy_loop(
    daemon: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(daemon, "first")
    tell(daemon, "noise", environment="other")
    reads = []
    real = daemon.store.events

    async def counted(**filters: Any) -> Any:
        reads.append(filters)
        return await real(**filters)

    monkeypatch.setattr(daemon.store, "events", counted)
    followed = client.events(environment="shop", follow=True)
    assert next(followed).message == "first"
    threading.Timer(0.2, lambda: tell(daemon, "second")).start()
    assert next(followed).message == "second"
    assert len(reads) < 20
