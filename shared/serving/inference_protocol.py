"""The routes of the Open Inference Protocol v2 over HTTP, so that KServe's and Triton's clients work unchanged.

Sources: see `inference_messages` (the JSON objects) and `inference_tensors` (JSON and binary tensors), the neighbours.
Errors are those of `shared.errors`; `shared.serving.edge` gives them their status, and the size of the body its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Protocol

import numpy as np
from fastapi import APIRouter, Header, Request, Response

from shared.bundle.layout import TensorSignature
from shared.errors import InputError, NotFound, NotReady, UnsupportedMedia
from shared.serving.docs import inline_schema
from shared.serving.inference_messages import (
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from shared.serving.inference_tensors import DATATYPES, read_request, read_tensors, write_response
from shared.serving.json_depth import DEFAULT_MAX_JSON_DEPTH, MAX_JSON_DEPTH
from shared.serving.middleware import answered_by

PLATFORM = "percept_bundle"
"""The protocol's <project>_<format>: which runtime computes the bundle is the server's affair."""
EXTENSIONS = ["binary_tensor_data"]
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
DEFAULT_MAX_ELEMENTS = 16 * 3 * 224 * 224
"""Sixteen photos. As JSON they take 410 ms to parse, one takes 16 ms; as binary tensors 1.2 and 0.04 ms (two cores,
orjson 3.13, numpy 2.4, best of 20, 2026-11)."""


class ServedModel(Protocol):
    """What the routes must know of a model."""

    name: str
    version: str

    @property
    def inputs(self) -> tuple[TensorSignature, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSignature, ...]: ...

    @property
    def is_ready(self) -> bool: ...

    async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name. The inputs are checked: names, dtypes and shapes of the signature, all finite."""
        ...


def make_router(models: Callable[[], Sequence[ServedModel]], *, max_elements: int = DEFAULT_MAX_ELEMENTS) -> APIRouter:
    """Return the protocol's routes for a service's models.

    Args:
        models: gives the models at every request, each with a name of its own; may raise NotReady while there is none.
        max_elements: values that one request may hold in all its inputs.
    """
    router = APIRouter(tags=["Open Inference Protocol v2"])
    body: dict[str, Any] = {"requestBody": _request_body()}

    def served(request: Request, name: str, asked_version: str | None = None) -> ServedModel:
        known = {model.name: model for model in models()}
        if name not in known:
            names = ", ".join(map(repr, known))
            here = f"The model is called {names}" if len(known) == 1 else f"The models are called {names}"
            raise NotFound(f"there is no model {name!r} here. {here}.")
        current = known[name]
        if asked_version not in (None, current.version):
            raise NotFound(f"the model {name!r} has no version {asked_version!r} here. It has {current.version!r}.")
        answered_by(request, current)
        return current

    async def answer(current: ServedModel, request: Request, json_bytes: str | None) -> Response:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise UnsupportedMedia(f"the body is encoded as {encoding[:20]!r}. Send it as it is, without compression.")
        _ready(current)
        depth = request.scope.get(MAX_JSON_DEPTH, DEFAULT_MAX_JSON_DEPTH)
        message, binary = read_request(await request.body(), json_bytes, depth)
        wanted, as_binary = _wanted_outputs(message, current.outputs)
        inputs = read_tensors(message, binary, current.inputs, max_elements)
        outputs = await current.infer(inputs)
        head = {"model_name": current.name, "model_version": current.version}
        if message.id is not None:
            head["id"] = message.id
        content, json_length = write_response(head, {name: outputs[name] for name in wanted}, as_binary)
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={JSON_LENGTH_HEADER: str(json_length)})

    @router.get("/v2/", include_in_schema=False)
    @router.get("/v2", summary="Server metadata")
    async def server_metadata() -> ServerMetadata:
        return ServerMetadata(name="percept", version=_server_version(), extensions=EXTENSIONS)

    @router.get("/v2/health/live", summary="Server live")
    async def server_live() -> ServerLive:
        return ServerLive(live=True)

    @router.get("/v2/health/ready", summary="Server ready")
    async def server_ready() -> ServerReady:
        for model in models():
            _ready(model)
        return ServerReady(live=True, ready=True)

    @router.get("/v2/models/{name}", summary="Model metadata")
    async def model_metadata(request: Request, name: str) -> ModelMetadata:
        return _metadata(served(request, name))

    @router.get("/v2/models/{name}/versions/{version}", summary="Model metadata, of a version")
    async def version_metadata(request: Request, name: str, version: str) -> ModelMetadata:
        return _metadata(served(request, name, version))

    @router.get("/v2/models/{name}/ready", summary="Model ready")
    async def model_ready(request: Request, name: str) -> ModelReady:
        return _ready(served(request, name))

    @router.get("/v2/models/{name}/versions/{version}/ready", summary="Model ready, of a version")
    async def version_ready(request: Request, name: str, version: str) -> ModelReady:
        return _ready(served(request, name, version))

    @router.post("/v2/models/{name}/infer", summary="Inference", response_model=InferenceResponse, openapi_extra=body)
    async def model_infer(name: str, request: Request, json_bytes: _JsonLength = None) -> Response:
        return await answer(served(request, name), request, json_bytes)

    @router.post(
        "/v2/models/{name}/versions/{version}/infer",
        summary="Inference, with a version",
        response_model=InferenceResponse,
        openapi_extra=body,
    )
    async def version_infer(name: str, version: str, request: Request, json_bytes: _JsonLength = None) -> Response:
        return await answer(served(request, name, version), request, json_bytes)

    return router


_JsonLength = Annotated[
    str | None,
    Header(alias=JSON_LENGTH_HEADER, description="Binary tensors only: how many bytes of the body are JSON."),
]


def _ready(model: ServedModel) -> ModelReady:
    if not model.is_ready:
        raise NotReady(f"the model {model.name!r} is not ready. Send it again later.")
    return ModelReady(name=model.name, ready=True)


def _metadata(model: ServedModel) -> ModelMetadata:
    return ModelMetadata(
        name=model.name,
        versions=[model.version],
        platform=PLATFORM,
        inputs=[_metadata_tensor(spec) for spec in model.inputs],
        outputs=[_metadata_tensor(spec) for spec in model.outputs],
    )


def _metadata_tensor(spec: TensorSignature) -> MetadataTensor:
    shape = [-1 if isinstance(size, str) else size for size in spec.shape]
    return MetadataTensor(name=spec.name, datatype=DATATYPES[spec.dtype], shape=shape)


def _wanted_outputs(message: InferenceRequest, specs: tuple[TensorSignature, ...]) -> tuple[list[str], frozenset[str]]:
    """Return the names of the outputs in the order they were asked for, and those of them that are wanted as bytes."""
    known = [spec.name for spec in specs]
    all_binary = (message.parameters or {}).get("binary_data_output") is True
    if not message.outputs:
        return known, frozenset(known if all_binary else ())
    wanted = {output.name: (output.parameters or {}).get("binary_data", all_binary) for output in message.outputs}
    strangers = [name for name in wanted if name not in known]
    if strangers:
        raise InputError(f"the model has the outputs {known}; {strangers[0]!r} is none of them.")
    return list(wanted), frozenset(name for name, is_binary in wanted.items() if is_binary is True)


def _server_version() -> str:
    try:
        return version("percept")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _request_body() -> dict[str, Any]:
    """Return OpenAPI's description of a body that the routes read on their own, as fast as it can be read."""
    return {
        "required": True,
        "content": {
            "application/json": {"schema": inline_schema(InferenceRequest)},
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary", "description": "JSON, then the binary tensors."}
            },
        },
    }
