"""Metrics against scikit-learn, and what they say of what belongs to no intent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from nlp.intent.evaluation import evaluate, recall_at, validation_summary

RNG = np.random.default_rng(11)
N, LABELS = 200, ["a", "b", "c"]
TARGETS = RNG.integers(-1, 3, N)
LOGITS = RNG.normal(size=(N, 3)) + 2 * (TARGETS[:, None] == np.arange(3))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SCORES = np.clip(0.5 + 0.2 * RNG.normal(size=N) + 0.2 * (TARGETS < 0), 0, 1)
INSIDE = TARGETS >= 0


def measured(targets: np.ndarray = TARGETS, **changes) -> dict:
    options = {"labels": LABELS, "sources": ["one", "two", "empty"], "abstain_below": 0.4, "acceptance": 0.9, **changes}
    rows = len(targets)
    return evaluate(PROBABILITIES[:rows], SCORES[:rows], targets, np.arange(rows) % 2, **options)


def test_accuracy_and_f1_are_scikit_learns_over_what_belongs_to_an_intent():
    found = measured()["overall"]
    best = PROBABILITIES.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(accuracy_score(TARGETS[INSIDE], best[INSIDE]), abs=1e-5)
    assert found["macro_f1"] == pytest.approx(f1_score(TARGETS[INSIDE], best[INSIDE], average="macro"), abs=1e-5)
    assert (found["examples"], found["out_of_scope"]) == (N, int((~INSIDE).sum()))


def test_auroc_is_scikit_learns():
    expected = roc_auc_score(TARGETS < 0, SCORES)
    assert measured()["overall"]["auroc"] == pytest.approx(expected, abs=1e-5)


def test_kept_refused_and_right_are_counted_at_the_threshold():
    found = measured()["overall"]
    named = 1 - SCORES >= 0.4
    assert found["kept"] == pytest.approx(named[INSIDE].mean(), abs=1e-5)
    assert found["out_of_scope_recall"] == pytest.approx(1 - named[~INSIDE].mean(), abs=1e-5)
    given = np.where(named, PROBABILITIES.argmax(axis=1), -1)
    assert found["right"] == pytest.approx((given == TARGETS).mean(), abs=1e-5)


def test_recall_at_acceptance_lets_that_share_pass():
    recall = recall_at(SCORES, TARGETS, 0.9)
    threshold = np.sort(SCORES[INSIDE])[int(0.9 * INSIDE.sum())]
    assert recall == pytest.approx((SCORES[~INSIDE] > threshold).mean(), abs=0.03)
    assert measured()["overall"]["recall_at_acceptance"] == recall


def test_each_label_has_scikit_learns_precision_and_recall():
    best = PROBABILITIES[INSIDE].argmax(axis=1)
    for i, row in enumerate(measured()["per_label"]):
        assert row["support"] == int((i == TARGETS).sum())
        for name, score in (("precision", precision_score), ("recall", recall_score)):
            expected = score(TARGETS[INSIDE], best, labels=[i], average="macro")
            assert row[name] == pytest.approx(expected, abs=1e-5)


def test_a_label_is_right_where_it_is_the_best_and_named():
    given = np.where(1 - SCORES >= 0.4, PROBABILITIES.argmax(axis=1), -1)
    for i, row in enumerate(measured()["per_label"]):
        assert row["right"] == pytest.approx((given[i == TARGETS] == i).mean(), abs=1e-5)
        assert row["right"] < min(row["recall"], row["kept"])


def test_confusions_name_what_belongs_to_no_intent():
    found = measured()["confusions"]
    given = np.where(1 - SCORES >= 0.4, PROBABILITIES.argmax(axis=1), -1)
    assert [row["count"] for row in found] == sorted((row["count"] for row in found), reverse=True)
    for row in found:
        names = [*LABELS, "(none)"]
        target, other = names.index(row["label"]), names.index(row["given"])
        target, other = (-1 if place == 3 else place for place in (target, other))
        assert row["count"] == int(((target == TARGETS) & (given == other)).sum())
        assert row["of"] == int((target == TARGETS).sum())


def test_sets_without_utterances_are_left_out_and_all_can_be_stored():
    found = measured()
    assert list(found["sources"]) == ["one", "two"]
    assert set(found["reliability"]) == {"one", "two"}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("target", [-1, 1])
def test_one_kind_alone_leaves_undefined_what_needs_both(target: int):
    found = measured(np.full(20, target))["overall"]
    assert found["auroc"] is None
    assert (found["accuracy"] is None) == (target == -1)
    assert (found["out_of_scope_recall"] is None) == (target == 1)
    json.dumps(measured(np.full(20, target)), allow_nan=False)


def test_checkpoints_are_chosen_by_accuracy_and_auroc():
    found = validation_summary(LOGITS, SCORES, TARGETS)
    assert found["quality"] == pytest.approx((found["accuracy"] + found["auroc"]) / 2)
    alone = validation_summary(LOGITS[INSIDE], SCORES[INSIDE], TARGETS[INSIDE])
    assert alone["quality"] == alone["accuracy"] == found["accuracy"]
