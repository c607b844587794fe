"""One consistent look at everything: the snapshot that the planner gets.

Domains and networks are listed *before* the store is read. A record is written before its domain
is made and deleted after it is gone, so what is listed and has no record is unclaimed, and no
domain that was just made can look so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmorch.errors import VmorchError
from vmorch.health.protocol import Health
from vmorch.hypervisor.protocol import ObservedGuest
from vmorch.model.host import HostView
from vmorch.model.image import ImageManifest
from vmorch.model.instance import Instance, Revision
from vmorch.model.names import Installation, backend_owner
from vmorch.model.rollout import Rollout
from vmorch.model.spec import ServiceSpec
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Pulse, Snapshot
from vmorch.proxy.protocol import ProxyConfig, ServerStatus
from vmorch.reconciler.endings import POWERED_OFF
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.unclaimed import Unclaimed, sorted_out
from vmorch.snapshots.subject import is_able, key_of
from vmorch.snapshots.upkeep import WARM_TRIES
from vmorch.store.protocol import EnvironmentRecord

_ByName = defaultdict[tuple[str, str], "Served"]


@dataclass(slots=True)
class Memory:
    """What the reconciler knows only for as long as it runs; all of it can be lost.

    `busy` are keys of instances (and names of environments) with an action under way, `ends` how
    a domain's guest ended as libvirt's events told it, `networks` the environments' networks
    that were made what they should be (at which version), `network_trouble` why one could not be,
    `told` what the proxy was last told. `pulses` (by domain) and `mishaps` (by boot) are the
    last look's; `word_due` says until when the event that names the cause of a domain's end is
    waited for. `warming` is the (environment, service, revision) of which a warm snapshot is being
    made, `cold` how often that has failed, `wanted_warm` the (environment, service) of which a
    user has asked for one, `unwanted_warm` the keys of those that a user has removed. `images` are
    manifests by digest, which names all of them that is looked at.
    """

    busy: set[tuple[str, str, int] | str] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)
    networks: dict[str, int] = field(default_factory=dict)
    network_trouble: dict[str, str] = field(default_factory=dict)
    told: ProxyConfig | None = None
    pulses: dict[str, Pulse] = field(default_factory=dict)
    mishaps: dict[tuple[str, str, int], str] = field(default_factory=dict)
    word_due: dict[str, float] = field(default_factory=dict)
    warming: tuple[str, str, int] | None = None
    cold: dict[tuple[str, str, int], int] = field(default_factory=dict)
    wanted_warm: set[tuple[str, str]] = field(default_factory=set)
    unwanted_warm: set[str] = field(default_factory=set)
    images: dict[str, ImageManifest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """The (environment, service, revision) that have a warm snapshot, and the declared ones that
    have none: `may` are those that could, `wanted` those that a user asked for."""

    warm: frozenset[tuple[str, str, int]] = frozenset()
    may: frozenset[tuple[str, str, int]] = frozenset()
    wanted: frozenset[tuple[str, str, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The raw look, of which the snapshot is the planner's part. `busy` are the subjects of
    actions that were under way when it began: of these, one part of the look may show the time
    before the action's end and another the time after it."""

    guests: Sequence[ObservedGuest]
    network_indices: Sequence[int]
    environments: Sequence[EnvironmentRecord]
    instances: Sequence[Instance]
    revisions: Mapping[tuple[str, str, int], Revision]
    rollouts: Mapping[str, Mapping[str, Rollout]]
    sessions: Mapping[tuple[str, str], ServerStatus]
    unclaimed: Unclaimed
    warmth: Warmth
    warming: bool
    host: HostView
    busy: frozenset[tuple[str, str, int] | str]


