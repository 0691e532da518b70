"""Liveness, readiness and metrics: what an orchestrator and Prometheus ask."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shared.errors import NotReady
from shared.serving import metrics
from shared.serving.edge import error_responses


class Health(BaseModel):
    """The answer of a healthy service."""

    status: str


def make_health_router(not_ready_reason: Callable[[], str | None], *, has_metrics: bool = True) -> APIRouter:
    """Return /livez, /readyz and /metrics.

    Args:
        not_ready_reason: None while every model answers and the service is not draining.
        has_metrics: False for a service without /metrics.
    """
    router = APIRouter(tags=["health"])

    @router.get("/livez", summary="The process lives")
    @router.get("/healthz", include_in_schema=False)
    async def livez() -> Health:
        return Health(status="alive")

    @router.get("/readyz", summary="The model answers and the service is not draining", responses=error_responses(503))
    async def readyz() -> Health:
        reason = not_ready_reason()
        if reason is not None:
            raise NotReady(reason)
        return Health(status="ready")

    if has_metrics:

        @router.get("/metrics", summary="Prometheus metrics of all workers", response_class=Response)
        async def prometheus() -> Response:
            return Response(await run_in_threadpool(metrics.exposition), headers={"content-type": metrics.CONTENT_TYPE})

    return router
