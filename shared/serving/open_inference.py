"""The Open Inference Protocol v2 over HTTP, so that KServe's and Triton's clients work unchanged.

Sources: github.com/kserve/open-inference-protocol, specification/protocol: inference_rest.md and
open_inference_rest.yaml; for binary tensors,
github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import Annotated, Any, Protocol

import numpy as np
import orjson
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from shared.bundle.layout import TensorSignature
from shared.errors import InputError, NotFound, NotReady, TooLarge
from shared.runtime.protocol import check_inputs
from shared.serving.http.middleware import answered_by
from shared.serving.http.requests import check_json, examples, inline_schema, invalid_body

_MAX_DIMENSIONS = 8
_MAX_TENSORS = 64
_MAX_NAME = 256

_EXAMPLE_INPUT: dict[str, Any] = {
    "name": "pixel_values",
    "shape": [1, 3, 1, 2],
    "datatype": "FP32",
    "data": [0.1, 0.2, 0, -0.5, 1, 2],
}
_EXAMPLE_OUTPUT: dict[str, Any] = {"name": "logits", "shape": [1, 3], "datatype": "FP32", "data": [-1.25, 3.5, 0.75]}

Parameters = dict[str, Any]
"""Extensions of the protocol. Unknown ones are ignored, as the protocol requires."""
TensorData = Annotated[
    Any,  # not walked by pydantic: a photo has 150,528 values
    WithJsonSchema(
        {"type": "array", "items": {}, "description": "Flat in row-major order, or nested as the shape says."}
    ),
]


class _Received(BaseModel):
    """Strict, and without unknown fields; an optional field may also be null."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RequestInput(_Received):
    """An input tensor: `data` in JSON, or `parameters.binary_data_size` bytes after the JSON."""

    model_config = examples(_EXAMPLE_INPUT)

    name: str = Field(max_length=_MAX_NAME)
    shape: list[Annotated[int, Field(ge=1)]] = Field(max_length=_MAX_DIMENSIONS)
    datatype: str = Field(max_length=16, description="BOOL, UINT8, INT8, INT32, INT64, FP16, FP32 or FP64.")
    parameters: Parameters | None = None
    data: TensorData = None


class RequestOutput(_Received):
    """An output to return; with `parameters.binary_data` true it comes as bytes after the JSON."""

    model_config = examples({"name": "logits"})

    name: str = Field(max_length=_MAX_NAME)
    parameters: Parameters | None = None


class InferenceRequest(_Received):
    """What is sent to `infer`. Without `outputs`, all outputs are returned."""

    model_config = examples({"id": "42", "inputs": [_EXAMPLE_INPUT]})

    id: str | None = Field(default=None, max_length=_MAX_NAME)
    parameters: Parameters | None = None
    inputs: list[RequestInput] = Field(min_length=1, max_length=_MAX_TENSORS)
    outputs: list[RequestOutput] | None = Field(default=None, max_length=_MAX_TENSORS)


class ResponseOutput(BaseModel):
    """An output tensor, its data flat in row-major order."""

    model_config = examples(_EXAMPLE_OUTPUT)

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: TensorData = None


class InferenceResponse(BaseModel):
    """What `infer` returns; `id` is here if the request had one."""

    model_config = examples(
        {"model_name": "tagger", "model_version": "1", "id": "42", "outputs": [_EXAMPLE_OUTPUT]},
        protected_namespaces=(),
    )

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[ResponseOutput]


