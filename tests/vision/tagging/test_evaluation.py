"""Metrics per set, per label and over everything: against scikit-learn and against small cases worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_score, recall_score

from shared.errors import DataError
from vision.tagging.evaluation import SourceView, evaluate, validation_summary
from vision.tagging.taxonomy import Hierarchy

LABELS = ["animal", "boat", "cat", "dog", "sea"]
HIERARCHY = Hierarchy(LABELS, {"cat": ["animal"], "dog": ["animal"]})
PETS = SourceView("pets", (2, 3), True)
VIEWS = SourceView("views", (1, 4), False)
THRESHOLDS = np.array([0.5, 0.4, 0.3, 0.6, 0.5])


def photos(count: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, targets and source ids: first cats and dogs, then views with boat, sea, both or nothing."""
    rng = np.random.default_rng(3)
    half = count // 2
    pets = np.array([True, False, True, True, False])
    views = np.array([False, True, False, False, True])
    targets = [HIERARCHY.targets([("cat", "dog")[rng.integers(2)]], pets) for _ in range(half)]
    targets += [HIERARCHY.targets([n for n in ("boat", "sea") if rng.random() < 0.5], views) for _ in range(half)]
    stacked = np.stack(targets)
    scores = np.clip(rng.random((count, len(LABELS))) * 0.7 + 0.25 * (stacked == 1), 0, 1)
    return HIERARCHY.reconcile(scores), stacked, np.repeat([0, 1], half)


def evaluated() -> dict:
    return evaluate(*photos(), [PETS, VIEWS], HIERARCHY, THRESHOLDS)


def test_a_single_label_set_is_judged_by_its_best_own_label():
    scores, targets, _ = photos()
    found = evaluated()["sources"]["pets"]
    expected = accuracy_score(targets[:20, [2, 3]].argmax(1), scores[:20, [2, 3]].argmax(1))
    assert found["top1"] == pytest.approx(expected, abs=1e-5)
    assert found["top5"] is None
    assert (found["examples"], found["labels"]) == (20, 2)


def test_map_of_a_set_is_scikit_learns_macro_average_over_its_own_labels():
    scores, targets, _ = photos()
    found = evaluated()["sources"]["views"]
    expected = average_precision_score(targets[20:, [1, 4]], scores[20:, [1, 4]], average="macro")
    assert found["map"] == pytest.approx(expected, abs=1e-5)
    assert found["top1"] is None


def test_macro_f1_of_a_set_is_scikit_learns_at_the_thresholds():
    scores, targets, _ = photos()
    found = evaluated()["sources"]["views"]
    expected = f1_score(targets[20:, [1, 4]], scores[20:, [1, 4]] >= THRESHOLDS[[1, 4]], average="macro")
    assert found["macro_f1"] == pytest.approx(expected, abs=1e-5)


def test_micro_scores_are_scikit_learns_over_known_pairs():
    scores, targets, _ = photos()
    known = targets != -1
    reached = scores >= THRESHOLDS
    tags = reached.copy()
    above = [[HIERARCHY.index[name] for name in names] for names in HIERARCHY.ancestors]
    for row, i in np.argwhere(reached & (scores >= 0.5)):  # likelier than not: with all its parents
        tags[row, above[i]] = True
    for row, i in np.argwhere(tags):  # others only where these are given
        tags[row, i] = tags[row, above[i]].all()
    truth, given = targets[known], tags[known]
    overall = evaluated()["overall"]
    assert overall["micro_precision"] == pytest.approx(precision_score(truth, given), abs=1e-5)
    assert overall["micro_recall"] == pytest.approx(recall_score(truth, given), abs=1e-5)
    assert overall["micro_f1"] == pytest.approx(f1_score(truth, given), abs=1e-5)


