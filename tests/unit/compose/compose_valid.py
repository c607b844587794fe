"""Lines of a service `web` (beside `image: tiny`) and what they resolve to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vmorch.model.autoscale import AutoscaleSpec, ScheduledFloor
from vmorch.model.rollout import FailureAction, UpdateConfig, UpdateOrder
from vmorch.model.spec import (
    BuildSecret,
    BuildSpec,
    DependencyCondition,
    HealthCheck,
    HealthKind,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    Route,
    StartPolicy,
)

MIB = 1024**2
HTTP = HealthKind.HTTP
NEVER = RestartPolicy(condition=RestartCondition.NONE)


def port(target: int, published: int | None = None, host_ip: str | None = None) -> PublishedPort:
    return PublishedPort(target=target, published=published, host_ip=host_ip)


VALID: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing more": ("", {}),
    "extension": ("x-mine: [1, {a: b}]", {}),
    "null keys": ("environment:\nports:\ndeploy:\nbuild:", {}),
    "image with build": (
        "image: shop\nbuild: .",
        {"image": "shop", "build": BuildSpec(context=".")},
    ),
    "long build": (
        "build:\n  context: ../x\n  dockerfile: D\n  target: t\n  args: [A=1, B, USER]\n  x-y: 1",
        {
            "build": BuildSpec(
                context="../x", dockerfile="D", target="t", args={"A": "1", "USER": "me"}
            )
        },
    ),
    "build with a map of args": (
        "build: {args: {A: 1.10, USER: , B: true}}",
        {"build": BuildSpec(context=".", args={"A": "1.10", "USER": "me", "B": "true"})},
    ),
    "inline Dockerfile": (
        "build:\n  dockerfile_inline: |\n    FROM tiny\n    RUN true",
        {"build": BuildSpec(context=".", dockerfile_inline="FROM tiny\nRUN true\n")},
    ),
    "secrets of a build": (
        "build:\n  target: t\n  secrets:\n    - token\n    - {source: token, target: tok}\n"
        "    - {source: other_2, target: a/b.c, x-y: 1}",
        {
            "build": BuildSpec(
                context=".",
                target="t",
                secrets=(
                    BuildSecret(source="token", target="token"),
                    BuildSecret(source="token", target="tok"),
                    BuildSecret(source="other_2", target="a/b.c"),
                ),
            )
        },
    ),
    "a build's secret in the long form": (
        "build: {secrets: [{source: token}]}",
        {"build": BuildSpec(context=".", secrets=(BuildSecret(source="token", target="token"),))},
    ),
    "no secrets of a build": ("build: {secrets: }", {"build": BuildSpec(context=".")}),
    "command line": (
        "command: sh -c 'echo \"$$A b\"' \\; c",
        {"command": ("sh", "-c", 'echo "$A b"', ";", "c")},
    ),
    "command list": ("command: [a, 'b c', '']", {"command": ("a", "b c", "")}),
    "empty command": ("command: []\nentrypoint: ''", {"command": (), "entrypoint": ()}),
    "entrypoint": ("entrypoint: [/init]", {"entrypoint": ("/init",)}),
    "user number": ("user: 1000\nworking_dir: /srv", {"user": "1000", "working_dir": "/srv"}),
    "user and group": ("user: '1000:1000'", {"user": "1000:1000"}),
    "environment map": (
        "environment: {A: 1, B: 'x=y', C: true, D: '', USER: , NOBODY: , E: 0x1F, F: 1.10}",
        {
            "environment": {
                "A": "1",
                "B": "x=y",
                "C": "true",
                "D": "",
                "USER": "me",
                "E": "0x1F",
                "F": "1.10",
            }
        },
    ),
    "booleans in the environment": (
        "environment: {A: True, B: FALSE}",
        {"environment": {"A": "true", "B": "false"}},
    ),
    "environment list": (
        "environment:\n  - A=1\n  - B=x=y\n  - C=\n  - USER\n  - NOBODY\n  - A=2",
        {"environment": {"A": "2", "B": "x=y", "C": "", "USER": "me"}},
    ),
    "env_file": (
        "env_file: good.env\nenvironment: {A: own}",
        {"environment": {"A": "own", "B": "x # y"}},
    ),
    "env_files": (
        "env_file:\n  - good.env\n  - path: other.env\n  - {path: absent, required: false}",
        {"environment": {"A": "other", "B": "x # y", "USER": "me"}},
    ),
    "raw env_file": (
        "env_file: {path: raw.env, format: raw}",
        {"environment": {"A": "'$USER'"}},
    ),
    "expose": (
        "expose: [80, '8080/tcp', 9000-9002, '80']",
        {"expose": (80, 8080, 9000, 9001, 9002)},
    ),
    "ports": (
        "ports: [80, '81:8081', '127.0.0.1:82:8082', '0.0.0.0::83', '84:84/tcp', 10.0.0.1:85:85]",
        {
            "ports": (
                port(80),
                port(8081, 81),
                port(8082, 82, "127.0.0.1"),
                port(83, None, "0.0.0.0"),
                port(84, 84),
                port(85, 85, "10.0.0.1"),
            )
        },
    ),
    "port pairs are not base 60": ("ports: [22:22, 1:59]", {"ports": (port(22, 22), port(59, 1))}),
    "port ranges": (
        "ports: ['80-81:90-91', 70-71]",
        {"ports": (port(90, 80), port(91, 81), port(70), port(71))},
    ),
    "long port": (
        "ports:\n  - {target: 80, published: '8080', host_ip: 0.0.0.0, protocol: tcp, x-a: 1}\n"
        "  - target: '81'",
        {"ports": (port(80, 8080, "0.0.0.0"), port(81))},
    ),
    "ports with the PROXY protocol": (
        "ports:\n  - {target: 80, published: 80, proxy_protocol: accept}\n"
        "  - {target: 81, published: 81, proxy_protocol: send}\n"
        "  - {target: 82, published: 82, proxy_protocol: both}",
        {
            "ports": (
                replace(port(80, 80), accept_proxy=True),
                replace(port(81, 81), send_proxy=True),
                replace(port(82, 82), accept_proxy=True, send_proxy=True),
            )
        },
    ),
    "same port of two addresses": (
        "ports: ['127.0.0.1:80:80', '127.0.0.2:80:80']",
        {"ports": (port(80, 80, "127.0.0.1"), port(80, 80, "127.0.0.2"))},
    ),
    "route": (
        "expose: [80]\nroute: {host: a.localhost}",
        {"expose": (80,), "routes": (Route(host="a.localhost"),)},
    ),
    "routes": (
        "route:\n  - {host: a, path: /x, port: 80}\n  - {host: a, port: 81}",
        {"routes": (Route(host="a", path="/x", port=80), Route(host="a", port=81))},
    ),
    "route with everything": (
        "route:\n  host: a\n  port: 80\n  headers: {X-Canary: 'yes', x-v: 2}\n"
        "  timeout: 1m30s\n  body_limit: 10M\n  access_log: yes\n"
        "  maintenance: 'It''s $$5; back at 12.'",
        {
            "routes": (
                Route(
                    host="a",
                    port=80,
                    headers={"X-Canary": "yes", "x-v": "2"},
                    timeout_seconds=90,
                    body_bytes=10 * 1024**2,
                    access_log=True,
                    maintenance="It's $5; back at 12.",
                ),
            )
        },
    ),
    "maintenance without a text": (
        "expose: [80]\nroute: [{host: a, maintenance: true}, {host: b, maintenance: false}]",
        {
            "expose": (80,),
            "routes": (
                Route(host="a", maintenance="This service is under maintenance. Try again later."),
                Route(host="b"),
            ),
        },
    ),
    "routes by header": (
        "route:\n  - {host: a, port: 80}\n  - {host: a, port: 81, headers: {X-A: b}}",
        {"routes": (Route(host="a", port=80), Route(host="a", port=81, headers={"X-A": "b"}))},
    ),
    "HTTP check": (
        "expose: [80]\nhealthcheck: {test: [HTTP, /up], interval: 2s, retries: 3, timeout: 1m30s}",
        {
            "expose": (80,),
            "healthcheck": HealthCheck(kind=HTTP, argument=("/up",), timeout_seconds=90),
        },
    ),
    "HTTP check of a port": (
        "healthcheck: {test: [HTTP, /, 81]}",
        {"healthcheck": HealthCheck(kind=HTTP, argument=("/",), port=81)},
    ),
    "bare HTTP check": (
        "expose: [80]\nhealthcheck: {test: [HTTP]}",
        {"expose": (80,), "healthcheck": HealthCheck(kind=HTTP)},
    ),
    "TCP check": (
        "healthcheck: {test: [TCP, '5432'], start_period: 500ms}",
        {"healthcheck": HealthCheck(kind=HealthKind.TCP, port=5432, start_period_seconds=0.5)},
    ),
    "shell line": (
        "healthcheck: {test: 'curl -f localhost || exit 1'}",
        {
            "healthcheck": HealthCheck(
                kind=HealthKind.CMD_SHELL, argument=("curl -f localhost || exit 1",)
            )
        },
    ),
    "CMD check": (
        "healthcheck: {test: [CMD, pg_isready, -q]}",
        {"healthcheck": HealthCheck(kind=HealthKind.CMD, argument=("pg_isready", "-q"))},
    ),
    "no check": (
        "healthcheck: {test: [NONE]}",
        {"healthcheck": HealthCheck(kind=HealthKind.NONE)},
    ),
    "disabled check": (
        "healthcheck: {disable: yes, test: [CMD, x]}",
        {"healthcheck": HealthCheck(kind=HealthKind.NONE)},
    ),
    "times of the default check": (
        "healthcheck: {interval: 1h}",
        {"healthcheck": HealthCheck(interval_seconds=3600)},
    ),
    "limits": (
        "deploy: {mode: replicated, replicas: 2, resources: {limits: {cpus: '.50', memory: 256M}}}",
        {"replicas": 2, "cpus": 0.5, "memory_bytes": 256 * MIB},
    ),
    "numbers as numbers and text": (
        "deploy: {replicas: '3', resources: {limits: {cpus: .25, memory: 134217728}}}",
        {"replicas": 3, "cpus": 0.25, "memory_bytes": 128 * MIB},
    ),
    "older keys": (
        "scale: 0\ncpus: 2\nmem_limit: 1g",
        {"replicas": 0, "cpus": 2.0, "memory_bytes": 1024 * MIB},
    ),
    "reservations": (
        "deploy: {resources: {limits: {cpus: 2}, reservations: {cpus: 0.5, memory: 128M}}}",
        {"cpus": 2.0, "reserved_cpus": 0.5, "reserved_memory_bytes": 128 * MIB},
    ),
    "a reservation of memory in the older form": (
        "mem_limit: 1g\nmem_reservation: 1g",
        {"memory_bytes": 1024 * MIB, "reserved_memory_bytes": 1024 * MIB},
    ),
    "older and newer keys agree": (
        "cpus: 2\ndeploy: {resources: {limits: {cpus: '2.0'}}}",
        {"cpus": 2.0},
    ),
    "restart no": ("restart: no", {"restart": NEVER}),
    "restart quoted no": ("restart: 'no'", {"restart": NEVER}),
    "restart always": ("restart: always", {"restart": RestartPolicy()}),
    "restart on failure": (
        "restart: on-failure:3",
        {"restart": RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=3)},
    ),
    "restart on failure without a bound": (
        "restart: on-failure:0",
        {"restart": RestartPolicy(condition=RestartCondition.ON_FAILURE)},
    ),
    "restart attempts without a bound": (
        "deploy: {restart_policy: {max_attempts: 0}}",
        {"restart": RestartPolicy()},
    ),
    "restart policy wins": (
        "restart: no\ndeploy: {restart_policy: {condition: any, delay: 5s, max_attempts: 2}}",
        {"restart": RestartPolicy(delay_seconds=5, max_attempts=2)},
    ),
    "rollouts": (
        "deploy: {update_config: {parallelism: 0, order: stop-first, monitor: 20s},"
        " rollback_config: {delay: 3s, failure_action: continue, max_failure_ratio: 0.5}}",
        {
            "update": UpdateConfig(
                parallelism=0, order=UpdateOrder.STOP_FIRST, monitor_seconds=20.0
            ),
            "rollback": UpdateConfig(
                parallelism=0,
                delay_seconds=3.0,
                failure_action=FailureAction.CONTINUE,
                max_failure_ratio=0.5,
            ),
        },
    ),
    "disk": ("disk: 20GiB", {"disk_bytes": 20 * 1024 * MIB}),
    "autoscale": (
        "autoscale: {max: 3, cpu: 70%, schedule: [{from: 08:00, to: 18:00, min: 2, days: sat}]}",
        {
            "autoscale": AutoscaleSpec(
                max=3,
                cpu=0.7,
                schedule=(ScheduledFloor(start_minute=480, end_minute=1080, min=2, days=(5,)),),
            )
        },
    ),
    "start": ("start: cold", {"start": StartPolicy.COLD}),
    "start by fork": ("start: {fork: {}}", {"start": StartPolicy.FORK}),
    "start by fork, service kept": (
        "start: {fork: {service: keep}}",
        {"start": StartPolicy.FORK, "keep_service": True},
    ),
    "cloud_init text": (
        "cloud_init: |\n  #!/bin/sh\n  echo $$HOME",
        {"cloud_init": "#!/bin/sh\necho $HOME\n"},
    ),
    "cloud_init mapping": (
        "cloud_init: {packages: [nginx], ntp: {enabled: no}, write_files: []}",
        {
            "cloud_init": "#cloud-config\npackages:\n- nginx\nntp:\n  enabled: 'no'\n"
            "write_files: []\n"
        },
    ),
    "cloud_init file": (
        "cloud_init: {file: user-data}",
        {"cloud_init": "#cloud-config\nruncmd: [echo $HOME]\n"},
    ),
    "grace": ("stop_grace_period: 1m0.5s", {"stop_grace_period_seconds": 60.5}),
    "extra_hosts list": (
        "extra_hosts: ['a:10.0.0.1', 'b=10.0.0.2', 'c:[::1]', 'd:::2']",
        {"extra_hosts": {"a": "10.0.0.1", "b": "10.0.0.2", "c": "::1", "d": "::2"}},
    ),
    "extra_hosts map": ("extra_hosts: {a.b: 10.0.0.1}", {"extra_hosts": {"a.b": "10.0.0.1"}}),
    "labels list": ("labels: [a=1, b]", {"labels": {"a": "1", "b": ""}}),
    "labels map": ("labels: {a.b/c: 1, d: }", {"labels": {"a.b/c": "1", "d": ""}}),
    "dependencies list": (
        "depends_on: [db]",
        {"depends_on": {"db": DependencyCondition.STARTED}},
    ),
    "dependencies map": (
        "depends_on: {db: {condition: service_completed_successfully}}",
        {"depends_on": {"db": DependencyCondition.COMPLETED}},
    ),
    "dependencies without a condition": (
        "depends_on: {db: }",
        {"depends_on": {"db": DependencyCondition.STARTED}},
    ),
    "default network": ("networks: [default]", {}),
    "default network with nothing": ("networks: {default: }", {}),
    "interpolated": (
        "ports: ['${PORT}:${PORT:-80}']\nuser: $USER\nscale: ${SCALE:-2}",
        {"ports": (port(8080, 8080),), "user": "me", "replicas": 2},
    ),
    "anchors and merge keys": (
        "x-a: &a {A: 1, B: 2}\nx-b: &b {B: 3, C: 4}\nenvironment: {<<: [*a, *b], C: 5}",
        {"environment": {"A": "1", "B": "2", "C": "5"}},
    ),
    "tags of YAML": (
        "user: !!str 12\nscale: !!int '3'\ncommand: ! 12",
        {"user": "12", "replicas": 3, "command": ("12",)},
    ),
}


def valid_file(lines: str) -> str:
    """The whole file that has these lines in its service `web`; it declares two secrets."""
    image = "" if lines.startswith("image:") else "    image: tiny\n"
    body = "".join(f"    {line}\n" for line in lines.splitlines())
    secrets = "secrets: {token: {file: good.env}, other_2: {file: other.env}}\n"
    return f"services:\n  web:\n{image}{body}  db: {{image: tiny}}\n{secrets}"
