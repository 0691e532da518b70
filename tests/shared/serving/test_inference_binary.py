"""The Open Inference Protocol's binary tensors, and every datatype."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from shared.bundle.layout import TensorSignature
from shared.serving.open_inference import DATATYPES, JSON_LENGTH_HEADER, make_router
from tests.shared.serving.tiny_model import INFER, TinyModel, changed, refusal, request, serving


@pytest.fixture
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def client(model: TinyModel) -> Iterator[TestClient]:
    with serving(model) as client:
        yield client


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
    ("cut", "message"), [(-1, "takes 2 bytes after the JSON; 1 are left"), (None, "3 bytes after the JSON are left")]
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
