"""What must hold of an environment beyond the form of its values: bounds and references.

Works on the resolved model, so that it holds for a user's file and for the API alike. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import islice

from vmorch.model.compose.autoscale_checks import autoscale_findings
from vmorch.model.compose.nodes import quoted
from vmorch.model.compose.quantities import (
    CHECK_PATH,
    HEADER_NAME,
    HEADER_VALUE,
    MOST_BODY_BYTES,
    MOST_HEADERS,
    MOST_MAINTENANCE,
    ROUTE_HOST,
    ROUTE_PATH,
    byte_text,
    cpus_text,
    duration_text,
)
from vmorch.model.compose.reading import MOST_PROBLEMS, did_you_mean
from vmorch.model.compose.rollout_checks import rollout_findings, rollout_times
from vmorch.model.compose.storage_checks import storage_findings
from vmorch.model.names import host_name, is_name
from vmorch.model.spec import DependencyCondition, EnvironmentSpec, HealthKind, Route, ServiceSpec

Finding = tuple[str, str]  # path such as "services.web.ports[0]", message

# The inner /24 has .2 to .63 for services. Of .64 to .254 for instances, some stay free for the
# second set of a rollout and for the quarantine of addresses.
MOST_SERVICES = 62
MOST_INSTANCES = 180
MOST_PORTS = 256
LEAST_MEMORY = 32 * 1024**2
MOST_MEMORY = 4 * 1024**4
LEAST_CPUS, MOST_CPUS = 0.01, 256.0
LEAST_DISK, MOST_DISK = 64 * 1024**2, 64 * 1024**4
LONGEST_SECONDS = 7 * 24 * 3600.0
# The seed disk has 1 MiB for all of the identity; the rest is for secrets and the like.
MOST_USER_DATA = 512 * 1024
_RESERVED = ("localhost", "gateway", "host")


def check(spec: EnvironmentSpec) -> list[Finding]:
    """The problems of `spec`, as (path, message); not more than anybody reads."""
    if len(spec.services) > MOST_SERVICES:
        count = len(spec.services)
        return [("services", f"{count} services are too many; there can be {MOST_SERVICES}.")]
    return list(islice(_findings(spec), MOST_PROBLEMS))


def _findings(spec: EnvironmentSpec) -> Iterator[Finding]:
    for across in (_environment, _names, _dependencies, _published, _routes, storage_findings):
        yield from across(spec)
    for service in spec.services.values():
        for part in (_caps, _health, rollout_findings, _ports, _texts, _kept, autoscale_findings):
            for where, message in part(service):
                yield f"services.{service.name}.{where}", message


def _kept(service: ServiceSpec) -> Iterator[Finding]:
    if service.keep_service and (service.files or service.volumes):
        yield (
            "start.fork.service",
            "A service that has secrets, configs or volumes cannot be kept: the snapshot is from "
            "before it had them, so it is started anew in each fork.",
        )


def _environment(spec: EnvironmentSpec) -> Iterator[Finding]:
    if not is_name(spec.name):
        yield "name", f"{quoted(spec.name)} cannot name an environment; give another with -p."
    instances = sum(service.most_replicas for service in spec.services.values())
    if instances > MOST_INSTANCES:
        message = (
            f"All services together may be {instances} instances; an environment has at most "
            f"{MOST_INSTANCES}."
        )
        yield "services", message


def _names(spec: EnvironmentSpec) -> Iterator[Finding]:
    """Services and instances share one space of host names."""
    hosts: dict[str, str] = {}
    for key, service in spec.services.items():
        path = f"services.{key}"
        host = service.name.replace("_", "-")
        base, _, ordinal = service.name.rpartition("-")
        if key != service.name or not is_name(service.name):
            yield path, f"{quoted(service.name)} cannot name this service."
        elif service.name in _RESERVED:
            yield path, f"'{service.name}' means something else in a guest; choose another name."
        elif host in hosts:
            message = f"The host name '{host}' is that of the service '{hosts[host]}' already."
            yield path, message
        elif ordinal.isdigit() and base in spec.services:
            taken = host_name(base, int(ordinal))
            yield path, f"'{taken}' is the host name of an instance of '{base}'."
        hosts.setdefault(host, service.name)


def _dependencies(spec: EnvironmentSpec) -> Iterator[Finding]:
    for service in spec.services.values():
        for other, condition in service.depends_on.items():
            path = f"services.{service.name}.depends_on.{other}"
            if other == service.name:
                yield path, f"'{other}' depends on itself."
            elif other not in spec.services:
                near = did_you_mean(other, spec.services)
                yield path, f"There is no service {quoted(other)}.{near}"
            elif (
                condition is DependencyCondition.HEALTHY
                and spec.services[other].healthcheck.kind is HealthKind.NONE
            ):
                yield path, f"'{other}' never becomes healthy: its health check is NONE."
    for cycle in _cycles(spec):
        first, second = cycle[0], cycle[1]
        path = f"services.{first}.depends_on.{second}"
        yield path, f"The dependencies form a circle: {' → '.join([*cycle, first])}."


def _cycles(spec: EnvironmentSpec) -> Iterator[list[str]]:
    """Circles of two services or more, each once; by depth-first search without recursion."""
    done: set[str] = set()
    for start in spec.services:
        trail: list[str] = []
        todo = [(start, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                trail.pop()
                done.add(name)
            elif name in trail:
                if len(trail) - trail.index(name) > 1:
                    yield trail[trail.index(name) :]
            elif name not in done and name in spec.services:
                trail.append(name)
                todo.append((name, True))
                todo += [(other, False) for other in reversed(spec.services[name].depends_on)]


def _published(spec: EnvironmentSpec) -> Iterator[Finding]:
    taken: dict[int, list[tuple[str | None, str]]] = {}
    for service in spec.services.values():
        for port in service.ports:
            if port.published is None:
                continue
            others = taken.setdefault(port.published, [])
            for address, owner in others:
                if address == port.host_ip or "0.0.0.0" in (address, port.host_ip):
                    message = f"The host's port {port.published} is published by '{owner}' already."
                    yield f"services.{service.name}.ports", message
                    break
            others.append((port.host_ip, service.name))


def _routes(spec: EnvironmentSpec) -> Iterator[Finding]:
    taken: dict[tuple[object, ...], str] = {}
    for service in spec.services.values():
        path = f"services.{service.name}.route"
        for index, route in enumerate(service.routes):
            headers = sorted((name.lower(), value) for name, value in route.headers.items())
            where = (route.host, route.path.rstrip("/"), *headers)
            if where in taken:
                message = f"The route {route.host}{route.path} leads to '{taken[where]}' already."
                yield path, message
            taken.setdefault(where, service.name)
            if route.port is None and service.main_port is None:
                yield path, "The route needs a port: add 'expose', or 'port' to the route."
            yield from _route(route, f"{path}[{index}]")


def _route(route: Route, path: str) -> Iterator[Finding]:
    if not re.fullmatch(ROUTE_HOST, route.host):
        yield f"{path}.host", f"{quoted(route.host)} is no host name in lower case."
    if not re.fullmatch(ROUTE_PATH, route.path):
        yield f"{path}.path", f"{quoted(route.path)} is no path of a route."
    yield from _headers(route, path)
    yield from _treatment(route, path)


def _treatment(route: Route, path: str) -> Iterator[Finding]:
    seconds, most = route.timeout_seconds, route.body_bytes
    if seconds is not None and not 0.1 <= seconds <= LONGEST_SECONDS:
        texts = map(duration_text, (seconds, 0.1, LONGEST_SECONDS))
        yield f"{path}.timeout", _between(*texts)
    if most is not None and not 0 <= most <= MOST_BODY_BYTES:
        yield f"{path}.body_limit", _between(byte_text(most), "0", byte_text(MOST_BODY_BYTES))
    text = route.maintenance or ""
    if not text.isprintable() or len(text) > MOST_MAINTENANCE:
        yield f"{path}.maintenance", f"The text must be one line of {MOST_MAINTENANCE} characters."


def _headers(route: Route, path: str) -> Iterator[Finding]:
    if len(route.headers) > MOST_HEADERS:
        yield f"{path}.headers", f"A route asks for at most {MOST_HEADERS} headers."
    for name, value in route.headers.items():
        if not (re.fullmatch(HEADER_NAME, name) and re.fullmatch(HEADER_VALUE, value)):
            yield f"{path}.headers", f"{quoted(name)} with {quoted(value)} is no header."
    if len({name.lower() for name in route.headers}) < len(route.headers):
        yield f"{path}.headers", "A header is there twice: upper and lower case are the same."


def _caps(service: ServiceSpec) -> Iterator[Finding]:
    if not LEAST_CPUS <= service.cpus <= MOST_CPUS:
        message = _between(
            cpus_text(service.cpus), cpus_text(LEAST_CPUS), cpus_text(MOST_CPUS), "CPUs"
        )
        yield "deploy.resources.limits.cpus", message
    yield from _reservations(service)
    for where, value, least, most in (
        ("deploy.resources.limits.memory", service.memory_bytes, LEAST_MEMORY, MOST_MEMORY),
        ("disk", service.disk_bytes, LEAST_DISK, MOST_DISK),
    ):
        if value is not None and not least <= value <= most:
            yield where, _between(byte_text(value), byte_text(least), byte_text(most))
    if service.replicas < 0:
        yield "deploy.replicas", "There cannot be fewer than 0 instances."


def _reservations(service: ServiceSpec) -> Iterator[Finding]:
    """Less than the cap is the user's own risk; more could never be used."""
    cpus, memory = service.reserved_cpus, service.reserved_memory_bytes
    if cpus is not None and not 0 <= cpus <= service.cpus:
        message = _above(cpus_text(cpus), cpus_text(service.cpus))
        yield "deploy.resources.reservations.cpus", message
    if memory is not None and not 0 <= memory <= service.memory_bytes:
        message = _above(byte_text(memory), byte_text(service.memory_bytes))
        yield "deploy.resources.reservations.memory", message


