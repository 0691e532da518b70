"""The routes about the service itself: liveness, readiness, metrics, which models serve, and replacing one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shared.errors import NotReady
from shared.serving.access.policy import admin_only
from shared.serving.http.errors import error_responses
from shared.serving.http.requests import examples, json_body, read_json
from shared.serving.lifecycle.swaps import ModelSwaps, ServedModelOut
from shared.serving.observe import metrics
from shared.serving.settings import Settings


class Health(BaseModel):
    """The answer of a healthy service."""

    status: str


def make_health_router(not_ready_reason: Callable[[], str | None], *, has_metrics: bool = True) -> APIRouter:
    """Return /livez, /readyz and /metrics.

    Args:
        not_ready_reason: returns None while every model answers and the service is not draining.
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


PATH = "/v1/model"
_EXAMPLE: dict[str, Any] = {
    "name": "tagger",
    "task": "tagging",
    "version": "2026.11.25-0f8e3a1c",
    "bundle": "tagger-2026-11",
    "since": "2026-11-25T12:00:00Z",
    "previous": "tagger",
    "workers": 2,
}


class BundleChoice(BaseModel):
    """The bundle that should serve."""

    model_config = examples({"bundle": "tagger-2026-11"}, extra="forbid")

    bundle: str = Field(
        min_length=1, max_length=128, description="Name of a folder inside the one that the setting `bundles` names."
    )


class ModelList(BaseModel):
    """All models that serve, as the answering worker sees them."""

    model_config = examples({"models": [_EXAMPLE], "workers": 2, "problems": []})

    models: list[ServedModelOut]
    workers: int = Field(description="Workers that are alive.")
    problems: list[str] = Field(description="Why a worker keeps an older model than the chosen one.")


def make_model_router(swaps: ModelSwaps[Any], settings: Settings) -> APIRouter:
    """Return the routes.

    Args:
        swaps: of this worker.
        settings: the admin's key.
    """
    router = APIRouter(tags=["models"])
    admin = [Depends(admin_only(settings))]
    errors = error_responses(400, 401, 403, 404, 413, 415, 422, 429, 503)

    async def served() -> ModelList:
        models, workers, problems = await run_in_threadpool(swaps.served)
        return ModelList(models=models, workers=workers, problems=problems)

    @router.get(PATH, summary="What serves", responses=error_responses(503))
    async def read_models() -> ModelList:
        """Each model with its version, since when it serves, and in how many workers."""
        return await served()

    @router.put(
        PATH,
        summary="Serve another bundle",
        responses=errors,
        dependencies=admin,
        openapi_extra=json_body(BundleChoice),
    )
    async def choose_bundle(request: Request) -> ModelList:
        """Its task and its model's name must be ones that already serve. No request is lost.

        It is loaded beside the current model and must give its golden outputs; otherwise it is refused with 400, and
        nothing changes. The answer comes once this worker has switched; the others follow within seconds.
        """
        await swaps.choose((await read_json(request, BundleChoice)).bundle)
        return await served()

    @router.post(f"{PATH}/rollback", summary="Serve the previous bundle", responses=errors, dependencies=admin)
    async def roll_back(
        model: str | None = Query(None, max_length=200, description="Its name; needed if there are several."),
    ) -> ModelList:
        """The same as choosing the bundle that served before."""
        await swaps.roll_back(model)
        return await served()

    return router