async def observe(parts: Parts, memory: Memory) -> Observed:
    busy = frozenset(memory.busy)
    warming = memory.warming is not None
    wishes = frozenset(memory.wanted_warm)
    guests = await parts.hypervisor.guests()
    indices = await parts.network.present()
    sessions = await parts.proxy.status()
    environments = await parts.store.environments()
    instances = await parts.store.instances()
    revisions = {
        (revision.environment, revision.service, revision.number): revision
        for environment in environments
        for revision in await parts.store.revisions(environment.name)
    }
    rollouts = {env.name: await parts.store.latest_rollouts(env.name) for env in environments}
    ignored = {name for name in busy if isinstance(name, str)}
    if memory.warming:
        ignored |= {
            g.name for g in guests if g.name.startswith(parts.store.installation.warm_domain(""))
        }
    unclaimed = await sorted_out(guests, instances, parts.store, ignore=ignored)
    warmth = await _warmth(parts, memory, environments, revisions, wishes)
    granted = {subject[:2] for subject in warmth.wanted}
    memory.wanted_warm -= wishes - granted  # these have come true, or can no longer
    return Observed(
        guests=guests,
        network_indices=indices,
        environments=environments,
        instances=instances,
        revisions=revisions,
        rollouts=rollouts,
        sessions=sessions,
        unclaimed=unclaimed,
        warmth=warmth,
        warming=warming,
        host=parts.host.view(),
        busy=busy,
    )


async def _warmth(
    parts: Parts,
    memory: Memory,
    environments: Sequence[EnvironmentRecord],
    revisions: Mapping[tuple[str, str, int], Revision],
    wishes: frozenset[tuple[str, str]],
) -> Warmth:
    by_itself = parts.settings.warm_snapshots == "auto"
    keys = {snapshot.key for snapshot in await parts.snapshots.all()}
    if not (by_itself or keys or wishes):
        return Warmth()
    fingerprint = await parts.hypervisor.fingerprint()
    declared = {subject: spec for env in environments for subject, spec in env.declared.items()}
    specs = {subject: revision.spec for subject, revision in revisions.items()} | declared
    digests = {subject: revision.digest for subject, revision in revisions.items()}
    able = {
        subject: key_of(spec, fingerprint, digests.get(subject, ""))
        for subject, spec in specs.items()
        if await _is_able(parts, memory, spec)
    }
    lacking = {s for s, key in able.items() if s in declared and key not in keys}
    tried = {subject for subject, failures in memory.cold.items() if failures >= WARM_TRIES}
    spoiled = {key for key in able.values() if parts.snapshots.times_given_up(key) >= WARM_TRIES}
    may = {s for s in lacking - tried if able[s] not in memory.unwanted_warm | spoiled}
    return Warmth(
        warm=frozenset(subject for subject, key in able.items() if key in keys),
        may=frozenset(may if by_itself else ()),
        wanted=frozenset(subject for subject in lacking if subject[:2] in wishes),
    )


async def _is_able(parts: Parts, memory: Memory, spec: ServiceSpec) -> bool:
    """Whether it can be forked. Not while nothing can be known of its image."""
    manifest = memory.images.get(spec.image)
    if manifest is None:
        try:
            manifest = await parts.images.manifest(spec.image)
        except VmorchError:
            return False
        memory.images[spec.image] = manifest
    return is_able(spec, manifest)


