"""Heads that are found at once: what scikit-learn finds is what the network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from shared.errors import DataError
from shared.training.export import export_onnx
from shared.training.heads import DOUBT, SCALE, Centroids, Neighbours
from shared.training.plain import ABSENT, STRENGTHS, Examples, Head, fit_head, quality, scores_of

RNG = np.random.default_rng(4)
CENTRES = 4 * RNG.normal(size=(4, 6))
METHODS = ("logistic_regression", "linear_svm", "nearest_centroid", "knn")


def clouds(count: int, labels: int = 4, noise: float = 2.0) -> Examples:
    """Points around one centre per label, far from 0 as features are."""
    targets = np.arange(count) % labels
    features = 20 + CENTRES[targets] + noise * RNG.normal(size=(count, 6))
    return Examples(features.astype(np.float32), targets)


TRAIN, VAL = clouds(120), clouds(80)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_tells_separate_clouds_apart(method):
    train, val = clouds(80, noise=0.5), clouds(40, noise=0.5)
    head = fit_head(method, train, val, 4, seed=0)
    assert quality(scores_of(head, val.features, 4), val.targets) == 1.0
    assert head.weight.dtype == np.float32


@pytest.mark.parametrize(("method", "model"), [("logistic_regression", LogisticRegression), ("linear_svm", LinearSVC)])
def test_a_linear_head_of_features_as_they_are_says_what_scikit_learn_says_of_scaled_ones(method, model):
    head = fit_head(method, TRAIN, VAL, 4, seed=0)
    centre = TRAIN.features.mean(axis=0)
    length = np.sqrt(np.square(TRAIN.features - centre).sum(axis=1).mean())
    reference = model(C=head.chosen["C"], max_iter=2000).fit((TRAIN.features - centre) / length, TRAIN.targets)
    expected = reference.decision_function((VAL.features - centre) / length)
    found = scores_of(head, VAL.features, 4)
    if method == "logistic_regression":  # softmax does not see a constant
        expected, found = (values - values.mean(axis=1, keepdims=True) for values in (expected, found))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_the_strength_is_the_best_of_those_that_are_tried():
    head = fit_head("linear_svm", TRAIN, VAL, 4, seed=0)
    reached = quality(scores_of(head, VAL.features, 4), VAL.targets)
    for strength in STRENGTHS["linear_svm"]:
        centre = TRAIN.features.mean(axis=0)
        length = np.sqrt(np.square(TRAIN.features - centre).sum(axis=1).mean())
        model = LinearSVC(C=strength, random_state=0).fit((TRAIN.features - centre) / length, TRAIN.targets)
        assert reached >= model.score((VAL.features - centre) / length, VAL.targets)


def test_two_labels_have_logits_whose_softmax_is_scikit_learns_probability():
    train, val = clouds(60, labels=2), clouds(30, labels=2)
    head = fit_head("logistic_regression", train, val, 2, seed=0)
    logits = scores_of(head, val.features, 2)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    centre = train.features.mean(axis=0)
    length = np.sqrt(np.square(train.features - centre).sum(axis=1).mean())
    reference = LogisticRegression(C=head.chosen["C"]).fit((train.features - centre) / length, train.targets)
    expected = reference.predict_proba((val.features - centre) / length)
    np.testing.assert_allclose(chances, expected, atol=0.01)  # L-BFGS started elsewhere


@pytest.mark.parametrize("method", METHODS)
def test_a_label_without_training_examples_is_never_the_best(method):
    head = fit_head(method, TRAIN, VAL, 6, seed=0)
    scores = scores_of(head, VAL.features, 6)
    assert scores.shape == (80, 6)
    assert scores.argmax(axis=1).max() < 4
    if head.bias is not None:
        assert head.bias[4:].tolist() == [ABSENT, ABSENT]


@pytest.mark.parametrize("method", METHODS)
def test_a_single_label_is_refused(method):
    with pytest.raises(DataError, match="1 of 4 labels have training examples"):
        fit_head(method, Examples(TRAIN.features, np.zeros(120, dtype=np.int64)), VAL, 4, seed=0)


def test_without_validation_examples_the_first_is_taken():
    nothing = Examples(VAL.features[:0], VAL.targets[:0])
    assert fit_head("logistic_regression", TRAIN, nothing, 4, seed=0).chosen == {"C": 3.0}
    assert fit_head("knn", TRAIN, nothing, 4, seed=0).chosen == {"k": 1}


def test_sparse_features_give_the_head_of_dense_ones():
    rows = normalize(np.abs(TRAIN.features - 20))
    for method in ("linear_svm", "nearest_centroid"):
        sparse = fit_head(
            method, Examples(csr_array(rows), TRAIN.targets), Examples(csr_array(rows), TRAIN.targets), 4, 0
        )
        if method == "nearest_centroid":
            dense = fit_head(method, Examples(rows, TRAIN.targets), Examples(rows, TRAIN.targets), 4, 0)
            np.testing.assert_allclose(sparse.weight, dense.weight, atol=1e-6)
        else:
            reference = LinearSVC(C=sparse.chosen["C"], random_state=0).fit(rows, TRAIN.targets)
            np.testing.assert_allclose(sparse.weight, reference.coef_, atol=1e-4)


def test_what_is_unknown_of_a_label_teaches_it_nothing():
    right = np.eye(4)[TRAIN.targets]
    right[:60, 0] = np.nan
    head = fit_head(
        "logistic_regression", Examples(TRAIN.features, right), Examples(VAL.features, np.eye(4)[VAL.targets]), 4, 0
    )
    centre = TRAIN.features.mean(axis=0)
    length = np.sqrt(np.square(TRAIN.features - centre).sum(axis=1).mean())
    reference = LogisticRegression(C=head.chosen["C"]).fit((TRAIN.features[60:] - centre) / length, right[60:, 0])
    expected = reference.decision_function((VAL.features - centre) / length)
    np.testing.assert_allclose(scores_of(head, VAL.features, 4)[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_a_label_that_all_examples_have_gets_its_log_odds():
    right = np.column_stack([np.ones(120), np.eye(4)[TRAIN.targets][:, 1]])
    head = fit_head("logistic_regression", Examples(TRAIN.features, right), Examples(TRAIN.features, right), 2, 0)
    np.testing.assert_allclose(scores_of(head, TRAIN.features, 2)[:, 0], np.log(120.5 / 0.5), rtol=1e-5)


def test_centroids_are_scikit_learns_of_features_of_length_1():
    head = fit_head("nearest_centroid", TRAIN, VAL, 4, seed=0)
    reference = NearestCentroid().fit(normalize(TRAIN.features), TRAIN.targets)
    np.testing.assert_allclose(head.weight, normalize(reference.centroids_), atol=1e-5)
    layer = Centroids(6, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.zero_()
        found = layer(torch.from_numpy(VAL.features)).numpy()
    np.testing.assert_allclose(found, SCALE * scores_of(head, VAL.features, 4), atol=1e-4)


def bank(neighbours: int) -> Head:
    keys = normalize(TRAIN.features - 20).astype(np.float32)
    return Head("knn", keys, labels=TRAIN.targets, neighbours=neighbours)


def test_the_nearest_neighbour_is_scikit_learns():
    reference = KNeighborsClassifier(1, metric="cosine").fit(TRAIN.features - 20, TRAIN.targets)
    found = scores_of(bank(1), VAL.features - 20, 4).argmax(axis=1)
    assert found.tolist() == reference.predict(VAL.features - 20).tolist()


def test_votes_are_how_much_nearer_a_neighbour_is_than_the_first_without_one():
    head = bank(5)
    found = scores_of(head, VAL.features[:3] - 20, 4)
    for row, features in zip(found, VAL.features[:3] - 20, strict=True):
        cosines = head.weight @ (features / np.linalg.norm(features))
        order = np.argsort(-cosines)
        votes = np.full(4, DOUBT)
        for place in order[:5]:
            votes[TRAIN.targets[place]] += cosines[place] - cosines[order[5]]
        np.testing.assert_allclose(row, np.log(votes), atol=1e-4)


def test_votes_change_little_where_neighbours_change_hands():
    module = bank(3).voters(4)
    points = torch.from_numpy(VAL.features - 20)
    moved = points * (1 + 1e-4 * torch.randn(points.shape, generator=torch.Generator().manual_seed(0)))
    assert (module(points) - module(moved)).abs().max() < 0.05


def test_features_of_nothing_have_no_neighbours_and_finite_logits():
    logits = bank(3).voters(4)(torch.zeros(1, 6))
    torch.testing.assert_close(logits, torch.full((1, 4), float(np.log(DOUBT))))


def test_there_must_be_more_examples_than_neighbours():
    with pytest.raises(ValueError, match="3 neighbours of 3 examples"):
        Neighbours(6, 4, 3, 3)


def test_a_few_examples_have_fewer_neighbours():
    few = Examples(TRAIN.features[:4], TRAIN.targets[:4])
    assert fit_head("knn", few, VAL, 4, seed=0).neighbours in (1, 3)


def test_quality_of_several_labels_leaves_out_what_is_unknown():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    targets = np.array([[1.0, 0.0], [0.0, np.nan], [np.nan, 1.0]])
    assert quality(scores, targets) == 1.0
    assert quality(scores, np.full((3, 2), np.nan)) == 0.0


def test_heads_compute_in_onnx_what_they_do_in_torch(tmp_path: Path):
    for layer in (Centroids(6, 4), bank(5).voters(4)):
        export_onnx(
            layer, {"features": torch.from_numpy(VAL.features[:8] - 20)}, tmp_path / "head.onnx", outputs=["logits"]
        )
