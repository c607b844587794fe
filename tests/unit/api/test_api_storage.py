"""Volumes, secrets and configs over the real HTTP application."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from vmorch.client import Client
from vmorch.errors import InvalidSpec, NotFound, Refused
from vmorch.model.spec import (
    DeclaredFile,
    EnvironmentSpec,
    GrantedFile,
    ServiceSpec,
    VolumeMount,
    VolumeSpec,
)

SECRET = "hunter-two-and-twenty"
CONTENT = base64.b64encode(SECRET.encode()).decode()
DIGEST = "sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def spec(client: Client) -> EnvironmentSpec:
    db = ServiceSpec(
        name="db",
        image=client.ensure_image("debian:12", lambda _: None),
        volumes=(VolumeMount(source="data", target="/srv"),),
        secrets=(GrantedFile(source="key", target="/run/secrets/key", digest=DIGEST),),
    )
    return EnvironmentSpec(
        name="shop",
        services={"db": db},
        volumes={"data": VolumeSpec()},
        secrets={"key": DeclaredFile(digest=DIGEST, file="key")},
        contents={DIGEST: CONTENT},
    )


def raw(daemon: Any, path: str) -> str:
    connection = http.client.HTTPConnection("vmorch")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(daemon.settings.socket))
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def test_nothing_that_is_shown_or_logged_holds_a_secret(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    with capture_logs() as logged:
        client.apply(spec)
        forged = base64.b64encode(b"forged " + SECRET.encode()).decode()
        with pytest.raises(InvalidSpec):
            client.apply(replace(spec, contents={DIGEST: forged}))
        with pytest.raises(InvalidSpec) as caught:
            client.apply(replace(spec, secrets={}))
    places = ("environments", "environments/shop", "instances", "events?follow=false")
    shown = "".join(raw(daemon, f"/v1/{place}") for place in places)
    for text in (shown, str(logged), caught.value.message, repr(caught.value.problems)):
        assert SECRET not in text
        assert CONTENT not in text
    assert daemon.do(daemon.store.contents("shop", {DIGEST})) == {DIGEST: SECRET.encode()}


def test_a_volume_cannot_be_shared_by_scaling(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    with pytest.raises(Refused, match="one at a time"):
        client.scale("shop", {"db": 2})
    two = replace(spec, services={"db": replace(spec.services["db"], replicas=2)})
    with pytest.raises(InvalidSpec, match="per_instance"):
        client.apply(two)


def test_volumes_of_a_gone_environment_can_be_removed(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    with pytest.raises(Refused, match="still uses"):
        client.remove_volumes("shop")
    (row,) = daemon.do(daemon.store.instances("shop"))
    daemon.do(daemon.store.claim_volumes(row, spec.services["db"].volumes, {}))
    daemon.do(daemon.store.forget("shop"))
    client.remove_volumes("shop")
    (volume,) = daemon.do(daemon.store.volumes("shop"))
    assert volume.removing
    assert volume.holder is None
    daemon.do(daemon.store.forget_volume(volume))
    with pytest.raises(NotFound, match="no volume"):
        client.remove_volumes("shop")