def snapshot_of(
    observed: Observed,
    memory: Memory,
    *,
    installation: Installation,
    health: Mapping[tuple[str, str, int], Health],
    time_scale: float,
    boots_at_once: int,
) -> Snapshot:
    """Purely computational."""
    guests = {guest.uuid: guest for guest in observed.guests}
    views: dict[str, list[InstanceView]] = {env.name: [] for env in observed.environments}
    declared = {s: spec for env in observed.environments for s, spec in env.declared.items()}
    served = _served(memory.told, observed.sessions)
    for instance in observed.instances:
        domain = installation.domain(instance.environment, instance.service, instance.ordinal)
        key = (instance.environment, instance.service, instance.revision)
        spec = declared.get(key) or observed.revisions[key].spec
        views[instance.environment].append(
            _view(
                instance,
                spec,
                domain,
                guests.get(instance.uuid),
                observed,
                memory,
                health,
                served[instance.environment, instance.name],
            )
        )
    return Snapshot(
        environments=tuple(
            EnvironmentView(
                name=env.name,
                removing=env.removing,
                services=dict(env.spec.services),
                current=env.current,
                rollouts=observed.rollouts[env.name],
                instances=tuple(views[env.name]),
                network_ready=memory.networks.get(env.name) == env.version,
                network_trouble=memory.network_trouble.get(env.name, ""),
                in_proxy=_in_proxy(memory.told, env.name),
                warm=_of(observed.warmth.warm, env.name),
                may_warm=_of(observed.warmth.may, env.name),
                wanted_warm=_of(observed.warmth.wanted, env.name),
                busy=env.name in memory.busy | observed.busy,
            )
            for env in observed.environments
        ),
        orphans=tuple(
            guest.name
            for guest in observed.unclaimed.leftovers
            if guest.name not in memory.busy | observed.busy
        ),
        time_scale=time_scale,
        boots_at_once=boots_at_once,
        warming=memory.warming is not None or observed.warming,
        anonymous=_anonymous(memory, observed, declared),
        host=observed.host,
    )


def _anonymous(
    memory: Memory, observed: Observed, declared: Mapping[tuple[str, str, int], ServiceSpec]
) -> ServiceSpec | None:
    if memory.warming is None:
        return None
    revision = observed.revisions.get(memory.warming)
    return declared.get(memory.warming) or (revision.spec if revision else None)


def _of(subjects: frozenset[tuple[str, str, int]], environment: str) -> frozenset[tuple[str, int]]:
    return frozenset((service, number) for env, service, number in subjects if env == environment)


def _view(
    instance: Instance,
    spec: ServiceSpec,
    domain: str,
    guest: ObservedGuest | None,
    observed: Observed,
    memory: Memory,
    health: Mapping[tuple[str, str, int], Health],
    served: Served,
) -> InstanceView:
    boot = (instance.environment, instance.name, instance.boot)
    verdict = health.get(boot)
    return InstanceView(
        instance=instance,
        spec=spec,
        guest=guest.state if guest else None,
        healthy=verdict.healthy if verdict else None,
        health_message=verdict.message if verdict else "",
        cloud_init_failed=bool(verdict and verdict.report and verdict.report.cloud_init == "error"),
        admitted=served.admitted,
        routed=served.routed,
        sessions=served.sessions,
        busy=instance.key in memory.busy | observed.busy or domain in memory.word_due,
        end=memory.ends.get(domain, ""),
        ended_by_itself=memory.ends.get(domain) == POWERED_OFF,
        unhealthy_since=verdict.since if verdict and verdict.healthy is False else None,
        service=verdict.report.service if verdict and verdict.report else "",
        exit_code=verdict.report.exit_code if verdict and verdict.report else None,
        mishap=memory.mishaps.get(boot, ""),
        pulse=memory.pulses.get(domain),
        failed_checks=verdict.failures if verdict else 0,
    )


@dataclass(slots=True)
class Served:
    """What the proxy does for one instance, on all its ports (see InstanceView)."""

    admitted: bool = False
    routed: bool = False
    sessions: int = 0


def _served(told: ProxyConfig | None, sessions: Mapping[tuple[str, str], ServerStatus]) -> _ByName:
    """By environment and instance name. A proxy that was told nothing yet by this daemon may
    still do what the last one said."""
    found: _ByName = defaultdict(lambda: Served(admitted=told is None, routed=told is None))
    for backend in told.backends if told else ():
        environment = _environment(backend.name)
        for server in backend.servers:
            served = found[environment, server.name]
            served.admitted |= server.admitted
            served.routed |= not server.closed
    for (name, server_name), status in sessions.items():
        found[_environment(name), server_name].sessions += status.sessions
    return found


def _environment(backend: str) -> str:
    """Empty: nobody's."""
    owner = backend_owner(backend)
    return owner[0] if owner else ""


def _in_proxy(told: ProxyConfig | None, environment: str) -> bool:
    if told is None:
        return True
    return any(_environment(backend.name) == environment for backend in told.backends)
