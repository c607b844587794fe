"""What the user declared, resolved: an environment and its services.

These values are made by `vmorch.model.compose` from the user's files and travel as JSON from
the client through the API into the store. Sizes are bytes, times seconds.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.rollout import BACKWARDS, UpdateConfig, UpdateOrder

DEFAULT_MEMORY_BYTES = 512 * 1024**2
DEFAULT_CPUS = 1.0
DEFAULT_VOLUME_BYTES = 10 * 1024**3
"""A volume takes the room of what is in it, so this is only a bound."""

LATER_KEYS = frozenset({"volumes", "secrets", "configs"})
"""Keys that the first revisions were counted without: empty, they must not make new ones."""


class Protocol(enum.StrEnum):
    TCP = "tcp"
    UDP = "udp"


class StartPolicy(enum.StrEnum):
    """How instances may come up. AUTO and FORK: from a warm snapshot when there is one."""

    AUTO = "auto"
    COLD = "cold"
    FORK = "fork"


class StartMode(enum.StrEnum):
    """How an instance's guest did come up."""

    COLD = "cold"
    FORK = "fork"
    RESUME = "resume"


class HealthKind(enum.StrEnum):
    """How readiness is asked. UNIT is the default: the service's unit in the guest is active."""

    HTTP = "HTTP"
    TCP = "TCP"
    CMD = "CMD"
    CMD_SHELL = "CMD-SHELL"
    UNIT = "UNIT"
    NONE = "NONE"


