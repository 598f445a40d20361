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


def admin_app(reasons: Reasons) -> Starlette:
    """The app of a processor or projector. `/health/live` answers as long as the event loop turns."""

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        why_not = list(reasons())
        if not why_not:
            return JSONResponse({"status": "ok", "reasons": []})
        return JSONResponse({"status": "unavailable", "reasons": why_not}, 503, {"Retry-After": "1"})

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)])
