"""The one place where everything is wired together, and the process `vmorchd`.

The daemon may be killed at any moment; guests and proxy go on, and the next start adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import grp
import os
import shutil
import socket
import sys
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from vmorch import __version__, resources
from vmorch.api.app import create_app, create_metrics_app
from vmorch.api.capacity import capacity_check
from vmorch.api.services import ApiServices
from vmorch.config import Settings, load_settings, metrics_endpoint
from vmorch.effects import Faults, KillAt, NoFaults, SystemClock, SystemEntropy, SystemProcesses
from vmorch.errors import NotFound, Refused, VmorchError
from vmorch.guest.access import GuestAccess
from vmorch.guest.keys import InstallationKeys, installation_keys
from vmorch.guest.sessions import ExecSessionServer
from vmorch.health.prober import HealthProber
from vmorch.host.system import SystemHost
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.hypervisor.driver import LibvirtHypervisor
from vmorch.hypervisor.protocol import Hypervisor
from vmorch.hypervisor.remains import found_guests
from vmorch.images.bases import BaseCatalog
from vmorch.images.service import ImageService
from vmorch.images.stepgroups import Bounds, StepGroups, default_memory_bytes
from vmorch.metrics.history import History
from vmorch.metrics.host import HostSampler
from vmorch.model.addresses import outer_range
from vmorch.model.found import FoundGuest
from vmorch.model.guest import Acceleration
from vmorch.model.names import Installation
from vmorch.model.view import Check
from vmorch.network.build import open_step_network
from vmorch.network.ports import port_is_free
from vmorch.network.router import RouterNetwork
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.haproxy import HAProxy
from vmorch.proxy.place import Place
from vmorch.reconciler.autoscaling import Autoscaling
from vmorch.reconciler.loop import Reconciler
from vmorch.reconciler.measuring import Measuring
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.unclaimed import give_up_unknown, unclaimed_now
from vmorch.snapshots.shelf import SnapshotShelf
from vmorch.snapshots.upkeep import keep_only
from vmorch.store import backup
from vmorch.store.backup import Backups, keep_copies, refuse_emptied
from vmorch.store.database import Database
from vmorch.store.installation import installation_of, lock_state_dir
from vmorch.store.rebuild import rebuild as rebuilt
from vmorch.store.sqlite import SqliteStore
from vmorch.volumes.disks import QcowDisks

log = structlog.get_logger("vmorch.daemon")

CLOSING_SECONDS = 2
"""How long open streams may go on once the daemon was asked to end."""


def main() -> None:
    """The console script `vmorchd`; ends with the exit code of the error that ended it."""
    try:
        settings = load_settings()
        _log_plainly(settings)
        asyncio.run(serve(settings))
    except VmorchError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"       {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


def restore(source: Path | None) -> Path:
    """Put a copy of the database (None: the newest good one) back in its place.

    Raises:
        Refused: a daemon runs. NotFound, StoreError: there is no good copy.
    """
    _require_root()
    settings = load_settings()
    with lock_state_dir(settings.state_dir):
        return backup.restore(settings.database, settings.backups_dir, source)


def rebuild() -> list[FoundGuest]:
    """Make a new database from the guests that run; the old one is kept beside it.

    Raises:
        Refused: a daemon runs, or the database is good. HypervisorError, StoreError: it could
            not be done.
    """
    _require_root()
    settings = load_settings()
    with lock_state_dir(settings.state_dir):
        backup.refuse_loss(settings.database)
        installation = installation_of(settings.state_dir, SystemEntropy())
        found = found_guests(settings.libvirt_uri, installation)
        draft = settings.database.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        with contextlib.closing(Database(draft)) as database:
            rebuilt(
                database,
                found,
                installation,
                outer_pool=settings.outer_pool,
                inner_subnet=settings.inner_subnet,
                now=SystemClock().now(),
            )
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        backup.set_aside(settings.database)
        draft.rename(settings.database)
        return found


async def serve(settings: Settings) -> None:
    """Run the daemon until it is asked to end.

    Raises:
        Refused: another daemon has the state directory, or KVM was forced and is unusable.
        StoreError: the database is damaged or newer than this vmorch.
    """
    _require_root()
    _make_directories(settings)
    with (
        lock_state_dir(settings.state_dir),
        listening(settings) as listener,
        listening_for_metrics(settings.metrics_address) as metrics_listener,
    ):
        await _serve(settings, listener, metrics_listener)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise Refused(
            "The daemon needs root: it makes networks, mounts and guests.",
            hint="Start it with sudo. Clients need only be in the socket's group.",
        )


async def _serve(
    settings: Settings, listener: socket.socket, metrics_listener: socket.socket | None
) -> None:
    clock, entropy, faults = SystemClock(), SystemEntropy(), _faults()
    refuse_emptied(settings.database, settings.backups_dir)
    installation = installation_of(settings.state_dir, entropy)
    keys = installation_keys(settings.keys_dir, entropy)
    catalog = BaseCatalog(settings.images_dir, resources.data_dir("images"), settings.outside_netns)
    bounds = Bounds(
        processes=settings.build_processes,
        memory_bytes=settings.build_memory_bytes or default_memory_bytes(),
    )
    step_groups = StepGroups(installation.short, bounds)
    images = ImageService(
        settings.images_dir,
        catalog,
        functools.partial(
            open_step_network,
            mode=settings.build_network,
            outer_pool=settings.outer_pool,
            outside_netns=settings.outside_netns,
        ),
        faults,
        clock=clock,
        entropy=entropy,
        outside_netns=settings.outside_netns,
        step_groups=step_groups,
    )
    await images.sweep()
    snapshots = SnapshotShelf(settings.snapshots_dir, clock)
    await snapshots.sweep()
    # Before any build: one that makes an image anew may come to other bytes.
    await keep_only(snapshots, {image.digest for image in await images.images()})
    hypervisor = LibvirtHypervisor(
        settings.libvirt_uri,
        installation,
        settings.accel,
        AccelerationProbe(settings.state_dir / "acceleration.json", catalog.probe_kernel),
        directory=settings.state_dir / "hypervisor",
        clock=clock,
    )
    network = RouterNetwork(
        installation,
        settings.network_run_dir,
        outer_pool=settings.outer_pool,
        clock=clock,
        faults=faults,
    )
    store = SqliteStore(
        settings.database,
        installation,
        outer_pool=settings.outer_pool,
        inner_subnet=settings.inner_subnet,
        taken_subnets=functools.partial(_taken_subnets, network, settings),
        port_is_free=port_is_free,
        publish_address=settings.publish_address,
        own_endpoints=settings.route_endpoints,
    )
    guests = GuestAccess(hypervisor.agent, clock)
    prober = HealthProber(clock, guests)
    choice = await hypervisor.acceleration()
    acceleration = choice.acceleration
    parts = Parts(
        settings=settings,
        host=SystemHost(settings, acceleration),
        store=store,
        hypervisor=hypervisor,
        network=network,
        images=images,
        disks=QcowDisks(),
        snapshots=snapshots,
        guests=guests,
        proxy=HAProxy(Place.of(settings), clock=clock, faults=faults),
        prober=prober,
        keys=keys,
        clock=clock,
        entropy=entropy,
        faults=faults,
        processes=SystemProcesses(),
    )
    log.info(
        "started",
        version=__version__,
        installation=installation.id,
        accel=acceleration,
        accel_reason=choice.reason,
    )
    reconciler = Reconciler(
        parts,
        boots_at_once=settings.concurrent_boots or boots_at_once(acceleration),
        time_scale=acceleration.time_scale,
    )
    prober.changed = reconciler.wake
    sessions = _exec_sessions(parts, installation, keys)
    history = History()
    autoscaling = Autoscaling(parts, history, reconciler.wake)
    measuring = Measuring(
        parts,
        history,
        HostSampler(clock).measure,
        tick_seconds=settings.metrics_tick_seconds,
        follow=autoscaling.follow,
    )
    server = _api_server(parts, reconciler, network, sessions, step_groups, history, autoscaling)
    backups = Backups(settings.database, settings.backups_dir)
    try:
        roots = {
            "reconciler": reconciler.run(),
            "measuring": measuring.run(),
            "backups": keep_copies(backups, clock),
        }
        if metrics_listener is not None:
            roots["metrics"] = metrics_server(history).serve(sockets=[metrics_listener])
        await run_roots(server, listener, roots)
    finally:
        backups.close()
        await sessions.close()
        await prober.close()
        await end_anonymous(hypervisor, installation)
        await hypervisor.close()
        await store.close()


async def end_anonymous(hypervisor: Hypervisor, installation: Installation) -> None:
    """Instances outlive the daemon; the guest of a warm snapshot that is not made yet is of no use
    to anybody else."""
    with contextlib.suppress(VmorchError):
        for guest in await hypervisor.guests():
            if guest.name.startswith(installation.warm_domain("")):
                await hypervisor.destroy(guest.name)


def _faults() -> Faults:
    """VMORCH_CRASH_AT=POINT, for tests: the daemon kills itself there."""
    point = os.environ.get("VMORCH_CRASH_AT")
    return KillAt(point) if point else NoFaults()


def boots_at_once(acceleration: Acceleration) -> int:
    """Cold boots under way at once: under TCG each takes a whole core, and more of them than
    cores starve each other's timers until none comes up."""
    cores = os.cpu_count() or 1
    return cores if acceleration is Acceleration.TCG else 4 * cores


