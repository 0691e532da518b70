"""What Prometheus gets to read: labels are ours or the model's, and models that left are not shown."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from shared.errors import NotFound, Overloaded
from shared.serving.http.errors import error_response
from shared.serving.observe.metrics import ANSWERS, MAX_LABELS, MODEL_INFO, ModelMetrics, exposition


def count(model: str, outcome: str, label: str = "") -> float:
    labels = {"model": model, "outcome": outcome, "label": label}
    return REGISTRY.get_sample_value("percept_answers_total", labels) or 0.0


def test_an_answer_is_counted_by_outcome_and_label_with_its_score():
    counted = ModelMetrics("m-1", ["cat", "dog"])
    for label in ("cat", "cat", "dog"):
        counted.answer("tagged", label, score=0.93)
    counted.answer("untagged")
    assert (count("m-1", "tagged", "cat"), count("m-1", "tagged", "dog"), count("m-1", "untagged")) == (2, 1, 1)
    scores = {"model": "m-1", "le": "0.95"}
    assert REGISTRY.get_sample_value("percept_top_score_bucket", scores) == 3


def test_labels_are_at_most_so_many_and_the_rest_share_one():
    labels = [f"label-{i}" for i in range(2 * MAX_LABELS)]
    counted = ModelMetrics("m-2", labels)
    for label in [*labels, "made up"]:
        counted.answer("tagged", label)
    series = {
        sample.labels["label"]
        for metric in ANSWERS.collect()
        for sample in metric.samples
        if sample.labels["model"] == "m-2"
    }
    assert len(series) == MAX_LABELS + 1
    assert count("m-2", "tagged", "other") == MAX_LABELS + 1


def test_a_batch_tells_its_size_and_splits_waiting_from_computing():
    ModelMetrics("m-3").batch(4, 0.02, 0.003)

    def total(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"model": "m-3", **labels})

    assert total("percept_batch_size_sum") == 4
    assert total("percept_stage_duration_seconds_sum", stage="inference") == 0.02
    assert total("percept_stage_duration_seconds_sum", stage="queue") == 0.003


def test_a_model_that_left_is_shown_no_more():
    info = MODEL_INFO.labels("m-4", "1", "tagging", "fp32", "folder")
    info.set(1)
    assert b'bundle="folder",model="m-4",precision="fp32",task="tagging",version="1"} 1.0' in exposition()
    info.set(0)
    assert b'model="m-4"' not in exposition()


@pytest.mark.parametrize(
    ("error", "reason", "counted"),
    [
        (Overloaded("full. Send it again later."), "overloaded", 1),
        (NotFound("there is none."), "not_found", 1),
        (RuntimeError("a bug"), "internal", 0),
    ],
)
def test_rejections_are_counted_by_reason_and_faults_are_none(error: Exception, reason: str, counted: int):
    before = REGISTRY.get_sample_value("percept_rejected_total", {"reason": reason}) or 0.0
    error_response(error, {"type": "http", "path": "/"})
    assert (REGISTRY.get_sample_value("percept_rejected_total", {"reason": reason}) or 0.0) == before + counted
