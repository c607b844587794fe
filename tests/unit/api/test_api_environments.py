from __future__ import annotations

import http.client
import json
import socket
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from vmorch.api.views import environment_view
from vmorch.client import Client
from vmorch.errors import InvalidSpec, NotFound, Refused, UsageError
from vmorch.model.spec import EnvironmentSpec, PublishedPort, Route, ServiceSpec

MIB = 1024**2


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def spec(client: Client) -> EnvironmentSpec:
    service = ServiceSpec(
        name="web",
        image=client.ensure_image("debian:12", lambda _: None),
        environment={"TOKEN": "top-secret"},
        expose=(8080,),
        routes=(Route(host="web.localhost", port=8080),),
        ports=(PublishedPort(target=80, published=8000),),
        replicas=2,
        cpus=0.5,
        memory_bytes=256 * MIB,
    )
    return EnvironmentSpec(name="shop", services={"web": service})


def changed(spec: EnvironmentSpec, **values: Any) -> EnvironmentSpec:
    return replace(spec, services={"web": replace(spec.services["web"], **values)})


def settled(client: Client, count: int) -> list[Any]:
    for _ in range(200):
        rows = client.instances("shop")
        if len(rows) == count:
            return rows
    raise AssertionError(rows)


def test_apply_shows_what_was_written_down(client: Client, spec: EnvironmentSpec) -> None:
    view = client.apply(spec)
    assert (view.name, view.version, view.removing) == ("shop", 1, False)
    urls = ["http://web.localhost:8080/", "https://web.localhost:8443/"]
    assert view.services["web"].routes == urls
    assert view.services["web"].published == ["127.0.0.1:8000->80/tcp"]
    assert view.services["web"].revision == 1
    assert client.environments() == [client.environment("shop")]


