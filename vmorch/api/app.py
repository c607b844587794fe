"""The HTTP application: routers under /v1, and every error as problem+json."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vmorch import __version__
from vmorch.api import (
    builds,
    environments,
    events,
    execs,
    goals,
    instances,
    logs,
    measures,
    meta,
    rollouts,
    snapshots,
    why,
)
from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, UsageError, VmorchError, of_the_disk
from vmorch.metrics.history import History
from vmorch.model.problem import MEDIA_TYPE, to_problem

log = structlog.get_logger(__name__)


def create_app(services: ApiServices) -> FastAPI:
    """The API over `services`. It holds no state of its own; any number may serve one store."""
    app = FastAPI(
        title="vmorch",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    modules = (
        meta,
        builds,
        environments,
        goals,
        instances,
        rollouts,
        snapshots,
        events,
        why,
        logs,
        execs,
        measures,
    )
    for module in modules:
        app.include_router(module.router(services), prefix="/v1")
    app.include_router(measures.prometheus(services.history))
    app.add_exception_handler(VmorchError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(OSError, _on_disk)
    app.add_exception_handler(Exception, _on_bug)
    return app


def create_metrics_app(history: History) -> FastAPI:
    """`/metrics` and nothing else, for those who may not have the API."""
    app = FastAPI(title="vmorch metrics", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(measures.prometheus(history))
    return app


def _response(error: VmorchError) -> JSONResponse:
    return JSONResponse(to_problem(error), status_code=error.http_status, media_type=MEDIA_TYPE)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, VmorchError)
    return _response(error)


async def _on_malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    )
    return _response(UsageError(f"The request is malformed: {found}."))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    wrong: VmorchError
    if error.status_code == 404:
        wrong = NotFound(
            f"This daemon knows no {request.method} {request.url.path}.",
            hint="The client may be newer than the daemon: compare 'vmorch version'.",
        )
    else:
        wrong = UsageError(f"{request.method} {request.url.path}: {error.detail}.")
    return _response(wrong)


async def _on_disk(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    log.error("api-disk", path=request.url.path, error=str(error))
    return _response(of_the_disk(error))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    # The traceback follows: the server tells what it has passed to this handler.
    log.error("api-bug", method=request.method, path=request.url.path)
    return _response(
        VmorchError(
            f"The daemon failed unexpectedly ({type(error).__name__}).",
            hint="Its log says where; please report it.",
        )
    )
