"""The admin port of a role: metrics and health, for operators and for what restarts the role."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas.metrics import REGISTRY

Reasons = Callable[[], Sequence[str]]
"""Why a role is not ready, in words; empty when it is."""


def _nothing() -> Sequence[str]:
    return ()


def admin_app(reasons: Reasons, findings: Reasons = _nothing) -> Starlette:
    """The app of a role other than the API. `/health/live` answers as long as the event loop turns; `/health` is 503 for
    `findings`, too: the role works, and a person must look at what it found."""

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        return _well_unless(reasons())

    async def health(request: Request) -> Response:
        return _well_unless([*reasons(), *findings()])

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    routes = {"/health/live": live, "/health/ready": ready, "/health": health, "/metrics": metrics}
    return Starlette(routes=[Route(path, answer) for path, answer in routes.items()])


def _well_unless(why_not: Sequence[str]) -> Response:
    if not why_not:
        return JSONResponse({"status": "ok", "reasons": []})
    return JSONResponse({"status": "unavailable", "reasons": list(why_not)}, 503, {"Retry-After": "1"})
