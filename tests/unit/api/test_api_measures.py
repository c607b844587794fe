"""Measures over the real HTTP application, and `/metrics` where nothing else is answered."""

from __future__ import annotations

import asyncio
import http.client
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.metrics.looks import guest, look, subject
from vmorch.api.app import create_metrics_app
from vmorch.client import Client
from vmorch.errors import NotFound
from vmorch.metrics.history import History
from vmorch.metrics.ring import STEP_SECONDS
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.use import HostUse

HOST = HostUse(at=1, cpus=4, busy_cpus=0.5, memory_bytes=8, available_bytes=4, merged_bytes=0)


@pytest.fixture
def client(daemon: Any) -> Client:
    client = Client(daemon.settings.socket)
    image = client.ensure_image("debian:12", lambda _: None)
    client.apply(
        EnvironmentSpec(name="shop", services={"web": ServiceSpec(name="web", image=image)})
    )
    return client


@pytest.fixture
def history(daemon: Any) -> History:
    """Of two instances, one of them in another environment, over three steps."""
    history: History = daemon.history
    subjects = [subject(), subject(1, environment="other", uuid="uuid-o")]
    for tick in range(4):
        at = tick * STEP_SECONDS
        counters = {"uuid-1": guest(at / 2), "uuid-o": guest(at / 4)}
        history.take(look(at, subjects=subjects, guests=counters, host=replace(HOST, at=at)))
    return history


def test_before_the_first_look(client: Client) -> None:
    assert client.measured_instances("shop") == []
    assert client.measured_services() == []
    assert client.measured_host() is None


def test_the_last_look(client: Client, history: History) -> None:
    rows = client.measured_instances()
    assert [(r.environment, r.instance, r.now.cpu_share) for r in rows] == [
        ("other", "web-1", 0.5),
        ("shop", "web-1", 1.0),
    ]
    assert rows[1].totals.cpu_seconds == 15.0
    assert [r.environment for r in client.measured_instances("shop", "web")] == ["shop"]
    (service,) = client.measured_services("shop")
    assert (service.service, service.now.instances, service.now.cpus) == ("web", 1, 0.5)
    assert client.measured_host() == replace(HOST, at=30.0)


def test_instances_are_listed_in_the_order_of_their_numbers(client: Client, daemon: Any) -> None:
    daemon.history.take(look(10.0, subjects=[subject(n) for n in (10, 2, 1)]))
    names = [row.instance for row in client.measured_instances("shop")]
    assert names == ["web-1", "web-2", "web-10"]


@pytest.mark.parametrize(
    "path",
    [
        "instances?environment=nobody",
        "instances?environment=shop&service=nothing",
        "instances/shop/web-9",
        "services?environment=nobody",
        "services/shop/nothing",
    ],
)
def test_what_is_not_there(client: Client, history: History, path: str) -> None:
    with pytest.raises(NotFound):
        client._call("GET", f"/v1/metrics/{path}")


def test_the_last_hour(client: Client, history: History) -> None:
    points = client._call("GET", "/v1/metrics/instances/shop/web-1")
    assert [(p["at"], p["cpus"]) for p in points] == [(10.0, None), (20.0, 0.5), (30.0, 0.5)]
    later = client._call("GET", "/v1/metrics/services/shop/web?since=20")
    assert [(p["at"], p["ready"]) for p in later] == [(30.0, 1.0)]
    assert len(client._call("GET", "/v1/metrics/host?since=0")) == 3


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def test_prometheus_reads_the_socket(daemon: Any, client: Client, history: History) -> None:
    connection = UnixConnection(daemon.settings.socket)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'vmorch_service_instances{environment="shop",service="web"} 1.0' in response.read()
    connection.close()


def status(app: Any, method: str, path: str) -> int:
    """Of one request, as a server hands it to an application (ASGI)."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


def test_who_may_read_metrics_may_do_nothing_else() -> None:
    app = create_metrics_app(History())
    assert status(app, "GET", "/metrics") == 200
    for method, path in (
        ("GET", "/v1/instances"),
        ("GET", "/v1/openapi.json"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("POST", "/v1/daemon/stop"),
        ("POST", "/metrics"),
    ):
        assert status(app, method, path) in {404, 405}
