"""What happened, past and to come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from vmorch.api.services import ApiServices
from vmorch.api.streams import Rows, ndjson
from vmorch.store.protocol import Store

_PAGE = 500


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["events"])

    @routes.get("/events")
    async def events(
        subject: Annotated[list[str], Query()] = [],  # noqa: B006
        after: int = 0,
        environment: str | None = None,
        since: float | None = None,
        follow: bool = False,
    ) -> StreamingResponse:
        """Events with an id above `after` and a time of `since` or later, oldest first; of the
        services (with their instances) and instances in `subject`, or of all."""
        rows = _events(
            services.store,
            after=after,
            environment=environment,
            subjects=frozenset(subject),
            since=since,
            follow=follow,
        )
        return ndjson(rows)

    return routes


async def _events(
    store: Store,
    *,
    after: int,
    environment: str | None,
    subjects: frozenset[str],
    since: float | None,
    follow: bool,
) -> AsyncIterator[Rows]:
    newest = after
    while True:
        # Read before the page: an event that comes in between then ends the wait at once.
        newest = await _newest(store, newest)
        page = await store.events(after=after, environment=environment, limit=_PAGE)
        yield [
            asdict(event)
            for event in page
            if (since is None or event.time >= since)
            and (not subjects or subjects & {event.service, event.instance})
        ]
        after = page[-1].id if page else after
        if len(page) == _PAGE:
            continue
        if not follow:
            return
        await store.wait_for_event(newest)


async def _newest(store: Store, after: int) -> int:
    """The id of the newest event of all environments, at least `after`: a wait for anything
    above a filtered page's last would end at once on another environment's event."""
    while page := await store.events(after=after, limit=_PAGE):
        after = page[-1].id
    return after
