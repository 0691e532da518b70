"""Bytes to arrays and back, as the Open Inference Protocol v2 and its binary tensor extension lay them out.

Sources: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; for the extension,
github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md. Neighbours: `inference_messages`
has the JSON objects, `inference_protocol` the routes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError

from shared.bundle.layout import TensorSignature
from shared.errors import InputError, TooLarge
from shared.runtime.protocol import check_inputs
from shared.serving.inference_messages import InferenceRequest, RequestInput
from shared.serving.json_depth import DEFAULT_MAX_JSON_DEPTH, is_deeper

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
"""What numpy calls a type that a signature can name -> what the protocol calls it."""

_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true and false"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float}, "numbers"),
}
"""numpy's kind -> what JSON may hold for it, as Python types and in words."""


def read_request(
    body: bytes, json_bytes: str | None, max_depth: int = DEFAULT_MAX_JSON_DEPTH
) -> tuple[InferenceRequest, memoryview]:
    """Return the request and the bytes behind its JSON.

    Args:
        body: the whole HTTP body.
        json_bytes: the header Inference-Header-Content-Length; None where the body is JSON alone.
        max_depth: arrays and objects within each other.

    Raises:
        InputError: the header, the JSON or one of its fields is wrong.
    """
    view = memoryview(body)
    length = _json_length(json_bytes, len(body))
    if is_deeper(body[:length], max_depth):
        raise InputError(f"the JSON is nested deeper than the limit of {max_depth}. Send flat or shallow arrays.")
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
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InputError(
            f"the body is no inference request of the Open Inference Protocol v2: {where}: {first['msg']}."
        ) from error


def read_tensors(
    request: InferenceRequest, binary: memoryview, specs: Sequence[TensorSignature], max_elements: int
) -> dict[str, np.ndarray]:
    """Return the inputs by name, as the signature wants them: finite, writable, row-major.

    Raises:
        TooLarge: the tensors have more than `max_elements` values in all.
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
            f"{len(binary)} bytes are left behind the JSON that no input's parameters.binary_data_size claims."
        )
    return arrays


def write_response(
    head: Mapping[str, Any], outputs: Mapping[str, np.ndarray], binary: frozenset[str]
) -> tuple[bytes, int | None]:
    """Return the body and, where it has binary tensors, the length of its JSON.

    Args:
        head: the response's fields other than `outputs`.
        outputs: in the order in which they are to stand.
        binary: names of the outputs that go behind the JSON.
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
            raise InputError(f"the input {tensor.name!r} stands in the request twice.")
        spec = known.get(tensor.name)
        if spec is not None and tensor.datatype != DATATYPES[spec.dtype]:
            raise InputError(
                f"the input {tensor.name!r} must have the datatype {DATATYPES[spec.dtype]}; came {tensor.datatype!r}."
            )
        dtype = np.dtype(spec.dtype if spec else "uint8")
        stand_ins[tensor.name] = np.broadcast_to(np.zeros((), dtype), tensor.shape)  # of any shape in no memory
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
            f"the input {tensor.name!r} needs `data`, an array, or `parameters.binary_data_size` with its bytes behind "
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
            f"parameters.binary_data_size says {str(size)[:20]}."
        )
    if len(binary) < size:
        raise InputError(f"the input {tensor.name!r} takes {size} bytes behind the JSON; {len(binary)} are left.")
    if dtype.kind == "b":
        flags = np.frombuffer(binary, np.uint8, count)
        if flags.max(initial=0) > 1:
            raise InputError(f"the input {tensor.name!r} is BOOL: its bytes must be 0 or 1.")
        return flags.astype(np.bool_)
    return np.frombuffer(binary, dtype.newbyteorder("<"), count).astype(dtype)  # a copy: the body is read-only