class DependencyCondition(enum.StrEnum):
    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class RestartCondition(enum.StrEnum):
    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSecret:
    """A declared secret that steps of a build may mount; `target` is the id that they use."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """Where an image is built from. Paths are the client's; the daemon never opens them.

    `dockerfile_inline` is the text of a Dockerfile and stands in for the file when it is set.
    """

    context: str
    dockerfile: str = "Dockerfile"
    dockerfile_inline: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    target: str | None = None
    secrets: tuple[BuildSecret, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """`argument` is the path for HTTP (default /), unused for TCP, the argv for CMD and
    the one shell line for CMD-SHELL. `port` None means the service's first port."""

    kind: HealthKind = HealthKind.UNIT
    argument: tuple[str, ...] = ()
    port: int | None = None
    interval_seconds: float = 2.0
    timeout_seconds: float = 5.0
    retries: int = 3
    start_period_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """`ports:`. `published` None lets vmorch choose a free port of the host, `host_ip` None leaves
    the address to the daemon's settings. By the PROXY protocol, connections may have to say who
    their client is (`accept_proxy`), and may say so to the service (`send_proxy`)."""

    target: int
    published: int | None
    host_ip: str | None = None
    protocol: Protocol = Protocol.TCP
    accept_proxy: bool = False
    send_proxy: bool = False

    def address(self, publish_address: str) -> str:
        """Where it listens when `publish_address` is what the settings say."""
        return self.host_ip or publish_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An HTTP route: requests for `host` whose path starts with `path` and that have `headers` with
    these values go to `port`. An instance may be silent for `timeout_seconds`, a request's body
    have `body_bytes`. A text in `maintenance` is the answer to everything instead. `access_log`:
    the requests are logged."""

    host: str
    path: str = "/"
    port: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    body_bytes: int | None = None
    maintenance: str | None = None
    access_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """`delay_seconds` is the wait before the first restart; each further one doubles it.
    `max_attempts` are in a row; an instance that is ready for `window_seconds` begins anew."""

    condition: RestartCondition = RestartCondition.ANY
    delay_seconds: float = 1.0
    max_attempts: int | None = None
    window_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A named volume in a service's guests, at the directory `target`. `per_instance` gives each
    instance a disk of its own under that name; without it there is one, for one instance."""

    source: str
    target: str
    read_only: bool = False
    per_instance: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedFile:
    """A secret or config in a service's guests. `digest` is that of its content, so that another
    content is another revision; the content itself is no part of a service."""

    source: str
    target: str
    digest: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service, everything resolved.

    `image` is the user's reference ("debian:12", "tiny", a name) or, once the client has had
    it built or looked up, `sha256:…` of the image. None of `command`, `entrypoint`, `user`,
    `working_dir` set means what the image says. A `cpus` of 0.5 is half a core. `keep_service`:
    a fork goes on with the service as it ran in the snapshot, instead of starting it anew.
    `reserved_cpus` and `reserved_memory_bytes` are what the host must have free for an instance to
    start; None: the caps.
    """

    name: str
    image: str
    build: BuildSpec | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    expose: tuple[int, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    routes: tuple[Route, ...] = ()
    healthcheck: HealthCheck = field(default_factory=HealthCheck)
    depends_on: dict[str, DependencyCondition] = field(default_factory=dict)
    replicas: int = 1
    cpus: float = DEFAULT_CPUS
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    reserved_cpus: float | None = None
    reserved_memory_bytes: int | None = None
    disk_bytes: int | None = None
    cloud_init: str | None = None
    start: StartPolicy = StartPolicy.AUTO
    keep_service: bool = False
    stop_grace_period_seconds: float = 10.0
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    rollback: UpdateConfig = BACKWARDS
    extra_hosts: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    volumes: tuple[VolumeMount, ...] = ()
    secrets: tuple[GrantedFile, ...] = ()
    configs: tuple[GrantedFile, ...] = ()
    autoscale: AutoscaleSpec | None = None

    @property
    def most_replicas(self) -> int:
        """How many instances the service may come to have by itself."""
        return max(self.replicas, self.autoscale.max if self.autoscale else 0)

    @property
    def sleeps_when_idle(self) -> bool:
        """Its last instance sleeps while nobody asks for it, and wakes when somebody does."""
        return self.autoscale is not None and self.autoscale.min == 0

    @property
    def is_asleep(self) -> bool:
        """Its last instance sleeps, or goes to sleep, until somebody asks for it."""
        return self.sleeps_when_idle and self.replicas == 0

    @property
    def kept_replicas(self) -> int:
        """How many instances there are, awake or asleep."""
        return max(self.replicas, 1 if self.sleeps_when_idle else 0)

    @property
    def files(self) -> tuple[GrantedFile, ...]:
        """Everything that is laid into a guest beside its image."""
        return self.secrets + self.configs

    @property
    def all_ports(self) -> tuple[int, ...]:
        """Every TCP port that the service is reachable on, in the order they were declared."""
        published = (p.target for p in self.ports if p.protocol is Protocol.TCP)
        routed = (r.port for r in self.routes if r.port is not None)
        return tuple(dict.fromkeys((*self.expose, *published, *routed)))

    @property
    def main_port(self) -> int | None:
        """Where routes and network health checks go when they name no port."""
        return next(iter(self.all_ports), None)

    def update_order(self, *, rollback: bool = False) -> UpdateOrder:
        """Of an update, or of a rollback. A volume has one owner at a time, so with one the
        forerunner goes first, also where the file of another revision said otherwise."""
        if self.volumes:
            return UpdateOrder.STOP_FIRST
        return (self.rollback if rollback else self.update).order or UpdateOrder.START_FIRST

    @property
    def vcpus(self) -> int:
        """vCPUs of a guest: the cap rounded up, as a guest cannot use a part of one."""
        return max(1, -int(-self.cpus // 1))

    def back_to(self, earlier: ServiceSpec) -> ServiceSpec:
        """The service as `earlier` was, with how it is asked and started, but with what a rollback
        must not change: how many there are (of volumes that are for one, one; of what sleeps and
        could not be woken any more, one), how one reaches it, what it waits for (services may have
        gone since), how its rollouts go."""
        alone = any(not mount.per_instance for mount in earlier.volumes)
        back = replace(
            earlier,
            replicas=min(self.replicas, 1) if alone else self.replicas,
            autoscale=earlier.autoscale if alone else self.autoscale,
            ports=self.ports,
            routes=self.routes,
            depends_on=self.depends_on,
            update=self.update,
            rollback=self.rollback,
        )
        return replace(back, replicas=1) if self.is_asleep and not back.sleeps_when_idle else back

    def revision_digest(self) -> str:
        """Digest of all that reaches a guest: a change of it is a new revision.

        `image` must already be a digest. Keys that only steer the host side (replicas, ports,
        routes, health checks, dependencies, labels) stay out, so changing them restarts nothing.
        """
        reaching = {
            key: value
            for key, value in asdict(self).items()
            if key
            in {
                "image",
                "command",
                "entrypoint",
                "user",
                "working_dir",
                "environment",
                "cpus",
                "memory_bytes",
                "disk_bytes",
                "cloud_init",
                "extra_hosts",
                "volumes",
                "secrets",
                "configs",
            }
            and (key not in LATER_KEYS or value)
        }
        text = json.dumps(reaching, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """The environment's network. `subnet` is the inner /24 as the guests see it;
    `internal` (Compose) leaves it without a way out."""

    subnet: str | None = None
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """A disk that outlives instances. It grows when `size_bytes` does and is never shrunk."""

    size_bytes: int = DEFAULT_VOLUME_BYTES
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFile:
    """A secret or config: from a client's `file`, from its variable `environment`, or, with
    neither, written out in the vmorch file. `digest` is that of its content."""

    digest: str
    file: str | None = None
    environment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """`contents` are those of secrets and configs by their digests, in base64. They are there on
    the way from the client to the store only, which keeps them apart: what is shown, logged or
    remembered of an environment has none."""

    name: str
    services: dict[str, ServiceSpec]
    network: NetworkSpec = field(default_factory=NetworkSpec)
    volumes: dict[str, VolumeSpec] = field(default_factory=dict)
    secrets: dict[str, DeclaredFile] = field(default_factory=dict)
    configs: dict[str, DeclaredFile] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict, repr=False)

    def build_secrets(self, build: BuildSpec) -> dict[str, str]:
        """What `build` is given, in base64 by id. The contents must still be there."""
        declared = ((secret.target, self.secrets[secret.source]) for secret in build.secrets)
        return {target: self.contents[file.digest] for target, file in declared}

    def with_services(self, services: dict[str, ServiceSpec]) -> EnvironmentSpec:
        """The same with these services, whose images are there, and of the secrets only those
        that a guest is given: what just a build may see is not for the store to keep."""
        given = {file.source for service in services.values() for file in service.secrets}
        secrets = {name: file for name, file in self.secrets.items() if name in given}
        digests = {file.digest for file in (*secrets.values(), *self.configs.values())}
        contents = {digest: text for digest, text in self.contents.items() if digest in digests}
        return replace(self, services=services, secrets=secrets, contents=contents)