def test_overall_top1_weighs_sets_by_photos_and_quality_weighs_them_equally():
    scores, targets, ids = photos()
    ids[:15] = 0
    ids[15:20] = 2
    views = [PETS, VIEWS, SourceView("few", (2, 3), True)]
    found = evaluate(scores, targets, ids, views, HIERARCHY, THRESHOLDS)
    pets, few, sea = (found["sources"][name] for name in ("pets", "few", "views"))
    assert found["overall"]["top1"] == pytest.approx((15 * pets["top1"] + 5 * few["top1"]) / 20, abs=1e-5)
    assert found["overall"]["quality"] == pytest.approx((pets["top1"] + few["top1"] + sea["map"]) / 3, abs=1e-5)


def test_validation_summary_says_what_evaluate_says():
    scores, targets, ids = photos()
    summary = validation_summary(scores, targets, ids, [PETS, VIEWS], HIERARCHY)
    full = evaluated()
    for name in ("quality", "map", "top1", "ece"):
        assert summary[name] == full["overall"][name], name
    assert summary["top1/pets"] == full["sources"]["pets"]["top1"]
    assert summary["map/views"] == full["sources"]["views"]["map"]
    assert "top1/views" not in summary


def test_summary_of_one_set_does_not_repeat_it_by_name():
    scores, targets, ids = photos()
    assert set(validation_summary(scores[:20], targets[:20], ids[:20], [PETS], HIERARCHY)) == {
        "quality", "map", "top1", "ece",
    }  # fmt: skip


def test_quality_is_nan_where_no_set_can_be_judged():
    targets = np.full((2, 5), -1, dtype=np.int8)
    targets[:, 1] = 1
    summary = validation_summary(
        np.full((2, 5), 0.5), targets, np.zeros(2, int), [SourceView("v", (1,), False)], HIERARCHY
    )
    assert math.isnan(summary["quality"])
    assert "map" not in summary


def test_ece_of_a_single_label_set_is_one_judgement_a_photo():
    scores = np.array([[0.9, 0, 0.8, 0.1, 0], [0.9, 0, 0.8, 0.1, 0]])
    targets = np.stack([HIERARCHY.targets([name], np.ones(5, bool)) for name in ("cat", "dog")])
    found = evaluate(scores, targets, np.zeros(2, int), [PETS], HIERARCHY, THRESHOLDS)
    assert found["sources"]["pets"]["ece"] == pytest.approx(0.3)  # sure to 0.8, right once of two
    assert [(row["count"], row["accuracy"]) for row in found["reliability"]["pets"]] == [(2, 0.5)]


def test_ece_of_a_multi_label_set_is_over_its_known_pairs():
    scores = np.array([[0, 0.6, 0, 0, 0.6], [0, 0.6, 0, 0, 0.6]])
    targets = np.array([[-1, 1, -1, -1, 0], [-1, 1, -1, -1, -1]], dtype=np.int8)
    found = evaluate(scores, targets, np.zeros(2, int), [SourceView("v", (1, 4), False)], HIERARCHY, THRESHOLDS)
    assert found["sources"]["v"]["ece"] == pytest.approx(abs(2 / 3 - 0.6), abs=1e-5)
    assert sum(row["count"] for row in found["reliability"]["v"]) == 3


def test_calibration_error_of_given_tags_counts_false_alarms_and_no_tag_that_was_held_back():
    scores = np.array([[0.0, 0.9, 0.0, 0.0, 0.2], [0.0, 0.9, 0.0, 0.0, 0.2]])
    targets = np.array([[-1, 1, -1, -1, 1], [-1, 0, -1, -1, 1]], dtype=np.int8)
    found = evaluate(scores, targets, np.zeros(2, int), [SourceView("v", (1, 4), False)], HIERARCHY, THRESHOLDS)
    assert found["overall"]["ece_given"] == pytest.approx(0.4)  # sure to 0.9, right once of two


def test_untagged_is_the_share_of_photos_below_every_threshold():
    scores = np.array([[0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.9], [0.1] * 5, [0.1] * 5])
    targets = np.zeros((4, 5), dtype=np.int8)
    targets[:2, 4] = 1
    found = evaluate(scores, targets, np.zeros(4, int), [VIEWS], HIERARCHY, THRESHOLDS)
    assert found["overall"]["untagged"] == 0.75


