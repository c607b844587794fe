from __future__ import annotations

import json
from typing import Any

import pytest

from vmorch.errors import InvalidSpec
from vmorch.model import codec
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig
from vmorch.model.spec import (
    BuildSpec,
    DependencyCondition,
    EnvironmentSpec,
    HealthCheck,
    HealthKind,
    NetworkSpec,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    Route,
    ServiceSpec,
    StartPolicy,
)

FULL = ServiceSpec(
    name="web",
    image="sha256:00",
    build=BuildSpec(context=".", args={"A": "1"}, target="final"),
    command=("a", "b"),
    entrypoint=(),
    user="1000:1000",
    working_dir="/srv",
    environment={"A": "é"},
    expose=(80,),
    ports=(PublishedPort(target=53, published=None),),
    routes=(Route(host="web.localhost", port=80),),
    healthcheck=HealthCheck(kind=HealthKind.CMD_SHELL, argument=("true",)),
    depends_on={"db": DependencyCondition.HEALTHY},
    cpus=0.5,
    disk_bytes=1 << 40,
    cloud_init="#cloud-config\n",
    start=StartPolicy.COLD,
    restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=3),
)
ENVIRONMENT = EnvironmentSpec(
    name="shop",
    services={"web": FULL, "db": ServiceSpec(name="db", image="debian:12")},
    network=NetworkSpec(subnet="10.1.2.0/24", internal=True),
)
MANIFEST = ImageManifest(
    digest="sha256:11",
    base="debian-12",
    layers=(Layer(digest="sha256:11", created_by="RUN x", size_bytes=5),),
    boot=BootConfig(
        kernel="k", initrd="i", command_line="root=/dev/vda", supports=frozenset({"ssh", "agent"})
    ),
    run=RunConfig(command=("x",), exposed_ports=(80,), healthcheck=HealthCheck()),
    virtual_size_bytes=1 << 34,
    created_at=1.5,
)


def through_text(value: dict[str, Any]) -> Any:
    return json.loads(json.dumps(value))


def test_every_value_survives_the_way_through_json_text() -> None:
    assert codec.from_json(through_text(codec.to_json(ENVIRONMENT))) == ENVIRONMENT
    assert codec.manifest_from_json(through_text(codec.manifest_to_json(MANIFEST))) == MANIFEST


def test_json_is_plain_and_the_same_each_time() -> None:
    data = codec.manifest_to_json(MANIFEST)
    assert data["boot"]["supports"] == ["agent", "ssh"]
    assert type(codec.to_json(ENVIRONMENT)["services"]["web"]["start"]) is str


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"bogus": 1}, "services.web.bogus"),
        ({"memory_bytes": "512M"}, "services.web.memory_bytes"),
        ({"memory_bytes": True}, "services.web.memory_bytes"),
        ({"cpus": float("nan")}, "services.web.cpus"),
        ({"cpus": float("inf")}, "services.web.cpus"),
        ({"command": "ls"}, "services.web.command"),
        ({"start": "warm"}, "services.web.start"),
        ({"image": None}, "services.web.image"),
        ({"healthcheck": {"kind": "HTTPS"}}, "services.web.healthcheck.kind"),
        ({"ports": [{"published": 1}]}, "services.web.ports[0].target"),
        ({"environment": {"A": 1}}, "services.web.environment.A"),
        (
            {"build": {"context": ".", "secrets": [{"source": "a"}]}},
            "services.web.build.secrets[0].target",
        ),
    ],
)
def test_nonsense_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    data = codec.to_json(ENVIRONMENT)
    data["services"]["web"] |= change
    with pytest.raises(InvalidSpec) as caught:
        codec.from_json(data)
    assert path in [p.path for p in caught.value.problems]


@pytest.mark.parametrize("data", [None, [], "x", 1, {}, {"name": 1}, object(), {1: object()}])
def test_other_values_are_refused(data: Any) -> None:
    for read in (codec.from_json, codec.manifest_from_json):
        with pytest.raises(InvalidSpec):
            read(data)


def test_endless_nesting_is_refused() -> None:
    data: list[Any] = []
    data.append(data)
    with pytest.raises(InvalidSpec):
        codec.from_json(data)
    deep: Any = {}
    for _ in range(100_000):
        deep = {"services": deep}
    with pytest.raises(InvalidSpec):
        codec.from_json(deep)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": "other"}, "services.web.name"),
        ({"image": "a b"}, "services.web.image"),
        (
            {"build": {"context": ".", "secrets": [{"source": "a", "target": "a"}]}},
            "services.web.build.secrets[0]",
        ),
        ({"replicas": -1}, "services.web.deploy.replicas"),
        ({"memory_bytes": 1}, "services.web.deploy.resources.limits.memory"),
        ({"environment": {"A=B": ""}}, "services.web.environment.A=B"),
        ({"environment": {"A": "\0"}}, "services.web.environment.A"),
        ({"working_dir": "srv"}, "services.web.working_dir"),
        ({"expose": [0]}, "services.web.expose[0]"),
        (
            {"ports": [{"target": 1, "published": 1, "host_ip": "x"}]},
            "services.web.ports[0].host_ip",
        ),
        ({"cloud_init": "hello"}, "services.web.cloud_init"),
        ({"depends_on": {"nobody": "service_started"}}, "services.web.depends_on.nobody"),
        ({"healthcheck": {"kind": "CMD"}}, "services.web.healthcheck.test"),
        (
            {"healthcheck": {"kind": "HTTP", "argument": ["/a b"], "port": 80}},
            "services.web.healthcheck.test",
        ),
        ({"routes": [{"host": "a b", "port": 80}]}, "services.web.route[0].host"),
        ({"routes": [{"host": "a", "path": "/it's", "port": 80}]}, "services.web.route[0].path"),
        (
            {"routes": [{"host": "a", "port": 80, "maintenance": "x" * 501}]},
            "services.web.route[0].maintenance",
        ),
    ],
)
def test_what_no_file_could_say_is_refused_over_the_api(change: dict[str, Any], path: str) -> None:
    data = codec.to_json(ENVIRONMENT)
    data["services"]["web"] |= change
    with pytest.raises(InvalidSpec) as caught:
        codec.from_json(data)
    assert [p.path for p in caught.value.problems] == [path]
    assert caught.value.problems[0].line == 0


def test_light_programs_do_not_pay_for_reading() -> None:
    import subprocess
    import sys

    code = "import sys; import vmorch.model.codec; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