def test_published_ports_are_shown_where_the_settings_put_them(
    client: Client, daemon: Any, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    record = daemon.do(daemon.store.environment("shop"))
    view = environment_view(record, replace(daemon.settings, publish_address="0.0.0.0"), bool)
    assert view.services["web"].published == ["0.0.0.0:8000->80/tcp"]


@pytest.mark.parametrize(
    ("https_port", "routes"),
    [
        (8444, ["http://a.localhost:8080/x", "https://a.localhost:8444/x", "http://b.org:8080/"]),
        (0, ["http://a.localhost:8080/x", "http://b.org:8080/"]),
    ],
)
def test_an_address_by_tls_is_shown_where_tls_has_a_certificate_for_it(
    client: Client, daemon: Any, spec: EnvironmentSpec, https_port: int, routes: list[str]
) -> None:
    two = (Route(host="a.localhost", path="/x"), Route(host="b.org"))
    client.apply(changed(spec, routes=two))
    record = daemon.do(daemon.store.environment("shop"))
    settings = replace(daemon.settings, https_port=https_port)
    view = environment_view(record, settings, lambda host: host == "a.localhost")
    assert view.services["web"].routes == routes


def test_instances_tell_the_addresses_that_hold_now(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    settled(client, 2)
    client.apply(changed(spec, routes=(Route(host="new.localhost", port=8080),)))
    urls = ["http://new.localhost:8080/", "https://new.localhost:8443/"]
    assert [row.urls for row in settled(client, 2)] == [urls, urls]


def test_ps_has_the_promised_fields_and_the_caps(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    rows = settled(client, 2)
    assert [row.instance for row in rows] == ["web-1", "web-2"]
    row = rows[0]
    assert (row.cpus, row.memory_bytes, row.ready, row.start) == (0.5, 256 * MIB, True, "cold")
    assert row.image == spec.services["web"].image
    assert row.ports == [8080, 80]
    assert row.domain == "abcdef-shop-web-1"
    assert client.instances("shop", "web") == rows
    assert client.instances() == rows


def test_a_change_makes_a_revision_and_is_told(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    view = client.apply(changed(spec, command=("true",)))
    assert (view.version, view.services["web"].revision) == (2, 2)
    kinds = [e.kind for e in client.events(environment="shop") if e.kind != "instance-ready"]
    assert kinds == [
        "environment-applied",
        "revision-created",
        "environment-applied",
        "revision-created",
        "rollout-begun",
    ]


def test_another_number_of_instances_is_told_with_who_ordered_it(
    client: Client, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    client.scale("shop", {"web": 3})
    client.scale("shop", {"web": 3})
    client.apply(changed(spec, replicas=2))
    told = [e.message for e in client.events(subjects=["web"]) if e.kind == "service-scaled"]
    assert told == ["Scaled from 2 to 3 by hand.", "Scaled from 3 to 2 by 'up'."]


def test_nothing_shown_carries_the_services_variables(
    client: Client, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    shown = [client.environments(), client.instances(), list(client.events())]
    assert "top-secret" not in repr(shown)


def test_a_stale_write_is_refused(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    with pytest.raises(Refused):
        client.apply(spec, expected_version=7)
    assert client.apply(spec, expected_version=1).version == 2


def test_a_name_is_not_yet_a_digest(client: Client, spec: EnvironmentSpec) -> None:
    with pytest.raises(InvalidSpec, match=r"services\.web\.image"):
        client.apply(changed(spec, image="debian:12"))
    with pytest.raises(InvalidSpec, match="there is no image"):
        client.apply(changed(spec, image="sha256:" + "0" * 64))
    assert client.environments() == []


def test_less_memory_than_the_base_needs_is_refused(client: Client, spec: EnvironmentSpec) -> None:
    with pytest.raises(InvalidSpec, match=r"32M is less than debian-12 needs \(64M\)"):
        client.apply(changed(spec, memory_bytes=32 * MIB))


def test_a_disk_smaller_than_the_images_is_refused(client: Client, spec: EnvironmentSpec) -> None:
    with pytest.raises(InvalidSpec, match=r"disk: 64M is less than the image has \(16384M\)"):
        client.apply(changed(spec, disk_bytes=64 * MIB))
    client.apply(changed(spec, disk_bytes=16384 * MIB))


def test_scale_changes_the_count_only(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    assert client.scale("shop", {"web": 3}).services["web"].replicas == 3
    assert len(settled(client, 3)) == 3
    with pytest.raises(NotFound, match="nope"):
        client.scale("shop", {"nope": 1})
    with pytest.raises(UsageError):
        client.scale("shop", {"web": -1})


def test_removal_ends_with_not_found(daemon: Any, client: Client, spec: EnvironmentSpec) -> None:
    daemon.converges = False
    client.apply(spec)
    assert client.remove("shop", volumes=True).removing
    assert client.environment("shop").removing
    with pytest.raises(Refused):
        client.apply(spec)
    daemon.converges = True
    client.remove("shop")
    for _ in range(200):
        try:
            client.environment("shop")
        except NotFound:
            break
    assert client.environments() == []


def test_unknown_names_are_not_found(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    for call in (
        lambda: client.environment("nope"),
        lambda: client.remove("nope"),
        lambda: client.instances("nope"),
        lambda: client.instances("shop", "nope"),
        lambda: client.environment("a/../b"),
    ):
        with pytest.raises(NotFound):
            call()


def raw(daemon: Any, method: str, path: str, body: str = "") -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(daemon.settings.socket))
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    found = response.status, response.headers["content-type"], json.loads(response.read())
    connection.close()
    return found


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/environments/nope", "", 404, "not-found"),
        ("GET", "/v2/anything", "", 404, "not-found"),
        ("POST", "/v1/version", "", 400, "usage"),
        ("PUT", "/v1/environments/x", "{", 400, "usage"),
        ("PUT", "/v1/environments/x", '{"spec": {"name": "x"}}', 422, "invalid-spec"),
        ("PUT", "/v1/environments/x", '{"spec": {}, "extra": 1}', 400, "usage"),
    ],
)
def test_errors_are_problem_documents(
    daemon: Any, method: str, path: str, body: str, status: int, code: str
) -> None:
    found, kind, problem = raw(daemon, method, path, body)
    assert kind == "application/problem+json"
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["type"] and problem["title"] and problem["detail"]
    assert problem["exit_code"] in {2, 3, 4}
    assert found in {status, 405}


def test_a_bug_is_a_problem_too(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(daemon.images, "images", broken)
    with capture_logs() as logged:
        status, kind, problem = raw(daemon, "GET", "/v1/images")
    assert [entry["path"] for entry in logged] == ["/v1/images"]
    assert (status, kind, problem["exit_code"]) == (500, "application/problem+json", 1)
    assert "Traceback" not in json.dumps(problem)


def test_openapi_describes_every_route(daemon: Any) -> None:
    status, _, document = raw(daemon, "GET", "/v1/openapi.json")
    assert status == 200
    assert {"/v1/environments/{name}", "/v1/builds", "/v1/events"} <= set(document["paths"])


def test_doctor_and_acceleration(client: Client) -> None:
    assert [check.name for check in client.doctor()] == ["proxy"]
    assert client.acceleration().time_scale == 1.0
