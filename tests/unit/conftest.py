"""A daemon for tests of the API, the client and the command line: the real HTTP application under
uvicorn on a real unix socket, over the real store in memory and fakes for what has effects."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from vmorch.api.app import create_app
from vmorch.api.services import ApiServices
from vmorch.config import Settings
from vmorch.effects import SystemClock
from vmorch.errors import BuildFailed, NotFound, Refused, UsageError
from vmorch.host.fake import FakeHost
from vmorch.images.protocol import (
    BuildProgress,
    BuildRequest,
    DamagedLayer,
    Freed,
    ImageSummary,
    Progress,
    StepState,
    Verified,
)
from vmorch.metrics.history import History
from vmorch.model.event import EventKind
from vmorch.model.exec import ExecRequest
from vmorch.model.frames import Decoder, Frame, FrameType, encode, exit_, resize_of
from vmorch.model.guest import Acceleration, AccelerationChoice
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig
from vmorch.model.instance import Goal, State
from vmorch.model.names import Installation
from vmorch.model.spec import ServiceSpec
from vmorch.model.view import Check
from vmorch.planner.look import Look
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.fake import FakeProxy
from vmorch.proxy.place import Place
from vmorch.snapshots.shelf import SnapshotShelf
from vmorch.snapshots.subject import key_of
from vmorch.store.sqlite import SqliteStore

MIB = 1024**2


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def manifest_of(name: str) -> ImageManifest:
    digest = digest_of(name)
    return ImageManifest(
        digest=digest,
        base="debian-12",
        layers=(Layer(digest=digest, created_by=name, size_bytes=MIB),),
        boot=BootConfig(
            kernel="vmlinuz",
            initrd="initrd",
            command_line="",
            supports=frozenset({"agent", "ssh"}),
            least_memory_bytes=64 * MIB,
        ),
        run=RunConfig(
            command=("serve",),
            user="app",
            working_dir="/opt",
            environment={"A": "image", "B": "image"},
        ),
        virtual_size_bytes=16 * 1024 * MIB,
        created_at=1.0,
    )


class FakeImages:
    """Builds succeed at once unless the Dockerfile says FAIL, or WAIT (until it is cancelled)."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.requests: list[BuildRequest] = []
        self.cancelled = threading.Event()
        self.started = threading.Event()
        self.known: dict[str, ImageManifest] = {}
        self.damaged: list[DamagedLayer] = []

    async def missing_blobs(self, digests: Sequence[str]) -> Sequence[str]:
        return [digest for digest in digests if digest not in self.blobs]

    async def put_blob(self, digest: str, content: Path) -> None:
        data = content.read_bytes()
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise UsageError(f"The content is not {digest}.")
        self.blobs[digest] = data
        content.unlink()

    async def build(self, request: BuildRequest, progress: Progress) -> ImageManifest:
        self.requests.append(request)
        step = BuildProgress(step="RUN it", number=1, total=1, state=StepState.STARTED)
        progress(step)
        progress(replace(step, state=StepState.OUTPUT, text="\x1b[31mhello\x1b[0m"))
        self.started.set()
        if "WAIT" in request.dockerfile:
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.set()
        if "FAIL" in request.dockerfile:
            raise BuildFailed("RUN it failed.", file="Dockerfile", line=3, output="no such thing")
        progress(replace(step, state=StepState.DONE, seconds=0.5))
        return self._add(request.name)

    async def ensure(self, reference: str, progress: Progress) -> ImageManifest:
        if reference == "nothing":
            raise NotFound("No image 'nothing'.", hint="Try debian:12.")
        step = BuildProgress(step=f"base {reference}", number=1, total=1, state=StepState.CACHED)
        progress(step)
        return self._add(reference)

    def _add(self, name: str) -> ImageManifest:
        manifest = manifest_of(name)
        self.known[manifest.digest] = manifest
        return manifest

    async def manifest(self, digest: str) -> ImageManifest:
        if digest not in self.known:
            raise NotFound(f"No image {digest}.")
        return self.known[digest]

    async def images(self) -> Sequence[ImageSummary]:
        return [
            ImageSummary(
                digest=digest,
                names=("hello",),
                base="debian-12",
                size_bytes=500 * MIB,
                own_bytes=MIB,
                created_at=1.0,
            )
            for digest in self.known
        ]

    async def remove(self, reference: str, in_use: Mapping[str, str]) -> Freed:
        digest = digest_of(reference)
        if digest in in_use:
            raise Refused(f"The image '{reference}' is needed by {in_use[digest]}.")
        del self.known[digest]
        return Freed(images=(digest,), bytes_freed=MIB)

    async def prune(self, in_use: Mapping[str, str], *, everything: bool) -> Freed:
        gone = tuple(digest for digest in self.known if digest not in in_use)
        for digest in gone:
            del self.known[digest]
        return Freed(images=gone, bytes_freed=MIB * len(gone))

    async def verify(self, reference: str | None) -> Verified:
        found = [d for d in self.damaged if reference in (None, *d.images)]
        return Verified(layers=3, bytes_read=5 * MIB, damaged=tuple(found))


