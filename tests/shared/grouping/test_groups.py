"""Groups of features: the tree is average linkage's, and the cut is where known labels come apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from shared.errors import ConfigError, DataError
from shared.exploring.labels import normalised
from shared.grouping.discover import agreement
from shared.grouping.groups import NONE, Known, compactness, group, halves, stability
from shared.grouping.linkage import average_linkage, cut
from shared.grouping.whitening import whitened


def clusters(groups: int, each: int = 30, *, spread: float = 0.25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = normalised(rng.normal(size=(groups, 24)))
    codes = np.repeat(np.arange(groups), each)
    return centres[codes] + spread * rng.normal(size=(len(codes), 24)).astype(np.float32) / np.sqrt(24) * 2, codes


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_is_that_of_all_pairs(seed: int):
    rows = normalised(np.random.default_rng(seed).normal(size=(70, 6)))
    ours, theirs = average_linkage(rows), linkage(rows.astype(np.float64), "average", metric="cosine")
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], atol=1e-5)
    assert (ours[:, 3] == theirs[:, 3]).all()
    for height in (0.3, 0.6, 0.9):
        assert adjusted_rand_score(cut(ours, height), fcluster(theirs, height, criterion="distance")) == 1.0


def test_equal_rows_are_joined_first():
    rows = normalised(np.repeat(np.eye(3), 4, axis=0))
    tree = average_linkage(rows)
    assert (tree[:9, 2] < 1e-6).all()
    assert len(np.unique(cut(tree, 0.5))) == 3


def test_whitening_takes_out_what_labels_have_in_common():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(6), 40)
    rows = np.eye(8)[codes] * 0.4
    rows[:, 7] = 3 * rng.normal(size=len(codes))  # says nothing of the label
    rows += 0.05 * rng.normal(size=rows.shape)
    before, after = compactness(normalised(rows), codes), compactness(whitened(rows, codes)(rows), codes)
    assert before is not None
    assert after is not None
    assert before < 0.1
    assert after > 0.5


def test_as_many_groups_are_found_as_there_are_and_strangers_are_left_out():
    features, codes = clusters(40)
    strangers = np.random.default_rng(9).normal(size=(40, 24)).astype(np.float32)
    known = Known(features[codes < 28], codes[codes < 28])
    rows = np.concatenate([features[codes >= 28], strangers])
    found = group(rows, known, least=10)
    assert found.count == 12
    assert found.agreement is not None
    assert found.agreement > 0.9
    inside, outside = found.of[: 12 * 30], found.of[12 * 30 :]
    assert (inside != NONE).mean() > 0.95
    assert (outside == NONE).mean() > 0.9
    assert adjusted_rand_score(codes[codes >= 28][inside != NONE], inside[inside != NONE]) > 0.95
    assert found.height is not None
    assert stability(found.space, found.of, found.height) > 0.9


def test_without_known_labels_the_most_compact_groups_are_taken():
    features, codes = clusters(9, spread=0.15)
    found = group(features)
    assert found.count == 9
    assert adjusted_rand_score(codes, found.of) > 0.95
    assert group(features, count=4).count == 4
    assert (group(features, count=4).of != NONE).all()


def test_words_tell_apart_what_features_do_not():
    rng = np.random.default_rng(0)
    features = normalised(np.ones((120, 8)) + 0.3 * rng.normal(size=(120, 8)))
    texts = [f"please {('refund', 'invoice', 'delivery')[i % 3]} number {i % 7}" for i in range(120)]
    found = group(features, texts=texts, count=3)
    assert adjusted_rand_score(np.arange(120) % 3, found.of) == 1.0


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(ConfigError, match="takes 8 or more"):
        group(np.eye(4))
    with pytest.raises(DataError, match="are no numbers"):
        group(np.full((20, 3), np.nan))


def test_halves_are_the_two_parts_that_differ_most():
    features, codes = clusters(2, spread=0.1)
    found = halves(normalised(features))
    assert adjusted_rand_score(codes, found) == 1.0
    assert not halves(np.eye(3)).any()


def test_agreement_counts_rows_of_no_group_against_it():
    labels = np.array(["a"] * 4 + ["b"] * 4)
    assert agreement(labels, np.array([1, 1, 1, 1, 0, 0, 0, 0])) == {"nmi": 1.0, "ari": 1.0, "accuracy": 1.0}
    assert agreement(labels, np.array([1, 1, 1, NONE, 0, 0, 0, 0]))["accuracy"] == 0.875
