"""The JSON objects of the Open Inference Protocol v2, by its field names.

Source: github.com/kserve/open-inference-protocol, specification/protocol: inference_rest.md, open_inference_rest.yaml.
Neighbours: `inference_protocol` has the routes, `inference_tensors` turns tensors into arrays and back.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

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
"""Extensions of the protocol. Those that are not known here are ignored, as the protocol asks."""
TensorData = Annotated[
    Any,  # not walked by pydantic: a photo has 150,528 values
    WithJsonSchema(
        {"type": "array", "items": {}, "description": "Flat in row-major order, or nested as the shape says."}
    ),
]


class _Received(BaseModel):
    """Strict, and without unknown fields; a field that is optional may also be null."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RequestInput(_Received):
    """An input tensor: `data` in JSON, or `parameters.binary_data_size` bytes behind the JSON."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_INPUT]})

    name: str = Field(max_length=_MAX_NAME)
    shape: list[Annotated[int, Field(ge=1)]] = Field(max_length=_MAX_DIMENSIONS)
    datatype: str = Field(max_length=16, description="BOOL, UINT8, INT8, INT32, INT64, FP16, FP32 or FP64.")
    parameters: Parameters | None = None
    data: TensorData = None


class RequestOutput(_Received):
    """An output that is wanted; with `parameters.binary_data` true it comes as bytes behind the JSON."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "logits"}]})

    name: str = Field(max_length=_MAX_NAME)
    parameters: Parameters | None = None


class InferenceRequest(_Received):
    """What is sent to `infer`. Without `outputs`, all outputs are returned."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "42", "inputs": [_EXAMPLE_INPUT]}]})

    id: str | None = Field(default=None, max_length=_MAX_NAME)
    parameters: Parameters | None = None
    inputs: list[RequestInput] = Field(min_length=1, max_length=_MAX_TENSORS)
    outputs: list[RequestOutput] | None = Field(default=None, max_length=_MAX_TENSORS)


class ResponseOutput(BaseModel):
    """An output tensor, its data flat in row-major order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_OUTPUT]})

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: TensorData = None


class InferenceResponse(BaseModel):
    """What `infer` returns; `id` stands here when the request had one."""

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [{"model_name": "tagger", "model_version": "1", "id": "42", "outputs": [_EXAMPLE_OUTPUT]}]
        },
    )

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[ResponseOutput]


class MetadataTensor(BaseModel):
    """An input or output that the model has; -1 is a dimension of any size."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "pixel_values", "datatype": "FP32", "shape": [-1, 3, 224, 224]}]}
    )

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What the model is called and what it takes and gives."""

    name: str = Field(examples=["tagger"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str
    inputs: list[MetadataTensor]
    outputs: list[MetadataTensor]


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str = Field(examples=["percept"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class ServerLive(BaseModel):
    """The server runs."""

    live: bool


class ServerReady(BaseModel):
    """The server answers. The specification names the field `live`, KServe's own server `ready`: both stand here."""

    live: bool
    ready: bool


class ModelReady(BaseModel):
    """The model answers."""

    name: str = Field(examples=["tagger"])
    ready: bool
