"""The typed client of the API: `http.client` over the daemon's unix socket.

Each call opens a connection of its own. A problem+json answer is raised as the VmorchError that
the daemon raised; a daemon that is not there is DaemonUnreachable.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlencode

from vmorch.errors import DaemonUnreachable, TimedOut, VmorchError
from vmorch.model.problem import from_problem
from vmorch.model.view import Check, view_of

if TYPE_CHECKING:
    from vmorch.model.access import Access
    from vmorch.model.spec import EnvironmentSpec
    from vmorch.model.use import HostUse
    from vmorch.model.view.daemon import (
        AccelerationView,
        AuthorityView,
        CapacityView,
        VersionView,
    )
    from vmorch.model.view.environment import EnvironmentView
    from vmorch.model.view.image import (
        BuildLine,
        FreedView,
        ImageView,
        LayerView,
        VerifiedView,
    )
    from vmorch.model.view.instance import InstanceView
    from vmorch.model.view.measure import MeasuredInstance, MeasuredService
    from vmorch.model.view.rollout import DifferenceView, RolloutView
    from vmorch.model.view.snapshot import RemovedSnapshotsView, SnapshotView, WarmUpView
    from vmorch.model.view.step import StepView
    from vmorch.model.view.stream import EventView, LogLine
    from vmorch.model.view.why import WhyView

# The daemon may boot a kernel before it answers what acceleration there is.
CALL_TIMEOUT_SECONDS = 120.0
_CHUNK_BYTES = 64 * 1024
_JSON = {"Content-Type": "application/json"}


class Client:
    """Raises, from every call: VmorchError as the daemon raised it; DaemonUnreachable; TimedOut
    when it does not answer. Streams end, and cancel what they follow, when they are closed."""

    def __init__(self, socket_path: Path, *, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> None:
        self.socket_path = socket_path
        self._timeout_seconds = timeout_seconds

    # The daemon

    def version(self) -> VersionView:
        from vmorch.model.view.daemon import VersionView

        return view_of(VersionView, self._call("GET", "/v1/version"))

    def acceleration(self) -> AccelerationView:
        from vmorch.model.view.daemon import AccelerationView

        return view_of(AccelerationView, self._call("GET", "/v1/acceleration"))

    def capacity(self) -> CapacityView:
        from vmorch.model.view.daemon import CapacityView

        return view_of(CapacityView, self._call("GET", "/v1/capacity"))

    def authority(self) -> AuthorityView:
        from vmorch.model.view.daemon import AuthorityView

        return view_of(AuthorityView, self._call("GET", "/v1/tls/authority"))

    def doctor(self) -> list[Check]:
        return [view_of(Check, row) for row in self._call("GET", "/v1/doctor")]

    def end_unknown_guests(self) -> list[str]:
        """Have guests ended that the daemon's store does not know; their domains."""
        return [str(name) for name in self._call("DELETE", "/v1/guests/unknown")]

    def stop_daemon(self) -> None:
        self._call("POST", "/v1/daemon/stop")

    # Images

    def missing_blobs(self, digests: Sequence[str]) -> list[str]:
        answer = self._call("POST", "/v1/blobs/missing", {"digests": list(digests)})
        return [str(digest) for digest in answer["missing"]]

    def put_blob(self, digest: str, content: BinaryIO) -> None:
        size = os.fstat(content.fileno()).st_size
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self._request("PUT", f"/v1/blobs/{quote(digest)}", content, headers) as response:
            response.read()

    def build(self, request: dict[str, Any], progress: Callable[[BuildLine], None]) -> str:
        """Build `request` (the fields of a BuildRequest); the image's digest."""
        return self._image("/v1/builds", request, progress)

    def import_image(self, request: dict[str, Any], progress: Callable[[BuildLine], None]) -> str:
        """Import `request` (the fields of an ImportRequest); the image's digest."""
        return self._image("/v1/images/import", request, progress)

    def ensure_image(self, reference: str, progress: Callable[[BuildLine], None]) -> str:
        """The digest behind a name; a base that is not there yet is made."""
        return self._image("/v1/images/ensure", {"reference": reference}, progress)

    def images(self) -> list[ImageView]:
        from vmorch.model.view.image import ImageView

        return [view_of(ImageView, row) for row in self._call("GET", "/v1/images")]

    def image(self, reference: str) -> dict[str, Any]:
        """An image's manifest and its names. Raises NotFound."""
        answer = self._call("GET", "/v1/images/inspect" + _query(reference=reference))
        return dict(answer)

    def image_content(self, reference: str) -> str:
        """The digest of its files, by reading them all. Raises NotFound."""
        answer = self._call("GET", "/v1/images/content" + _query(reference=reference))
        return str(answer["content"])

    def image_history(self, reference: str) -> list[LayerView]:
        """Its layers, the base first. Raises NotFound."""
        from vmorch.model.view.image import LayerView

        path = "/v1/images/history" + _query(reference=reference)
        return [view_of(LayerView, row) for row in self._call("GET", path)]

    def verify_images(self, reference: str | None = None) -> VerifiedView:
        """Read every byte of an image's layers, or of all. Raises NotFound."""
        from vmorch.model.view.image import DamagedLayerView, VerifiedView

        found = self._call("POST", "/v1/images/verify", {"reference": reference})
        damaged = [view_of(DamagedLayerView, row) for row in found["damaged"]]
        return view_of(VerifiedView, {**found, "damaged": damaged})

    def tag_image(self, reference: str, name: str) -> None:
        self._call("POST", "/v1/images/tag", {"reference": reference, "name": name})

    def remove_image(self, reference: str) -> FreedView:
        """Take a name away, and with the last one the image. Raises Refused (it is needed)."""
        from vmorch.model.view.image import FreedView

        return view_of(FreedView, self._call("DELETE", "/v1/images" + _query(reference=reference)))

    def prune_images(self, *, everything: bool = False) -> FreedView:
        """Remove what nobody needs; what the last hour's builds used only with `everything`."""
        from vmorch.model.view.image import FreedView

        answer = self._call("POST", "/v1/images/prune", {"everything": everything})
        return view_of(FreedView, answer)

    def _image(self, path: str, body: Any, progress: Callable[[BuildLine], None]) -> str:
        from vmorch.model.view.image import BuildLine

        with contextlib.closing(self._stream("POST", path, body)) as rows:
            for row in rows:
                if "image" in row:
                    return str(row["image"]["digest"])
                progress(view_of(BuildLine, row))
        raise _gone_away()

    # Warm snapshots

    def snapshots(self) -> list[SnapshotView]:
        from vmorch.model.view.snapshot import SnapshotUseView, SnapshotView

        return [
            view_of(
                SnapshotView,
                {**row, "used_by": [view_of(SnapshotUseView, use) for use in row["used_by"]]},
            )
            for row in self._call("GET", "/v1/snapshots")
        ]

    def remove_snapshots(self, reference: str | None = None) -> RemovedSnapshotsView:
        """Those of the services of that name, else the one whose key begins so; None: all. Raises
        NotFound, UsageError (several begin so)."""
        from vmorch.model.view.snapshot import RemovedSnapshotsView

        path = "/v1/snapshots" + (f"/{quote(reference, safe='')}" if reference is not None else "")
        return view_of(RemovedSnapshotsView, self._call("DELETE", path))

    def make_snapshot(self, environment: str, service: str) -> WarmUpView:
        """Ask for one of the service as it is declared: events tell what comes of it. Raises
        NotFound, Refused (its instances cannot be forked)."""
        from vmorch.model.view.snapshot import WarmUpView

        path = f"{_environment_path(environment)}/services/{quote(service, safe='')}/snapshot"
        return view_of(WarmUpView, self._call("POST", path))

    # Environments

    def apply(
        self,
        spec: EnvironmentSpec,
        *,
        expected_version: int | None = None,
        partial: bool = False,
        by_hand: Collection[str] = (),
        ttl_seconds: float | None = None,
        holder: str | None = None,
        canary: int | None = None,
    ) -> EnvironmentView:
        """Create or change it. `partial`: services that are not in `spec` stay as they are.
        Services in `by_hand` get the number of instances in `spec`, also if they scale by
        themselves. New revisions get `canary` percent of the requests first. It ends after
        `ttl_seconds`, or with the process `holder` (`Processes.identity`)."""
        from vmorch.model.codec import to_json

        body = {
            "spec": to_json(spec),
            "expected_version": expected_version,
            "partial": partial,
            "by_hand": list(by_hand),
            "ttl_seconds": ttl_seconds,
            "holder": holder,
            "canary": canary,
        }
        return self._environment("PUT", _environment_path(spec.name), body)

    def preview(
        self, spec: EnvironmentSpec, *, partial: bool = False, by_hand: Collection[str] = ()
    ) -> list[StepView]:
        """What `apply` would do. Raises Refused where it would."""
        from vmorch.model.codec import to_json
        from vmorch.model.view.step import StepView

        path = _environment_path(spec.name) + "/preview"
        body = {"spec": to_json(spec), "partial": partial, "by_hand": list(by_hand)}
        rows = self._call("POST", path, body)
        return [view_of(StepView, row) for row in rows]

    def preview_removal(self, name: str, *, volumes: bool = False) -> list[StepView]:
        """What `remove` would do."""
        from vmorch.model.view.step import StepView

        path = f"{_environment_path(name)}/removal" + _query(volumes=volumes)
        return [view_of(StepView, row) for row in self._call("GET", path)]

    def preview_scale(self, name: str, replicas: dict[str, int]) -> list[StepView]:
        """What `scale` would do. Raises Refused where it would."""
        from vmorch.model.view.step import StepView

        path = f"{_environment_path(name)}/scale/preview"
        return [view_of(StepView, row) for row in self._call("POST", path, {"replicas": replicas})]

    # Rollouts

    def rollout(self, environment: str, service: str) -> RolloutView:
        """The last one of a service. Raises NotFound."""
        return self._rollout("GET", _rollout_path(environment, service))

    def latest_rollouts(self, environment: str) -> list[RolloutView]:
        """The last one of each service."""
        path = f"{_environment_path(environment)}/rollouts"
        return [_rollout(row) for row in self._call("GET", path)]

    def rollouts(self, environment: str, service: str) -> list[RolloutView]:
        """The last ones of a service, oldest first."""
        path = f"{_rollout_path(environment, service)}/history"
        return [_rollout(row) for row in self._call("GET", path)]

    def steer_rollout(self, environment: str, service: str, order: str) -> RolloutView:
        """`order`: pause, resume or promote. Raises NotFound, Refused (there is none like that)."""
        return self._rollout("POST", f"{_rollout_path(environment, service)}/{order}")

    def undo(self, environment: str, service: str, to: int | None = None) -> RolloutView:
        """Back to revision `to`, or to the last one that was rolled out whole before. Raises
        NotFound, Refused (there is none, or it is the current one)."""
        path = f"{_rollout_path(environment, service)}/undo"
        return self._rollout("POST", path, {"to": to})

    def preview_undo(self, environment: str, service: str, to: int | None = None) -> list[StepView]:
        """What `undo` would do."""
        from vmorch.model.view.step import StepView

        path = f"{_rollout_path(environment, service)}/undo/preview"
        return [view_of(StepView, row) for row in self._call("POST", path, {"to": to})]

    def differences(
        self, environment: str, service: str, old: int | None, new: int | None
    ) -> list[DifferenceView]:
        """In what two revisions differ; None: the current one, and the one before it."""
        from vmorch.model.view.rollout import DifferenceView

        numbers = {"old": old, "new": new}
        query = _query(**{name: n for name, n in numbers.items() if n is not None})
        rows = self._call("GET", f"{_rollout_path(environment, service)}/diff{query}")
        return [view_of(DifferenceView, row) for row in rows]

    def _rollout(self, method: str, path: str, body: Any = None) -> RolloutView:
        return _rollout(self._call(method, path, body))

    # All environments

    def environments(self) -> list[EnvironmentView]:
        return [_environment(row) for row in self._call("GET", "/v1/environments")]

    def environment(self, name: str) -> EnvironmentView:
        """Raises NotFound."""
        return self._environment("GET", _environment_path(name))

    def remove(self, name: str, *, volumes: bool = False) -> EnvironmentView:
        """Begin to remove it: gone when `environment` raises NotFound."""
        path = _environment_path(name) + _query(volumes=volumes)
        return self._environment("DELETE", path)

    def remove_volumes(self, name: str) -> None:
        """Those that an environment left. Raises NotFound (there are none), Refused (it lives)."""
        self._call("DELETE", _environment_path(name) + "/volumes")

    def set_goal(self, name: str, goal: str, names: Sequence[str] = ()) -> list[InstanceView]:
        """Have instances run, stop, sleep or pause: those of the services and instances in
        `names`, or all. Returns them as they are now."""
        from vmorch.model.view.instance import InstanceView

        body = {"goal": goal, "names": list(names)}
        rows = self._call("POST", _environment_path(name) + "/goal", body)
        return [view_of(InstanceView, row) for row in rows]

    def scale(self, name: str, replicas: dict[str, int]) -> EnvironmentView:
        path = _environment_path(name) + "/scale"
        return self._environment("POST", path, {"replicas": replicas})

    def _environment(self, method: str, path: str, body: Any = None) -> EnvironmentView:
        return _environment(self._call(method, path, body))

    # Instances

    def instances(
        self, environment: str | None = None, service: str | None = None
    ) -> list[InstanceView]:
        from vmorch.model.view.instance import InstanceView

        path = "/v1/instances" + _query(environment=environment, service=service)
        return [view_of(InstanceView, row) for row in self._call("GET", path)]

    def measured_instances(
        self, environment: str | None = None, service: str | None = None
    ) -> list[MeasuredInstance]:
        """What instances used in the daemon's last look at them."""
        from vmorch.model.use import InstanceUse
        from vmorch.model.view.measure import MeasuredInstance

        path = "/v1/metrics/instances" + _query(environment=environment, service=service)
        rows = self._call("GET", path)
        return [view_of(MeasuredInstance, _measured(InstanceUse, row)) for row in rows]

    def measured_services(self, environment: str | None = None) -> list[MeasuredService]:
        """What services used in the daemon's last look, and since it began."""
        from vmorch.model.use import Latency, ServiceUse
        from vmorch.model.view.measure import MeasuredService

        rows = self._call("GET", "/v1/metrics/services" + _query(environment=environment))
        for row in rows:
            row["latency"] = row["latency"] and view_of(Latency, row["latency"])
        return [view_of(MeasuredService, _measured(ServiceUse, row)) for row in rows]

    def measured_host(self) -> HostUse | None:
        """The host in the last look; None before the first one."""
        from vmorch.model.use import HostUse

        rows = self._call("GET", "/v1/metrics/host")
        return view_of(HostUse, rows[0]) if rows else None

    def events(
        self,
        *,
        after: int = 0,
        environment: str | None = None,
        subjects: Sequence[str] = (),
        since: float | None = None,
        follow: bool = False,
    ) -> Iterator[EventView]:
        """Of the services and instances in `subjects`, or of all; oldest first."""
        from vmorch.model.view.stream import EventView

        path = "/v1/events" + _query(
            after=after, environment=environment, subject=subjects, since=since, follow=follow
        )
        return (view_of(EventView, row) for row in self._stream("GET", path))

    def why(self, environment: str, subject: str) -> WhyView:
        """Why an instance or service is as it is. Raises NotFound: there never was one."""
        from vmorch.model.view.stream import EventView
        from vmorch.model.view.why import StepAheadView, WhyView

        path = f"{_environment_path(environment)}/why" + _query(subject=subject)
        row = self._call("GET", path)
        steps = [view_of(StepAheadView, step) for step in row["steps"]]
        events = [view_of(EventView, event) for event in row["events"]]
        return view_of(WhyView, {**row, "steps": steps, "events": events})

    def logs(
        self,
        environment: str,
        names: Sequence[str] = (),
        *,
        source: str = "service",
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[LogLine]:
        """Lines of the services and instances in `names`, or of all."""
        from vmorch.model.view.stream import LogLine

        path = f"{_environment_path(environment)}/logs" + _query(
            instance=names, source=source, follow=follow, tail=tail, since=since
        )
        return (view_of(LogLine, row) for row in self._stream("GET", path))

    def accesses(
        self,
        environment: str,
        names: Sequence[str] = (),
        *,
        tail: int | None = None,
        since: float | None = None,
    ) -> list[Access]:
        """The last requests of the access log, for the services and instances in `names`."""
        from vmorch.model.access import Access

        path = f"{_environment_path(environment)}/accesses"
        query = _query(service=names, tail=tail, since=since)
        return [view_of(Access, row) for row in self._call("GET", path + query)]

    def open_exec(
        self,
        environment: str,
        instance: str,
        *,
        argv: Sequence[str] | None,
        tty: bool,
        user: str | None = None,
        variables: dict[str, str] | None = None,
        working_dir: str | None = None,
        columns: int = 80,
        rows: int = 24,
        binary: bool = False,
    ) -> Path:
        """The socket of a session (see `vmorch.model.frames`), to be connected to once.
        `binary`: much data goes through it, so that it must be SSH."""
        body = {
            "instance": instance,
            "argv": None if argv is None else list(argv),
            "tty": tty,
            "user": user,
            "env": variables or {},
            "working_dir": working_dir,
            "columns": columns,
            "rows": rows,
            "binary": binary,
        }
        answer = self._call("POST", f"{_environment_path(environment)}/exec", body)
        return Path(answer["socket"])

    def open_console(self, environment: str, instance: str) -> Path:
        """The socket of a session on an instance's serial console, to be connected to once."""
        path = f"{_environment_path(environment)}/console"
        return Path(self._call("POST", path, {"instance": instance})["socket"])

    # Transport

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with self._request(method, path, data, _JSON if data else {}) as response:
            content = response.read()
        return json.loads(content) if content else None

    def _stream(
        self, method: str, path: str, body: Any = None
    ) -> Generator[dict[str, Any], None, None]:
        data = None if body is None else json.dumps(body).encode()
        headers = _JSON if data else {}
        with self._request(method, path, data, headers, endless=True) as response:
            for line in _lines(response):
                row = json.loads(line)
                if "error" in row:
                    raise from_problem(row["error"])
                yield row

    @contextlib.contextmanager
    def _request(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None,
        headers: dict[str, str],
        *,
        endless: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        timeout = None if endless else self._timeout_seconds
        connection = _UnixConnection(self.socket_path, timeout)
        try:
            connection.connect()
            # A daemon that refuses a body early closes: its answer says more than our EPIPE.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise _problem(response)
            yield response
        except TimeoutError as error:
            raise TimedOut(
                f"The daemon did not answer within {self._timeout_seconds:.0f} s.",
                hint="Its log says what it is doing; 'vmorch daemon status' names it.",
            ) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise _gone_away() from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except PermissionError as error:
            raise DaemonUnreachable(
                f"You may not talk to the daemon at {self._path}.",
                hint="Join the socket's group (usually 'vmorch') and log in anew, or use sudo.",
            ) from error
        except OSError as error:  # no socket, nobody behind it, or a path too long for one
            raise DaemonUnreachable(
                f"No daemon answers at {self._path}.",
                hint="Start it with 'sudo vmorch daemon start', or name another --socket.",
            ) from error


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """As they come. `read1` tells a stream that was cut off (IncompleteRead) from one that has
    ended, which iterating the response does not."""
    partial = b""
    while data := response.read1(_CHUNK_BYTES):
        *lines, partial = (partial + data).split(b"\n")
        yield from lines


def _problem(response: http.client.HTTPResponse) -> VmorchError:
    content = response.read()
    try:
        problem = json.loads(content)
    except ValueError:
        problem = {"detail": f"The daemon answered {response.status} {response.reason}."}
    return from_problem(problem if isinstance(problem, dict) else {})


def _gone_away() -> DaemonUnreachable:
    return DaemonUnreachable(
        "The daemon went away before it had answered.",
        hint="See 'vmorch daemon status'; what was applied goes on when it is back.",
    )


def _environment(row: dict[str, Any]) -> EnvironmentView:
    from vmorch.model.view.environment import EnvironmentView, ServiceView

    services = {name: view_of(ServiceView, s) for name, s in row["services"].items()}
    return view_of(EnvironmentView, {**row, "services": services})


def _measured(kind: type[Any], row: dict[str, Any]) -> dict[str, Any]:
    from vmorch.model.use import Totals

    return {**row, "now": view_of(kind, row["now"]), "totals": view_of(Totals, row["totals"])}


def _environment_path(name: str) -> str:
    return f"/v1/environments/{quote(name, safe='')}"


def _rollout(row: dict[str, Any]) -> RolloutView:
    from vmorch.model.view.rollout import RolloutInstanceView, RolloutView

    instances = [view_of(RolloutInstanceView, one) for one in row["instances"]]
    return view_of(RolloutView, {**row, "instances": instances})


def _rollout_path(environment: str, service: str) -> str:
    return f"{_environment_path(environment)}/services/{quote(service, safe='')}/rollout"


def _query(**values: Any) -> str:
    """A query string of the values that are there; booleans only when true, sequences repeated."""
    pairs = {
        key: "true" if value is True else value
        for key, value in values.items()
        if value is not None and value is not False and value != ()
    }
    return f"?{urlencode(pairs, doseq=True)}" if pairs else ""
