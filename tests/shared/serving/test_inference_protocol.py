"""The Open Inference Protocol v2: its field names, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from shared.runtime.cpu import DTYPES
from shared.serving.open_inference import DATATYPES, make_router
from tests.shared.serving.tiny_model import INFER, TinyModel, changed, refusal, request, serving


@pytest.fixture
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def client(model: TinyModel) -> Iterator[TestClient]:
    with serving(model) as client:
        yield client


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
        (changed(1, name="numbers", datatype="FP32"), "'numbers' is in the request twice"),
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
