"""Logs of instances, also of those that are gone: their files outlive them."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from vmorch.api.logfiles import LogFile
from vmorch.api.services import ApiServices
from vmorch.api.streams import Rows, ndjson
from vmorch.errors import NotFound, UsageError
from vmorch.model.access import Access
from vmorch.model.names import is_name, split_instance_name
from vmorch.model.view.stream import LogLine

TAIL_LIMIT = 10_000
_POLL_SECONDS = 0.3
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """`names` are services and instances; empty means all."""

    directory: Path
    file_name: str
    names: frozenset[str]
    since: float | None
    tail: int | None

    def directories(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted(d for d in self.directory.iterdir() if d.is_dir() and self._wants(d.name))

    def _wants(self, instance: str) -> bool:
        return not self.names or bool(self.names & {instance, _service(instance)})

    def shows(self, line: LogLine) -> bool:
        return self.since is None or line.time is None or line.time >= self.since


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["instances"])

    @routes.get("/environments/{name}/logs")
    async def logs(
        name: str,
        service: Annotated[list[str], Query()] = [],  # noqa: B006
        instance: Annotated[list[str], Query()] = [],  # noqa: B006
        source: Literal["service", "console"] = "service",
        follow: bool = False,
        tail: Annotated[int | None, Query(ge=0, le=TAIL_LIMIT)] = None,
        since: float | None = None,
    ) -> StreamingResponse:
        """Lines as {instance, time, line}, merged by time. A name given as service or instance
        selects either; `tail` counts for each instance."""
        if not is_name(name):
            raise NotFound(f"There is no environment '{name}'.", hint="See 'vmorch env ls'.")
        wish = _Wish(
            directory=services.settings.instance_dir(name, "x").parent,
            file_name=f"{source}.log",
            names=frozenset({*service, *instance}),
            since=since,
            tail=tail,
        )
        await _check_names(services, name, wish)
        return ndjson(_logs(services, name, wish, follow=follow))

    @routes.get("/environments/{name}/accesses")
    async def accesses(
        name: str,
        service: Annotated[list[str], Query()] = [],  # noqa: B006
        tail: Annotated[int | None, Query(ge=0, le=TAIL_LIMIT)] = None,
        since: float | None = None,
    ) -> list[Access]:
        """The last requests that routes with `access_log` led to these services or instances (or
        to all), the oldest first."""
        await services.store.environment(name)
        found = [
            line
            for line in await services.accesses()
            if line.environment == name
            and (not service or {line.service, line.instance} & set(service))
            and (since is None or line.time >= since)
        ]
        return found if tail is None else found[max(0, len(found) - tail) :]

    return routes


async def _check_names(services: ApiServices, environment: str, wish: _Wish) -> None:
    try:
        known = set((await services.store.environment(environment)).spec.services)
        known |= {row.name for row in await services.store.instances(environment)}
    except NotFound:
        if not wish.directory.is_dir():
            raise
        known = set()
    if wish.directory.is_dir():
        gone = {d.name for d in wish.directory.iterdir()}
        known |= gone | {_service(name) for name in gone}
    if unknown := sorted(wish.names - known):
        raise NotFound(
            f"Environment '{environment}' has no instance or service '{unknown[0]}'.",
            hint="See 'vmorch ps' for those there are.",
        )


async def _logs(
    services: ApiServices, environment: str, wish: _Wish, *, follow: bool
) -> AsyncIterator[Rows]:
    with ExitStack() as stack:
        files: dict[str, LogFile] = {}
        _open_new(files, wish, stack)
        async for rows in _batched(_merged(wish, list(files.values()), partial=not follow)):
            yield rows
        while follow:
            await services.clock.sleep(_POLL_SECONDS)
            alive = await _exists(services, environment)
            _open_new(files, wish, stack)
            news = (line for file in files.values() for line in file.lines())
            async for rows in _batched(news):
                yield rows
            follow = alive


def _open_new(files: dict[str, LogFile], wish: _Wish, stack: ExitStack) -> None:
    for directory in wish.directories():
        if directory.name not in files:
            file = LogFile(directory.name, directory / wish.file_name)
            files[directory.name] = stack.enter_context(file)


def _merged(wish: _Wish, files: list[LogFile], *, partial: bool) -> Iterator[LogLine]:
    return (line for _, line in heapq.merge(*(_one(wish, f, partial) for f in files), key=_first))


def _one(wish: _Wish, file: LogFile, partial: bool) -> Iterator[tuple[float, LogLine]]:
    """A file's lines, each with its time or, without one, that of the line before."""
    lines = (line for line in _all(file, partial) if wish.shows(line))
    if wish.tail is not None:
        lines = (line for line in deque(lines, maxlen=wish.tail))
    time = 0.0
    for line in lines:
        time = line.time if line.time is not None else time
        yield time, line


def _all(file: LogFile, partial: bool) -> Iterator[LogLine]:
    yield from file.lines()
    if partial:
        yield from file.rest()


def _first(pair: tuple[float, LogLine]) -> float:
    return pair[0]


async def _batched(lines: Iterator[LogLine]) -> AsyncIterator[Rows]:
    while batch := await asyncio.to_thread(lambda: [asdict(x) for x in islice(lines, _BATCH)]):
        yield batch


async def _exists(services: ApiServices, environment: str) -> bool:
    try:
        await services.store.environment(environment)
    except NotFound:
        return False
    return True


def _service(instance: str) -> str:
    try:
        return split_instance_name(instance)[0]
    except UsageError:
        return ""
