"""Answers as NDJSON: one JSON object a line, each sent as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi.responses import StreamingResponse

from vmorch.errors import VmorchError, of_the_disk
from vmorch.model.problem import to_problem

MEDIA_TYPE = "application/x-ndjson"

log = structlog.get_logger(__name__)


Rows = list[dict[str, Any]]


def ndjson(batches: AsyncIterator[Rows]) -> StreamingResponse:
    """Stream the rows of `batches`, each batch as one piece. When the client goes away the
    iterator is cancelled where it waits."""
    return StreamingResponse(_lines(batches), media_type=MEDIA_TYPE)


async def _lines(batches: AsyncIterator[Rows]) -> AsyncIterator[str]:
    # The status line is out already: an error can only be the last line.
    try:
        async for rows in batches:
            if rows:
                yield "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    except VmorchError as error:
        yield json.dumps({"error": to_problem(error)}) + "\n"
    except OSError as error:
        log.error("api-disk-in-stream", error=str(error))
        yield json.dumps({"error": to_problem(of_the_disk(error))}) + "\n"
    except Exception as error:
        log.exception("api-bug-in-stream")
        bug = VmorchError(
            f"The daemon failed unexpectedly ({type(error).__name__}).",
            hint="Its log says where; please report it.",
        )
        yield json.dumps({"error": to_problem(bug)}) + "\n"
