"""Scores of labels as Hugging Face's clients ask for them, and the error of one item among several."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import TooLarge
from shared.serving.http.answers import ItemError, label_scores

LOGITS = np.array([0.0, 2.0, -1.0], dtype=np.float32)
CALIBRATED = np.array([0.3, 0.6, 0.1])


@pytest.mark.parametrize(
    ("function", "scores"),
    [
        ("softmax", np.exp(LOGITS) / np.exp(LOGITS).sum()),
        ("sigmoid", 1 / (1 + np.exp(-LOGITS))),
        ("none", LOGITS),
        (None, CALIBRATED),
    ],
)
def test_labels_are_sorted_by_the_scores_that_were_asked_for(function, scores):
    found = label_scores("abc", LOGITS, lambda: CALIBRATED, function=function, top_k=None)
    assert [each.label for each in found] == ["b", "a", "c"]
    assert [each.score for each in found] == pytest.approx(sorted(scores.tolist(), reverse=True))


def test_no_more_labels_than_asked_for():
    found = label_scores("abc", LOGITS, lambda: CALIBRATED, function=None, top_k=1)
    assert [each.label for each in found] == ["b"]


def test_an_item_s_error_has_the_type_and_message_of_its_own_response():
    error = ItemError.of(TooLarge("the text has 9 characters; the limit is 5.")).error
    assert (error.type, error.message) == ("too_large", "the text has 9 characters; the limit is 5.")