class MetadataTensor(BaseModel):
    """An input or output of the model; -1 is a dimension of any size."""

    model_config = examples({"name": "pixel_values", "datatype": "FP32", "shape": [-1, 3, 224, 224]})

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model's name, inputs and outputs."""

    name: str = Field(examples=["tagger"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str
    inputs: list[MetadataTensor]
    outputs: list[MetadataTensor]


class ServerMetadata(BaseModel):
    """Name, version and extensions of the server."""

    name: str = Field(examples=["percept"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class ServerLive(BaseModel):
    """Whether the server runs."""

    live: bool


class ServerReady(BaseModel):
    """Whether the server answers. The specification says `live`, KServe's own server `ready`: here are both."""

    live: bool
    ready: bool


class ModelReady(BaseModel):
    """Whether the model answers."""

    name: str = Field(examples=["tagger"])
    ready: bool


PLATFORM = "percept_bundle"
"""The protocol's <project>_<format>; it does not say which runtime computes the bundle."""
EXTENSIONS = ["binary_tensor_data"]
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
DEFAULT_MAX_ELEMENTS = 16 * 3 * 224 * 224
"""Sixteen photos as binary tensors, which take 1.2 ms to read (two cores, numpy 2.4, 2026-11). As JSON they would take
410 ms, so `check_json` lets through no more than four."""


class ServedModel(Protocol):
    """What the routes need to know of a model."""

    name: str
    version: str

    @property
    def inputs(self) -> tuple[TensorSignature, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSignature, ...]: ...

    @property
    def is_ready(self) -> bool: ...

    async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name. The inputs are checked: names, dtypes and shapes fit, all values are finite."""
        ...


def make_router(models: Callable[[], Sequence[ServedModel]], *, max_elements: int = DEFAULT_MAX_ELEMENTS) -> APIRouter:
    """Return the protocol's routes for a service's models.

    Args:
        models: returns the models at every request, each with a name of its own; raises NotReady while there are none.
        max_elements: values that all inputs of one request may hold together.
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
        _ready(current)
        message, binary = read_request(await request.body(), json_bytes)
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
    """Return the names of the wanted outputs in their order, and those of them that are wanted as bytes."""
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
    """Return OpenAPI's description of a body that the routes read themselves, which is fastest."""
    return {
        "required": True,
        "content": {
            "application/json": {"schema": inline_schema(InferenceRequest)},
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary", "description": "JSON, then the binary tensors."}
            },
        },
    }


DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""numpy's name of each type that a signature can have -> the protocol's name."""

_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true and false"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float}, "numbers"),
}
"""numpy's kind -> what JSON may hold for it, as Python types and in words."""


def read_request(body: bytes, json_bytes: str | None) -> tuple[InferenceRequest, memoryview]:
    """Return the request and the bytes after its JSON.

    Args:
        body: the whole HTTP body.
        json_bytes: the header Inference-Header-Content-Length; None if the body is only JSON.

    Raises:
        InputError: the header, the JSON or one of its fields is wrong.
        TooLarge: as `check_json`.
    """
    view = memoryview(body)
    length = _json_length(json_bytes, len(body))
    check_json(body[:length])
    try:
        fields = orjson.loads(view[:length])
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"the body must be an inference request in JSON, which has no NaN and no Infinity: {error}. With binary "
            "tensors, the header Inference-Header-Content-Length says how many bytes are JSON."
        ) from error
    try:
        return InferenceRequest.model_validate(fields), view[length:]
    except ValidationError as error:
        first = invalid_body(error).errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InputError(
            f"the body is not an inference request of the Open Inference Protocol v2: {where}: {first['msg']}."
        ) from error


def read_tensors(
    request: InferenceRequest, binary: memoryview, specs: Sequence[TensorSignature], max_elements: int
) -> dict[str, np.ndarray]:
    """Return the inputs by name, as the signature has them: finite, writable, row-major.

    Raises:
        TooLarge: the tensors have more than `max_elements` values together.
        InputError: a name, datatype, shape, number of values or value is wrong.
    """
    elements = sum(math.prod(tensor.shape) for tensor in request.inputs)
    if elements > max_elements:
        raise TooLarge(f"the inputs have {elements} values; the limit is {max_elements}. Send a smaller batch.")
    _check_headers(request.inputs, specs)
    dtypes = {spec.name: np.dtype(spec.dtype) for spec in specs}
    arrays: dict[str, np.ndarray] = {}
    for tensor in request.inputs:
        dtype = dtypes[tensor.name]
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            array = _from_json(tensor, dtype)
        else:
            array = _from_binary(tensor, dtype, size, binary)
            binary = binary[array.nbytes :]
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"the input {tensor.name!r} has values that are not finite as {tensor.datatype}.")
        arrays[tensor.name] = array.reshape(tensor.shape)
    if len(binary):
        raise InputError(
            f"{len(binary)} bytes after the JSON are left that no input's parameters.binary_data_size claims."
        )
    return arrays


def write_response(
    head: Mapping[str, Any], outputs: Mapping[str, np.ndarray], binary: frozenset[str]
) -> tuple[bytes, int | None]:
    """Return the body and, if it has binary tensors, the length of its JSON.

    Args:
        head: the response's fields other than `outputs`.
        outputs: in the order of the response.
        binary: names of the outputs that go after the JSON.
    """
    tensors: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, array in outputs.items():
        tensor: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype.name]}
        if name in binary:
            chunks.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": len(chunks[-1])}
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RuntimeError(f"the model's output {name!r} is not finite, which JSON cannot say")
        else:
            tensor["data"] = np.ascontiguousarray(array).reshape(-1)
        tensors.append(tensor)
    text = orjson.dumps({**head, "outputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join((text, *chunks)), len(text) if binary else None


def _json_length(header: str | None, total: int) -> int:
    if header is None:
        return total
    try:
        length = int(header)
    except ValueError:
        length = -1
    if not 0 < length <= total:
        raise InputError(
            f"the header Inference-Header-Content-Length must be the length of the JSON, 1 to {total}; "
            f"came {header[:20]!r}."
        )
    return length


def _check_headers(tensors: Sequence[RequestInput], specs: Sequence[TensorSignature]) -> None:
    """Check names, datatypes and shapes before a value is read."""
    known = {spec.name: spec for spec in specs}
    stand_ins: dict[str, np.ndarray] = {}
    for tensor in tensors:
        if tensor.name in stand_ins:
            raise InputError(f"the input {tensor.name!r} is in the request twice.")
        spec = known.get(tensor.name)
        if spec is not None and tensor.datatype != DATATYPES[spec.dtype]:
            raise InputError(
                f"the input {tensor.name!r} must have the datatype {DATATYPES[spec.dtype]}; came {tensor.datatype!r}."
            )
        dtype = np.dtype(spec.dtype if spec else "uint8")
        stand_ins[tensor.name] = np.broadcast_to(np.zeros((), dtype), tensor.shape)  # any shape, without memory
    check_inputs(specs, stand_ins)


def _from_json(tensor: RequestInput, dtype: np.dtype[Any]) -> np.ndarray:
    values = _flat_values(tensor)
    accepted, words = _JSON_TYPES[dtype.kind]
    if not accepted.issuperset(map(type, values)):  # numpy would also take "1.0", true and 1.5 for an integer
        raise InputError(f"the input {tensor.name!r} is {tensor.datatype}: its data must be {words} and nothing else.")
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which the caller refuses
            return np.array(values, dtype=dtype)
    except OverflowError as error:
        raise InputError(f"the input {tensor.name!r} has a number that {tensor.datatype} cannot hold.") from error


def _flat_values(tensor: RequestInput) -> list[Any]:
    values = tensor.data
    if not isinstance(values, list):
        raise InputError(
            f"the input {tensor.name!r} needs `data`, an array, or `parameters.binary_data_size` with its bytes after "
            "the JSON."
        )
    if values and isinstance(values[0], list):
        for size in tensor.shape[1:]:
            if not all(isinstance(part, list) and len(part) == size for part in values):
                raise InputError(f"the data of the input {tensor.name!r} is not nested as its shape {tensor.shape}.")
            values = list(chain.from_iterable(values))
    expected = math.prod(tensor.shape)
    if len(values) != expected:
        raise InputError(
            f"the input {tensor.name!r} has the shape {tensor.shape}, {expected} values; its data has {len(values)}."
        )
    return values


def _from_binary(tensor: RequestInput, dtype: np.dtype[Any], size: Any, binary: memoryview) -> np.ndarray:
    if tensor.data is not None:
        raise InputError(f"the input {tensor.name!r} has both `data` and `parameters.binary_data_size`; send one.")
    count = math.prod(tensor.shape)
    if type(size) is not int or size != count * dtype.itemsize:
        raise InputError(
            f"the input {tensor.name!r}, {tensor.datatype} {tensor.shape}, takes {count * dtype.itemsize} bytes; "
            f"parameters.binary_data_size says {size if type(size) is int else type(size).__name__}."
        )
    if len(binary) < size:
        raise InputError(f"the input {tensor.name!r} takes {size} bytes after the JSON; {len(binary)} are left.")
    if dtype.kind == "b":
        flags = np.frombuffer(binary, np.uint8, count)
        if flags.max(initial=0) > 1:
            raise InputError(f"the input {tensor.name!r} is BOOL: its bytes must be 0 or 1.")
        return flags.astype(np.bool_)
    return np.frombuffer(binary, dtype.newbyteorder("<"), count).astype(dtype)  # a copy: the body is read-only
