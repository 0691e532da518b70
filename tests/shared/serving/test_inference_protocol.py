"""The Open Inference Protocol v2: its field names, what it refuses, and its binary tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from shared.bundle.layout import TensorSignature
from shared.errors import InputError, NotFound, NotReady, PerceptError, TooLarge, UnsupportedMedia
from shared.runtime.cpu import DTYPES
from shared.serving.inference_protocol import JSON_LENGTH_HEADER, make_router
from shared.serving.inference_tensors import DATATYPES

STATUS = {InputError: 400, NotFound: 404, TooLarge: 413, UnsupportedMedia: 415, NotReady: 503}
INFER = "/v2/models/tiny/infer"


@dataclass
class TinyModel:
    """Doubles numbers, counts tokens, turns flags round; keeps what it was given."""

    name: str = "tiny"
    version: str = "1.0"
    is_ready: bool = True
    inputs: tuple[TensorSignature, ...] = (
        TensorSignature(name="numbers", dtype="float32", shape=("batch", 3)),
        TensorSignature(name="tokens", dtype="int64", shape=("batch", "tokens")),
        TensorSignature(name="flags", dtype="bool", shape=("batch",)),
    )
    outputs: tuple[TensorSignature, ...] = (
        TensorSignature(name="doubled", dtype="float32", shape=("batch", 3)),
        TensorSignature(name="counts", dtype="int64", shape=("batch",)),
        TensorSignature(name="turned", dtype="bool", shape=("batch",)),
    )
    seen: list[dict[str, np.ndarray]] = field(default_factory=list)

    async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.seen.append(inputs)
        tokens = inputs["tokens"]
        counts = np.full(len(tokens), tokens.shape[1])
        return {"turned": ~inputs["flags"], "doubled": inputs["numbers"] * 2, "counts": counts}


@pytest.fixture
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def client(model: TinyModel) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(make_router(lambda: [model], max_elements=100))

    @app.exception_handler(PerceptError)
    async def answer(_: Request, error: PerceptError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, STATUS[type(error)])

    with TestClient(app) as client:
        yield client


def request(**changes: Any) -> dict[str, Any]:
    inputs = [
        {"name": "numbers", "shape": [2, 3], "datatype": "FP32", "data": [1, 2.5, 3, 4, 5, -6]},
        {"name": "tokens", "shape": [2, 2], "datatype": "INT64", "data": [101, 102, 101, 102]},
        {"name": "flags", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    ]
    return {"inputs": inputs} | changes


def changed(index: int, **changes: Any) -> dict[str, Any]:
    """A request whose input number `index` is different; a field that is ... is left out."""
    body = request()
    body["inputs"][index] |= changes
    body["inputs"][index] = {key: value for key, value in body["inputs"][index].items() if value is not ...}
    return body


def refusal(client: TestClient, body: Any, status: int = 400, **options: Any) -> str:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = client.post(INFER, **sent, **options)
    assert response.status_code == status, response.text
    return response.json()["error"]


# Metadata and health.


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_has_the_fields_of_the_specification(client: TestClient, path: str):
    answer = client.get(path, follow_redirects=False).json()
    assert set(answer) == {"name", "version", "extensions"}
    assert answer["name"] == "percept"
    assert answer["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("path", ["/v2/models/tiny", "/v2/models/tiny/versions/1.0"])
def test_model_metadata_has_the_fields_of_the_specification(client: TestClient, path: str):
    assert client.get(path).json() == {
        "name": "tiny",
        "versions": ["1.0"],
        "platform": "percept_bundle",
        "inputs": [
            {"name": "numbers", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "tokens", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "flags", "datatype": "BOOL", "shape": [-1]},
        ],
        "outputs": [
            {"name": "doubled", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "counts", "datatype": "INT64", "shape": [-1]},
            {"name": "turned", "datatype": "BOOL", "shape": [-1]},
        ],
    }


@pytest.mark.parametrize("path", ["/v2/models/tiny/ready", "/v2/models/tiny/versions/1.0/ready"])
def test_model_ready_has_the_fields_of_the_specification(client: TestClient, path: str):
    assert client.get(path).json() == {"name": "tiny", "ready": True}


def test_health_is_live_and_ready(client: TestClient):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}


def test_a_model_that_is_not_ready_is_live_described_and_does_not_infer(client: TestClient, model: TinyModel):
    model.is_ready = False
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/models/tiny").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/tiny/ready", "/v2/models/tiny/versions/1.0/ready"):
        assert client.get(path).status_code == 503
    assert "not ready" in refusal(client, request(), 503)
    assert model.seen == []


@pytest.mark.parametrize("suffix", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model_path", ["big", "tiny/versions/2.0", "big/versions/1.0"])
def test_an_unknown_model_or_version_is_not_found(client: TestClient, model_path: str, suffix: str):
    send = client.post if suffix == "/infer" else client.get
    response = send(f"/v2/models/{model_path}{suffix}")
    assert response.status_code == 404
    assert "tiny" in response.json()["error"]


def test_every_type_that_a_signature_can_name_has_a_datatype():
    assert set(DATATYPES) == set(DTYPES.values())


# Inference in JSON.


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/1.0/infer"])
def test_inference_has_the_fields_of_the_specification_and_echoes_the_id(client: TestClient, path: str):
    response = client.post(path, json=request(id="42"))
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "tiny",
        "model_version": "1.0",
        "id": "42",
        "outputs": [
            {"name": "doubled", "shape": [2, 3], "datatype": "FP32", "data": [2.0, 5.0, 6.0, 8.0, 10.0, -12.0]},
            {"name": "counts", "shape": [2], "datatype": "INT64", "data": [2, 2]},
            {"name": "turned", "shape": [2], "datatype": "BOOL", "data": [False, True]},
        ],
    }


def test_the_model_gets_arrays_of_its_signature(client: TestClient, model: TinyModel):
    client.post(INFER, json=request())
    (inputs,) = model.seen
    assert {name: (array.dtype.name, array.shape) for name, array in inputs.items()} == {
        "numbers": ("float32", (2, 3)),
        "tokens": ("int64", (2, 2)),
        "flags": ("bool", (2,)),
    }
    assert all(array.flags.writeable and array.flags.c_contiguous for array in inputs.values())


def test_without_an_id_the_answer_has_none(client: TestClient):
    assert "id" not in client.post(INFER, json=request()).json()


def test_nested_data_is_the_same_as_flat_data(client: TestClient):
    flat = client.post(INFER, json=request()).json()
    assert client.post(INFER, json=changed(0, data=[[1, 2.5, 3], [4, 5, -6]])).json() == flat


def test_outputs_that_were_asked_for_come_alone_and_in_their_order(client: TestClient):
    body = request(outputs=[{"name": "turned"}, {"name": "doubled", "parameters": None}])
    assert [output["name"] for output in client.post(INFER, json=body).json()["outputs"]] == ["turned", "doubled"]


def test_an_unknown_output_is_refused_before_the_model_runs(client: TestClient, model: TinyModel):
    message = refusal(client, request(outputs=[{"name": "logits"}]))
    assert message == "the model has the outputs ['doubled', 'counts', 'turned']; 'logits' is none of them."
    assert model.seen == []


def test_unknown_parameters_and_nulls_are_ignored(client: TestClient):
    body = changed(0, parameters={"content_type": "np"}) | {
        "parameters": {"priority": 3, "binary_data_output": "maybe"},
        "id": None,
        "outputs": None,
    }
    assert client.post(INFER, json=body).json() == client.post(INFER, json=request()).json()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "inputs: Field required"),
        ([1], "body: Input should be"),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        (request(extra=1), "extra: Extra inputs are not permitted"),
        (request(id=42), "id: Input should be a valid string"),
        (changed(0, shape=...), "inputs.0.shape: Field required"),
        (changed(0, shape=[2, "3"]), "inputs.0.shape.1: Input should be a valid integer"),
        (changed(0, shape=[-2, -3]), "inputs.0.shape.0: Input should be greater than or equal to 1"),
        (changed(0, shape=[2, 3] + [1] * 7), "inputs.0.shape: List should have at most 8 items"),
        (changed(0, dtype="FP32"), "inputs.0.dtype: Extra inputs are not permitted"),
        (changed(0, datatype="FP64"), "'numbers' must have the datatype FP32; came 'FP64'"),
        (changed(0, shape=[3, 2]), "'numbers' must be float32 [batch, 3], batch=3; came float32 [3, 2]"),
        (changed(0, shape=[1, 3], data=[1, 2, 3]), "'tokens' must be int64 [batch, tokens], batch=1"),
        (changed(0, name="figures"), "takes the inputs ['numbers', 'tokens', 'flags']; came ['figures', "),
        (changed(1, name="numbers", datatype="FP32"), "'numbers' stands in the request twice"),
        (request(inputs=request()["inputs"][:2]), "takes the inputs ['numbers', 'tokens', 'flags']"),
        (changed(0, data=[1, 2, 3, 4, 5]), "the shape [2, 3], 6 values; its data has 5"),
        (changed(0, data=[]), "its data has 0"),
        (changed(0, data=...), "needs `data`, an array"),
        (changed(0, data="AAAA"), "needs `data`, an array"),
        (changed(0, data=[[1, 2], [3, 4], [5, 6]]), "not nested as its shape [2, 3]"),
        (changed(0, data=[[1, 2, 3], 4, 5, 6]), "not nested as its shape [2, 3]"),
        (changed(0, data=[1, 2, 3, 4, 5, [6]]), "must be numbers and nothing else"),
        (changed(0, data=["1", "2", "3", "4", "5", "6"]), "must be numbers and nothing else"),
        (changed(0, data=[1, 2, 3, 4, 5, None]), "must be numbers and nothing else"),
        (changed(0, data=[1, 2, 3, 4, 5, True]), "must be numbers and nothing else"),
        (changed(0, data=[1, 2, 3, 4, 5, 1e39]), "values that are not finite as FP32"),
        (changed(1, data=[1, 2, 3, 4.5]), "must be whole numbers and nothing else"),
        (changed(1, data=[1, 2, 3, 2**63]), "a number that INT64 cannot hold"),
        (changed(2, data=[1, 0]), "must be true and false and nothing else"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_wrong_request_is_refused_with_what_is_wrong(client: TestClient, model: TinyModel, body: Any, message: str):
    assert message in refusal(client, body)
    assert model.seen == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", json.dumps(changed(0, data=[1, 2, 3, 4, 5, float("nan")])).encode(), b"[" * 5000],
    ids=["empty", "truncated", "not UTF-8", "NaN", "deep"],
)
def test_a_body_that_is_no_json_is_refused(client: TestClient, body: bytes):
    assert "must be an inference request in JSON, which has no NaN and no Infinity" in refusal(client, body)


def test_more_values_than_the_limit_are_too_large_before_they_are_read(client: TestClient):
    assert "100000000000000000006 values; the limit is 100" in refusal(client, changed(0, shape=[10**10] * 2), 413)
    assert "103 values; the limit is 100" in refusal(client, changed(0, shape=[97], data=...), 413)


def test_a_compressed_body_is_refused(client: TestClient):
    assert "without compression" in refusal(client, b"\x1f\x8b", 415, headers={"Content-Encoding": "gzip"})


# The binary tensor extension.

NUMBERS = np.array([[1, 2.5, 3], [4, 5, -6]], "<f4")
TOKENS = np.array([[101, 102], [101, 102]], "<i8")
FLAGS = np.array([True, False])


def binary_request(numbers: bytes, tokens: bytes, flags: bytes, **changes: Any) -> dict[str, Any]:
    """What to send: all tensors behind the JSON."""
    body = request(**changes)
    for tensor, data in zip(body["inputs"], (numbers, tokens, flags), strict=True):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(data)}
    text = json.dumps(body).encode()
    return {"content": text + numbers + tokens + flags, "headers": {JSON_LENGTH_HEADER: str(len(text))}}


def test_binary_tensors_in_and_json_out(client: TestClient, model: TinyModel):
    sent = binary_request(NUMBERS.tobytes(), TOKENS.tobytes(), FLAGS.tobytes())
    assert client.post(INFER, **sent).json() == client.post(INFER, json=request()).json()
    from_binary, from_json = model.seen
    for name, array in from_json.items():
        np.testing.assert_array_equal(from_binary[name], array)
        assert from_binary[name].dtype == array.dtype
        assert from_binary[name].flags.writeable


def test_all_outputs_in_binary(client: TestClient):
    sent = binary_request(
        NUMBERS.tobytes(), TOKENS.tobytes(), FLAGS.tobytes(), id="7", parameters={"binary_data_output": True}
    )
    response = client.post(INFER, **sent)
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[JSON_LENGTH_HEADER])
    assert json.loads(response.content[:length]) == {
        "model_name": "tiny",
        "model_version": "1.0",
        "id": "7",
        "outputs": [
            {"name": "doubled", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}},
            {"name": "counts", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}},
            {"name": "turned", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
        ],
    }
    assert response.content[length:] == (NUMBERS * 2).tobytes() + np.array([2, 2], "<i8").tobytes() + b"\x00\x01"


def test_one_output_in_binary_and_one_in_json(client: TestClient):
    outputs = [{"name": "counts"}, {"name": "turned", "parameters": {"binary_data": True}}]
    response = client.post(INFER, json=request(outputs=outputs))
    length = int(response.headers[JSON_LENGTH_HEADER])
    assert json.loads(response.content[:length])["outputs"] == [
        {"name": "counts", "shape": [2], "datatype": "INT64", "data": [2, 2]},
        {"name": "turned", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
    ]
    assert response.content[length:] == b"\x00\x01"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((NUMBERS[:1].tobytes(), TOKENS.tobytes(), b"\0\0"), "takes 24 bytes; parameters.binary_data_size says 12"),
        ((NUMBERS.tobytes(), TOKENS.tobytes(), b"\0\2"), "is BOOL: its bytes must be 0 or 1"),
        ((np.full_like(NUMBERS, np.nan).tobytes(), TOKENS.tobytes(), b"\0\0"), "values that are not finite as FP32"),
    ],
)
def test_wrong_binary_tensors_are_refused(client: TestClient, model: TinyModel, parts: tuple, message: str):
    sent = binary_request(*parts)
    assert message in refusal(client, sent["content"], headers=sent["headers"])
    assert model.seen == []


@pytest.mark.parametrize(
    ("cut", "message"), [(-1, "takes 2 bytes behind the JSON; 1 are left"), (None, "3 bytes are left behind the JSON")]
)
def test_too_few_or_too_many_bytes_are_refused(client: TestClient, cut: int | None, message: str):
    sent = binary_request(NUMBERS.tobytes(), TOKENS.tobytes(), FLAGS.tobytes())
    content = sent["content"][:cut] if cut else sent["content"] + b"abc"
    assert message in refusal(client, content, headers=sent["headers"])


def test_data_both_in_json_and_behind_it_is_refused(client: TestClient):
    assert "has both" in refusal(client, changed(0, parameters={"binary_data_size": 24}))


@pytest.mark.parametrize("size", ["24", True, -24, 24.0, [24]])
def test_a_binary_size_that_is_no_size_is_refused(client: TestClient, size: Any):
    assert "takes 24 bytes" in refusal(client, changed(0, data=..., parameters={"binary_data_size": size}))


@pytest.mark.parametrize("length", ["0", "-1", "many", "99999", "9" * 5000])
def test_a_wrong_json_length_is_refused(client: TestClient, length: str):
    body = json.dumps(request()).encode()
    assert "Inference-Header-Content-Length must be" in refusal(client, body, headers={JSON_LENGTH_HEADER: length})


# Every datatype, and a photo.


@pytest.mark.parametrize("dtype", sorted(DATATYPES))
@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "binary"])
def test_every_datatype_goes_through_exactly(dtype: str, is_binary: bool):
    kind = np.dtype(dtype).kind
    extremes = [False, True] if kind == "b" else [np.finfo(dtype).min, np.finfo(dtype).max] if kind == "f" else []
    values = np.array(extremes or [np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    tensor = TensorSignature(name="x", dtype=dtype, shape=("n",))

    class Echo(TinyModel):
        async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert inputs["x"].dtype == dtype
            return inputs

    app = FastAPI()
    app.include_router(make_router(lambda: [Echo(inputs=(tensor,), outputs=(tensor,))]))
    sent: dict[str, Any] = {"name": "x", "shape": [2], "datatype": DATATYPES[dtype]}
    body = {"inputs": [sent], "parameters": {"binary_data_output": is_binary}}
    with TestClient(app) as client:
        if is_binary:
            sent["parameters"] = {"binary_data_size": values.nbytes}
            text = json.dumps(body).encode()
            answer = client.post(INFER, content=text + values.tobytes(), headers={JSON_LENGTH_HEADER: str(len(text))})
            length = int(answer.headers[JSON_LENGTH_HEADER])
            came = np.frombuffer(answer.content[length:], dtype)
        else:
            sent["data"] = values.tolist()
            came = np.array(client.post(INFER, json=body).json()["outputs"][0]["data"], dtype)
    np.testing.assert_array_equal(came, values)


def test_an_output_that_is_not_finite_is_a_bug_and_never_a_null():
    class Broken(TinyModel):
        async def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return await super().infer(inputs) | {"doubled": np.array([np.nan])}

    app = FastAPI()
    app.include_router(make_router(lambda: [Broken()]))
    with TestClient(app) as client, pytest.raises(RuntimeError, match="'doubled' is not finite"):
        client.post(INFER, json=request())


def test_openapi_describes_request_and_answer_with_examples(client: TestClient):
    document = client.get("/openapi.json").json()
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        route = document["paths"][path]["post"]
        schema = route["requestBody"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == {"id", "parameters", "inputs", "outputs"}
        tensor = schema["properties"]["inputs"]["items"]
        assert set(tensor["properties"]) == {"name", "shape", "datatype", "parameters", "data"}
        assert client.post(INFER, json=schema["examples"][0]).status_code == 400  # well formed; another model's input
        assert route["responses"]["200"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/InferenceResponse"
        }
    assert "$defs" not in json.dumps(document)
    assert set(document["components"]["schemas"]["InferenceResponse"]["properties"]) == {
        "model_name",
        "model_version",
        "id",
        "parameters",
        "outputs",
    }
