"""A resolved environment as the file that would lead to it, for `vmorch config`."""

from __future__ import annotations

import base64
from typing import Any

import yaml

from vmorch.model.compose.parts.autoscale import written
from vmorch.model.compose.quantities import byte_text, cpus_text, duration_text
from vmorch.model.rollout import UpdateConfig
from vmorch.model.spec import (
    BuildSpec,
    DeclaredFile,
    EnvironmentSpec,
    GrantedFile,
    HealthCheck,
    HealthKind,
    NetworkSpec,
    PublishedPort,
    RestartPolicy,
    Route,
    ServiceSpec,
    StartPolicy,
    VolumeMount,
    VolumeSpec,
)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def render(spec: EnvironmentSpec) -> str:
    """YAML that `load` reads back as `spec`, with dollar signs doubled."""
    document = {
        "name": spec.name,
        "services": {name: _service(service) for name, service in spec.services.items()},
        **_network(spec.network),
        **_without_empty({"volumes": {n: _volume(v) for n, v in spec.volumes.items()}}),
        **_declared_files(spec),
    }
    text: str = yaml.dump(
        _escaped(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _escaped(value: Any) -> Any:
    match value:
        case str():
            return value.replace("$", "$$")
        case dict():
            return {key: _escaped(item) for key, item in value.items()}
        case list():
            return [_escaped(item) for item in value]
    return value


def _without_empty(pairs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pairs.items() if value not in (None, {}, [])}


def _service(service: ServiceSpec) -> dict[str, Any]:
    plain = {
        "image": service.image,
        "build": _build(service.build),
        "user": service.user,
        "working_dir": service.working_dir,
        "environment": dict(service.environment),
        "expose": list(service.expose),
        "ports": [_port(port) for port in service.ports],
        "route": [_route(route) for route in service.routes],
        "healthcheck": _healthcheck(service.healthcheck),
        "depends_on": {n: {"condition": c.value} for n, c in service.depends_on.items()},
        "deploy": _deploy(service),
        "disk": None if service.disk_bytes is None else byte_text(service.disk_bytes),
        "cloud_init": service.cloud_init,
        "start": _start(service),
        "stop_grace_period": duration_text(service.stop_grace_period_seconds),
        "extra_hosts": dict(service.extra_hosts),
        "labels": dict(service.labels),
        "autoscale": written(service.autoscale) if service.autoscale else None,
        "volumes": [_mount(mount) for mount in service.volumes],
        "secrets": [_granted(file) for file in service.secrets],
        "configs": [_granted(file) for file in service.configs],
    }
    # An empty command means something: the image's own is taken away.
    words = {"entrypoint": service.entrypoint, "command": service.command}
    return _without_empty(plain) | {k: list(v) for k, v in words.items() if v is not None}


def _start(service: ServiceSpec) -> Any:
    if service.keep_service:
        return {"fork": {"service": "keep"}}
    return None if service.start is StartPolicy.AUTO else service.start.value


def _build(build: BuildSpec | None) -> dict[str, Any]:
    if build is None:
        return {}
    inline = build.dockerfile_inline
    return _without_empty(
        {
            "context": build.context,
            "dockerfile": build.dockerfile if inline is None else None,
            "dockerfile_inline": inline,
            "args": dict(build.args),
            "target": build.target,
            "secrets": [{"source": s.source, "target": s.target} for s in build.secrets],
        }
    )


_PROXY_PROTOCOL = {
    (False, False): None,
    (True, False): "accept",
    (False, True): "send",
    (True, True): "both",
}


def _port(port: PublishedPort) -> dict[str, Any]:
    return _without_empty(
        {
            "target": port.target,
            "published": None if port.published is None else str(port.published),
            "host_ip": port.host_ip,
            "protocol": port.protocol.value,
            "proxy_protocol": _PROXY_PROTOCOL[port.accept_proxy, port.send_proxy],
        }
    )


def _route(route: Route) -> dict[str, Any]:
    seconds, most = route.timeout_seconds, route.body_bytes
    return _without_empty(
        {
            "host": route.host,
            "path": route.path,
            "port": route.port,
            "headers": dict(route.headers),
            "timeout": None if seconds is None else duration_text(seconds),
            "body_limit": None if most is None else byte_text(most),
            "maintenance": route.maintenance,
            "access_log": route.access_log or None,
        }
    )


def _healthcheck(check: HealthCheck) -> dict[str, Any]:
    if check == HealthCheck():
        return {}
    kind = check.kind
    test = None
    if kind is not HealthKind.UNIT:
        port = [] if check.port is None else [check.port]
        path = ["/"] if kind is HealthKind.HTTP and port and not check.argument else []
        test = [kind.value, *check.argument, *path, *port]
    return _without_empty({"test": test}) | {
        "interval": duration_text(check.interval_seconds),
        "timeout": duration_text(check.timeout_seconds),
        "retries": check.retries,
        "start_period": duration_text(check.start_period_seconds),
    }


def _deploy(service: ServiceSpec) -> dict[str, Any]:
    resources = {
        "limits": _resources(service.cpus, service.memory_bytes),
        "reservations": _resources(service.reserved_cpus, service.reserved_memory_bytes),
    }
    return {
        "replicas": service.replicas,
        "resources": _without_empty(resources),
        "restart_policy": _restart(service.restart),
        "update_config": _rollout(service.update),
        "rollback_config": _rollout(service.rollback),
    }


def _resources(cpus: float | None, memory_bytes: int | None) -> dict[str, Any]:
    return _without_empty(
        {
            "cpus": None if cpus is None else cpus_text(cpus),
            "memory": None if memory_bytes is None else byte_text(memory_bytes),
        }
    )


def _rollout(config: UpdateConfig) -> dict[str, Any]:
    order = {"order": config.order.value} if config.order else {}
    return {
        "parallelism": config.parallelism,
        "delay": duration_text(config.delay_seconds),
        "failure_action": config.failure_action.value,
        "monitor": duration_text(config.monitor_seconds),
        "max_failure_ratio": config.max_failure_ratio,
        **order,
    }


def _restart(policy: RestartPolicy) -> dict[str, Any]:
    return _without_empty(
        {
            "condition": policy.condition.value,
            "delay": duration_text(policy.delay_seconds),
            "max_attempts": policy.max_attempts,
            "window": duration_text(policy.window_seconds),
        }
    )


def _network(network: NetworkSpec) -> dict[str, Any]:
    if network == NetworkSpec():
        return {}
    subnet = {"ipam": {"config": [{"subnet": network.subnet}]}} if network.subnet else {}
    return {"networks": {"default": {"internal": network.internal, **subnet}}}


def _mount(mount: VolumeMount) -> dict[str, Any]:
    return {
        "type": "volume",
        "source": mount.source,
        "target": mount.target,
        "read_only": mount.read_only,
        "per_instance": mount.per_instance,
    }


def _granted(file: GrantedFile) -> dict[str, Any]:
    mode = f"{file.mode:04o}"
    places = {"source": file.source, "target": file.target}
    return {**places, "uid": file.uid, "gid": file.gid, "mode": mode}


def _volume(volume: VolumeSpec) -> dict[str, Any]:
    return {"size": byte_text(volume.size_bytes), **_without_empty({"labels": dict(volume.labels)})}


def _declared_files(spec: EnvironmentSpec) -> dict[str, Any]:
    """Where they come from, not what is in them, but for what stands in the file itself."""
    kinds = {"secrets": spec.secrets, "configs": spec.configs}
    return {
        kind: {name: _declared_file(file, spec) for name, file in files.items()}
        for kind, files in kinds.items()
        if files
    }


def _declared_file(file: DeclaredFile, spec: EnvironmentSpec) -> dict[str, Any]:
    if file.file is not None:
        return {"file": file.file}
    if file.environment is not None:
        return {"environment": file.environment}
    return {"content": base64.b64decode(spec.contents.get(file.digest, "")).decode()}
