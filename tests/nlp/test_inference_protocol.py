"""Open Inference for text: two models by their names, and tensors that would break a network are a 400."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from shared.bundle.read import Bundle


def inference_request(bundle: Bundle, **changes: np.ndarray) -> dict[str, Any]:
    tensors = {**bundle.golden.inputs, **changes}
    inputs = [
        {"name": name, "shape": list(rows.shape), "datatype": "INT64", "data": rows.ravel().tolist()}
        for name, rows in tensors.items()
    ]
    return {"id": "call-7", "inputs": inputs}


@pytest.mark.parametrize("fixture", ["intent_bundle", "qa_bundle"])
def test_each_model_answers_by_its_name_with_its_networks_outputs(
    client: TestClient, fixture: str, request: pytest.FixtureRequest
):
    bundle = request.getfixturevalue(fixture)
    response = client.post(f"/v2/models/{bundle.name}/infer", json=inference_request(bundle))
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("call-7", bundle.name, bundle.version)
    outputs = {each["name"]: np.reshape(each["data"], each["shape"]) for each in body["outputs"]}
    for name, expected in bundle.golden.outputs.items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-4)


def test_both_models_are_described_and_ready(client: TestClient, intent_bundle: Bundle, qa_bundle: Bundle):
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    for bundle in (intent_bundle, qa_bundle):
        metadata = client.get(f"/v2/models/{bundle.name}").json()
        assert [each["name"] for each in metadata["inputs"]] == list(bundle.golden.inputs)
        assert {tuple(each["shape"]) for each in metadata["inputs"]} == {(-1, -1)}
        assert client.get(f"/v2/models/{bundle.name}/versions/{bundle.version}/ready").status_code == 200
    unknown = client.get("/v2/models/stranger")
    assert unknown.status_code == 404
    assert unknown.json() == {
        "error": "there is no model 'stranger' here. The models are called 'tiny-intent', 'tiny-qa'."
    }


def test_a_model_that_is_closed_is_not_ready(client: TestClient, intent_bundle: Bundle, qa_bundle: Bundle):
    engine = client.lifecycle()
    engine.qa.admission.is_closed = True
    try:
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get(f"/v2/models/{qa_bundle.name}/ready").status_code == 503
        assert client.get(f"/v2/models/{intent_bundle.name}/ready").status_code == 200
    finally:
        engine.qa.admission.is_closed = False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_ids": np.array([[2, 10**9]] * 4)}, "the values of input_ids must be 0 to"),
        ({"input_ids": np.array([[2, -1]] * 4)}, "the values of input_ids must be 0 to"),
        ({"attention_mask": np.array([[1, 2]] * 4)}, "the values of attention_mask must be 0 to 1"),
        ({"input_ids": np.ones((4, 33), int), "attention_mask": np.ones((4, 33), int)}, "this model reads 32"),
        ({"input_ids": np.ones((9, 2), int), "attention_mask": np.ones((9, 2), int)}, "the limit is 8"),
        ({"attention_mask": np.ones((3, 2), int)}, "attention_mask"),
    ],
    ids=["beyond the vocabulary", "negative", "mask", "too long", "too many rows", "other shape"],
)
def test_tensors_that_would_break_the_network_are_400(
    client: TestClient, intent_bundle: Bundle, changes: dict[str, np.ndarray], message: str
):
    names = intent_bundle.golden.inputs
    good = {name: np.array([[2, 3]] * 4) if name == "input_ids" else np.ones((4, 2), int) for name in names}
    body = inference_request(intent_bundle, **{**good, **changes})
    response = client.post(f"/v2/models/{intent_bundle.name}/infer", json=body)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]