def _above(reserved: str, limit: str) -> str:
    return f"The reservation of {reserved} must be from 0 to its limit, {limit}."


def _health(service: ServiceSpec) -> Iterator[Finding]:
    check = service.healthcheck
    needs_port = check.kind in (HealthKind.HTTP, HealthKind.TCP)
    if needs_port and check.port is None and service.main_port is None:
        message = (
            f"The {check.kind.value} check needs a port: add 'expose', or a port to the check."
        )
        yield "healthcheck.test", message
    if check.kind is HealthKind.HTTP and not all(
        re.fullmatch(CHECK_PATH, path) for path in check.argument
    ):
        yield "healthcheck.test", f"{quoted(check.argument[0])} is no path that can be asked for."
    if check.retries < 1:
        yield "healthcheck.retries", "A check must be allowed to fail at least once."
    for where, seconds, least in (
        ("healthcheck.interval", check.interval_seconds, 0.1),
        ("healthcheck.timeout", check.timeout_seconds, 0.1),
        ("healthcheck.start_period", check.start_period_seconds, 0.0),
        ("stop_grace_period", service.stop_grace_period_seconds, 0.0),
        ("deploy.restart_policy.delay", service.restart.delay_seconds, 0.0),
        *rollout_times(service),
    ):
        if not least <= seconds <= LONGEST_SECONDS:
            texts = map(duration_text, (seconds, least, LONGEST_SECONDS))
            yield where, _between(*texts)


def _ports(service: ServiceSpec) -> Iterator[Finding]:
    if len(service.all_ports) > MOST_PORTS:
        yield "expose", f"A service has at most {MOST_PORTS} ports, not {len(service.all_ports)}."


def _texts(service: ServiceSpec) -> Iterator[Finding]:
    if service.cloud_init is not None and len(service.cloud_init.encode()) > MOST_USER_DATA:
        yield "cloud_init", f"The data has more than {byte_text(MOST_USER_DATA)}."
    for name, address in service.extra_hosts.items():
        try:
            ip_address(address)
        except ValueError:
            yield f"extra_hosts.{name}", f"{quoted(address)} is no IP address."


def _between(value: str, least: str, most: str, unit: str = "") -> str:
    what = f"{value} {unit}".strip()
    return f"{what} is not allowed: it must be from {least} to {most}."