def test_parents_are_measured_apart_from_own_labels():
    scores, targets, ids = photos()
    found = evaluated()["sources"]
    assert found["pets"]["parents_map"] is None  # every pet is an animal: nothing to tell apart
    targets[20:, 0] = 0
    ids[:] = 0
    both = SourceView("both", (1, 2, 3, 4), False)
    found = evaluate(scores, targets, ids, [both], HIERARCHY, THRESHOLDS)["sources"]
    assert found["both"]["parents_map"] == pytest.approx(average_precision_score(targets[:, 0], scores[:, 0]), abs=1e-5)


def test_an_own_label_above_another_loses_the_tie_against_the_specific_one():
    own = SourceView("pets", (0, 2, 3), True)
    targets = np.stack([HIERARCHY.targets(["cat"], np.ones(5, bool)), HIERARCHY.targets(["animal"], np.ones(5, bool))])
    scores = HIERARCHY.reconcile(np.array([[0.1, 0, 0.9, 0.2, 0], [0.9, 0, 0.3, 0.2, 0]]))
    found = evaluate(scores, targets, np.zeros(2, int), [own], HIERARCHY, THRESHOLDS)
    assert found["sources"]["pets"]["top1"] == 1.0


def test_per_label_rows_leave_out_labels_of_which_nobody_says_anything():
    scores, targets, ids = photos()
    targets[:, 0] = -1
    rows = evaluate(scores, targets, ids, [PETS, VIEWS], HIERARCHY, THRESHOLDS)["per_label"]
    assert [row["label"] for row in rows] == LABELS[1:]
    boat = rows[0]
    assert (boat["support"], boat["known"]) == (int((targets[:, 1] == 1).sum()), 20)
    assert boat["recall"] == pytest.approx(recall_score(targets[20:, 1], scores[20:, 1] >= THRESHOLDS[1]), abs=1e-5)
    assert boat["threshold"] == 0.4


def test_confusions_name_label_given_count_and_support_most_frequent_first():
    scores = np.zeros((5, 5))
    scores[:4, 3] = 0.9  # given: dog, dog, dog, dog, cat
    scores[4, 2] = 0.9
    targets = np.stack([HIERARCHY.targets([n], np.ones(5, bool)) for n in ("cat", "cat", "cat", "dog", "dog")])
    found = evaluate(HIERARCHY.reconcile(scores), targets, np.zeros(5, int), [PETS], HIERARCHY, THRESHOLDS)
    assert found["confusions"] == [
        {"source": "pets", "label": "cat", "given": "dog", "count": 3, "of": 3},
        {"source": "pets", "label": "dog", "given": "cat", "count": 1, "of": 2},
    ]


def test_everything_that_evaluate_returns_is_json_without_nan():
    found = evaluated()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_set_without_a_photo_is_left_out():
    scores, targets, ids = photos()
    found = evaluate(scores[:20], targets[:20], ids[:20], [PETS, VIEWS], HIERARCHY, THRESHOLDS)
    assert set(found["sources"]) == set(found["reliability"]) == {"pets"}


def test_no_photo_is_an_error_that_says_what_to_do():
    with pytest.raises(DataError, match="Choose a split that has photos"):
        validation_summary(np.zeros((0, 5)), np.zeros((0, 5), np.int8), np.zeros(0, int), [PETS], HIERARCHY)


def test_a_photo_with_two_labels_in_a_single_label_set_is_named():
    targets = np.stack(
        [HIERARCHY.targets(["cat"], np.ones(5, bool)), HIERARCHY.targets(["cat", "dog"], np.ones(5, bool))]
    )
    with pytest.raises(DataError, match=r"pets .* 1 of its 2 photos .* photo 1 with 2"):
        evaluate(np.zeros((2, 5)), targets, np.zeros(2, int), [PETS], HIERARCHY, THRESHOLDS)