async def run_roots(
    server: uvicorn.Server,
    listener: socket.socket,
    roots: Mapping[str, Coroutine[Any, Any, None]],
) -> None:
    """Until the server was asked to end; a root task that ends by itself takes it along, and its
    error comes out here."""
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    tasks = [asyncio.create_task(work, name=name) for name, work in roots.items()]
    await asyncio.wait({serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(serving, *tasks, return_exceptions=True)
    for task in (serving, *tasks):
        if not task.cancelled():
            task.result()


def _exec_sessions(
    parts: Parts, installation: Installation, keys: InstallationKeys
) -> ExecSessionServer:
    async def host_key_of(domain: str) -> str:
        for instance in await parts.store.instances():
            if installation.domain(*instance.key) == domain:
                return keys.host_key(instance.uuid).public
        raise NotFound(f"There is no instance behind the domain {domain}.")

    return ExecSessionServer(
        exec_dir=parts.settings.exec_dir,
        client_key=keys.client_key,
        host_key_for=host_key_of,
        agent=parts.hypervisor.agent,
        console=parts.hypervisor.open_console,
        clock=parts.clock,
        entropy=parts.entropy,
        group_id=_group_id(parts.settings),
    )


async def _network_checks(network: RouterNetwork) -> list[Check]:
    found = await network.problems()
    if not found:
        return [Check(name="network", ok=True, message="nothing stands in the way")]
    return [Check(name="network", ok=False, message=p.message, hint=p.hint) for p in found]


def _steps_check(groups: StepGroups) -> Check:
    if not (unbounded := groups.unbounded()):
        message = f"a RUN step may have {groups.bounds}"
        return Check(name="build-steps", ok=True, message=message)
    return Check(
        name="build-steps",
        ok=True,
        message=f"nothing bounds the {' and '.join(unbounded)} of a RUN step",
        hint="The control groups of this host cannot be written: builds work, but build nothing "
        "that you do not trust.",
    )


async def _unclaimed_check(parts: Parts) -> Check:
    found = await unclaimed_now(parts.hypervisor, parts.store)
    names = [guest.name for guest in (*found.unknown, *found.unreadable)]
    if not names:
        return Check(name="guests", ok=True, message="every guest is known")
    return Check(
        name="guests",
        ok=False,
        message=f"of this installation, but unknown to its store: {', '.join(names)}",
        hint="Stop the daemon and run 'vmorch daemon restore' or 'vmorch daemon rebuild' to have "
        "them back, or end them with 'vmorch env rm --orphans'.",
    )


def certificates_check(certificates: Certificates) -> Check:
    if not (found := certificates.troubles()):
        return Check(name="certificates", ok=True, message="the given ones can be used")
    return Check(
        name="certificates",
        ok=False,
        message="; ".join(found),
        hint="Put good ones in their place. HAProxy notices within seconds.",
    )


async def _snapshots_check(parts: Parts) -> Check:
    present = await parts.snapshots.all()
    megabytes = sum(s.ram_bytes + s.disk_bytes for s in present) / 1024**2
    bound = parts.settings.snapshots_kept
    return Check(
        name="snapshots",
        ok=True,
        message=f"warm snapshots: {len(present)}, {megabytes:.0f} MiB; beyond {bound} those go "
        "that no declared service needs"
        if present
        else "there are no warm snapshots",
    )


async def _taken_subnets(network: RouterNetwork, settings: Settings) -> list[str]:
    """The host's, and the ranges of networks that stand: a new environment must not get into
    one in which unknown guests run."""
    standing = [outer_range(settings.outer_pool, index) for index in await network.present()]
    return [*await network.taken_subnets(), *standing]


def _api_server(
    parts: Parts,
    reconciler: Reconciler,
    network: RouterNetwork,
    sessions: ExecSessionServer,
    step_groups: StepGroups,
    history: History,
    autoscaling: Autoscaling,
) -> uvicorn.Server:
    async def checks() -> list[Check]:
        steps = await asyncio.to_thread(_steps_check, step_groups)
        return [
            *await _network_checks(network),
            steps,
            await _unclaimed_check(parts),
            await _snapshots_check(parts),
            await asyncio.to_thread(certificates_check, certificates),
            capacity_check(parts.host.view(), reconciler.last_look()),
        ]

    async def give_up() -> list[str]:
        return await give_up_unknown(parts.hypervisor, parts.store, parts.clock.now())

    def shutdown() -> None:
        server.should_exit = True

    certificates = Certificates(Place.of(parts.settings), parts.clock)
    services = ApiServices(
        store=parts.store,
        host=parts.host,
        images=parts.images,
        snapshots=parts.snapshots,
        history=history,
        hypervisor=parts.hypervisor,
        exec_sessions=sessions,
        settings=parts.settings,
        clock=parts.clock,
        wake=reconciler.wake,
        ask_warm_up=reconciler.ask_warm_up,
        forgo_warm_up=reconciler.forgo_warm_up,
        last_look=lambda: autoscaling.told(reconciler.last_look()),
        checks=checks,
        shutdown=shutdown,
        accesses=parts.proxy.accesses,
        answer_times=parts.proxy.answer_times,
        authority=certificates.authority,
        is_presented=certificates.covers,
        give_up_unknown=give_up,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(services),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
    )
    return server


class SecondServer(uvicorn.Server):
    """Beside the API's, which alone hears the process's signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def metrics_server(history: History) -> uvicorn.Server:
    return SecondServer(
        uvicorn.Config(
            create_metrics_app(history), log_config=None, access_log=False, lifespan="off"
        )
    )


@contextlib.contextmanager
def listening_for_metrics(text: str) -> Iterator[socket.socket | None]:
    """The socket for `metrics_address`; None where it is empty.

    Raises:
        Refused: it cannot be listened on.
    """
    if not text:
        yield None
        return
    address, port = metrics_endpoint(text)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            raise Refused(
                f"Metrics cannot be answered on {text}: {error.strerror}.",
                hint="Choose another 'metrics_address', or none.",
            ) from error
        yield listener


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The API's socket, for root and the members of the group; removed at the end."""
    path = settings.socket
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if (group := _group_id(settings)) is not None:
            shutil.chown(path, group=group)
        path.chmod(0o660)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _group_id(settings: Settings) -> int | None:
    try:
        return grp.getgrnam(settings.group).gr_gid
    except KeyError:
        return None


def _make_directories(settings: Settings) -> None:
    """0711 where QEMU's user passes through to its disks, 0700 where nobody but us has business."""
    for path in (
        settings.state_dir,
        settings.images_dir,
        settings.volumes_dir,
        settings.run_dir,
    ):
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
    for path in (settings.proxy_dir, settings.network_run_dir, settings.exec_dir):
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
    (settings.state_dir / "environments").mkdir(mode=0o711, exist_ok=True)
    settings.socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)


def _log_plainly(settings: Settings) -> None:
    """One JSON object a line on standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


if __name__ == "__main__":
    main()