class FakeSessions:
    """A guest that says what it was asked on standard error, echoes input to standard output, and
    exits with the code that follows "exit" in argv (0 without one) at the input's end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.requests: list[ExecRequest] = []
        self.resizes: list[tuple[int, int]] = []
        self.signals: list[bytes] = []
        self.consoles: list[str] = []

    async def open(self, request: ExecRequest) -> Path:
        self.requests.append(request)
        path = self._directory / f"s{len(self.requests)}"
        code = int(request.argv[1]) if request.argv and request.argv[0] == "exit" else 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            decoder = Decoder()
            writer.write(encode(Frame(FrameType.STDERR, b"asked\n")))
            while data := await reader.read(65536):
                for frame in decoder.feed(data):
                    match frame.type:
                        case FrameType.STDIN:
                            writer.write(encode(Frame(FrameType.STDOUT, frame.payload)))
                            await writer.drain()
                        case FrameType.RESIZE:
                            self.resizes.append(resize_of(frame))
                        case FrameType.SIGNAL:
                            self.signals.append(frame.payload)
                            writer.write(encode(exit_(130)))
                        case FrameType.STDIN_END:
                            writer.write(encode(exit_(code)))
            writer.close()

        await asyncio.start_unix_server(serve, path)
        return path

    async def open_console(self, domain: str) -> Path:
        """A guest that greets, and answers what is typed with a dot in front."""
        self.consoles.append(domain)
        path = self._directory / f"c{len(self.consoles)}"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            decoder = Decoder()
            writer.write(encode(Frame(FrameType.STDOUT, b"login: ")))
            while data := await reader.read(65536):
                for frame in decoder.feed(data):
                    if frame.type is FrameType.STDIN:
                        writer.write(encode(Frame(FrameType.STDOUT, b"." + frame.payload)))
            writer.close()

        await asyncio.start_unix_server(serve, path)
        return path


class FakeHypervisor:
    async def fingerprint(self) -> str:
        return "this host"

    async def acceleration(self) -> AccelerationChoice:
        return AccelerationChoice(
            acceleration=Acceleration.KVM, reason="a kernel reached user space"
        )


_AT_GOAL = {
    Goal.STOP: State.STOPPED,
    Goal.SLEEP: State.SLEEPING,
    Goal.PAUSE: State.PAUSED,
}


class _Present:
    """Stands for what a function gives now."""

    def __init__(self, present: Callable[[], Any]) -> None:
        self._present = present

    def __getattr__(self, name: str) -> Any:
        return getattr(self._present(), name)


_served: list[ApiServices] = []


@functools.cache
def _app() -> FastAPI:
    """One application for all tests of a process, over the services of the daemon that serves
    now: FastAPI takes longer to make one than most of the tests take."""
    services = _Present(lambda: _served[-1])
    services.store = _Present(lambda: _served[-1].store)  # type: ignore[attr-defined]
    services.history = _Present(lambda: _served[-1].history)  # type: ignore[attr-defined]
    return create_app(services)  # type: ignore[arg-type]


class ServedDaemon:
    """Fakes to look into, and the loop that serves. `converges` False leaves wishes undone."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(
            state_dir=directory / "state", run_dir=directory, socket=directory / "api.sock"
        )
        (directory / "exec").mkdir()
        self.images = FakeImages()
        self.sessions = FakeSessions(self.settings.exec_dir)
        self.checks = [Check(name="proxy", ok=True, message="runs")]
        self.converges = True
        self.final_state = State.READY
        self.snapshots = SnapshotShelf(self.settings.snapshots_dir, SystemClock())
        self.history = History()
        self.wishes: list[tuple[str, str]] = []
        self.forgone: list[str] = []
        self.warm_up_failure = ""
        self.host = FakeHost()
        self.look: Look | None = None
        self.proxy = FakeProxy()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.store = self.do(self._opened())
        _served[:] = [self._services()]
        self._server = uvicorn.Server(
            uvicorn.Config(
                _app(),
                uds=str(self.settings.socket),
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._serving = asyncio.run_coroutine_threadsafe(self._server._serve(), self._loop)
        while not self._server.started:
            threading.Event().wait(0.01)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` where the daemon runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        self.do(self._cut_off())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _cut_off(self) -> None:
        """End serving at once. uvicorn's own end looks at the time ten times a second, which was
        half of what all these tests took."""
        self._serving.cancel()
        for server in self._server.servers:
            server.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def write_log(self, environment: str, instance: str, text: str, name: str = "service") -> Path:
        directory = self.settings.instance_dir(environment, instance)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}.log"
        with path.open("a") as file:
            file.write(text)
        return path

    async def _opened(self) -> SqliteStore:
        return SqliteStore(
            ":memory:",
            Installation("abcdef" + "0" * 26),
            outer_pool=self.settings.outer_pool,
            inner_subnet=self.settings.inner_subnet,
        )

    def _services(self) -> ApiServices:
        async def checks() -> list[Check]:
            return self.checks

        certificates = Certificates(Place.of(self.settings), SystemClock())
        return ApiServices(
            store=self.store,
            host=self.host,
            images=self.images,  # type: ignore[arg-type]
            hypervisor=FakeHypervisor(),  # type: ignore[arg-type]
            exec_sessions=self.sessions,
            settings=self.settings,
            clock=SystemClock(),
            wake=self._wake,
            snapshots=self.snapshots,
            history=self.history,
            ask_warm_up=self._ask_warm_up,
            forgo_warm_up=self.forgone.extend,
            last_look=lambda: self.look,
            checks=checks,
            shutdown=lambda: setattr(self._server, "should_exit", True),
            accesses=self.proxy.accesses,
            answer_times=self.proxy.answer_times,
            authority=certificates.authority,
            is_presented=certificates.covers,
        )

    def _wake(self) -> None:
        if self.converges:
            self._task = self._loop.create_task(self._converge())

    def _ask_warm_up(self, environment: str, service: str) -> None:
        self.wishes.append((environment, service))
        if self.converges:
            self._warming = self._loop.create_task(self._warm_up(environment, service))

    async def _warm_up(self, environment: str, service: str) -> None:
        async def tell(kind: EventKind, message: str) -> None:
            now = time.time()
            await self.store.add_event(
                kind, message, now=now, environment=environment, service=service
            )

        await tell(EventKind.SNAPSHOT_BEGUN, "it boots")
        if self.warm_up_failure:
            await tell(EventKind.SNAPSHOT_FAILED, self.warm_up_failure)
        else:
            record = await self.store.environment(environment)
            await self.warm(record.spec.services[service])
            await tell(EventKind.SNAPSHOT_MADE, "made")

    async def warm(self, spec: ServiceSpec) -> str:
        """Put a snapshot of it on the shelf; its key."""
        key = key_of(spec, await FakeHypervisor().fingerprint())
        draft = await self.snapshots.draft(key)
        (draft / "ram").write_bytes(b"r" * 8192)
        (draft / "disk.qcow2").write_bytes(b"d" * 4096)
        made = await self.snapshots.publish(
            draft, key=key, service=spec.name, image=spec.image, with_service=True
        )
        return made.key

    async def _converge(self) -> None:
        """A reconciler of one cycle: instances appear in their final state, or go."""
        for record in await self.store.environments():
            rows = await self.store.instances(record.name)
            for row in rows:
                state = _AT_GOAL.get(row.goal, self.final_state)
                if row.state is not state:
                    await self.store.put_instance(replace(row, state=state))
            for service, spec in record.spec.services.items():
                mine = [row for row in rows if row.service == service]
                revision = record.current[service]
                wanted = 0 if record.removing else spec.replicas
                for row in mine[wanted:]:
                    await self.store.delete_instance(record.name, service, row.ordinal, now=2.0)
                for number in range(len(mine), wanted):
                    await self._create(record.name, service, revision, number)
            if record.removing:
                await self.store.forget(record.name)

    async def _create(self, environment: str, service: str, revision: int, number: int) -> None:
        instance = await self.store.create_instance(
            environment, service, revision, uuid=f"{service}-{number}", now=1.0
        )
        await self.store.put_instance(
            replace(instance, state=self.final_state, reason="because", boot=1, started_at=1.0)
        )
        await self.store.add_event(
            EventKind.INSTANCE_READY,
            "because",
            now=1.0,
            environment=environment,
            service=service,
            instance=instance.name,
        )


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedDaemon]:
    served = ServedDaemon(tmp_path_factory.mktemp("d"))
    yield served
    served.stop()


@pytest.fixture
def run(
    daemon: ServedDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line against the daemon: (exit code, standard output, standard error)."""
    from vmorch.cli.main import main

    monkeypatch.setenv("VMORCH_SOCKET", str(daemon.settings.socket))

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(arguments)
        return code, *capfd.readouterr()

    return call
