"""What later traffic is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.bundle.read import Bundle
from shared.bundle.reference import MAX_FEATURES, MAX_ROWS, REFERENCE_FILE, Reference, read_reference
from shared.bundle.write import rewrite_bundle
from shared.errors import BundleError


def with_files(bundle: Bundle, path: Path, files: dict[str, bytes]) -> Bundle:
    return rewrite_bundle(bundle, path, bundle.config, onnx=bundle.file("model.onnx"), files=files)


def test_what_is_written_reads_back(tagger_bundle: Bundle, tmp_path: Path):
    confidence = np.linspace(0, 1, 5)
    reference = Reference(confidence, np.array([0.5, 0.25]), features=np.eye(5, 3))
    found = read_reference(with_files(tagger_bundle, tmp_path / "b", reference.file()))
    assert found is not None
    assert found.features is not None
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-6)
    np.testing.assert_allclose(found.label_shares, [0.5, 0.25])
    assert found.out_of_scope is None
    assert found.without is None, "as of bundles that were made before it was kept"
    assert found.features.dtype == np.float16
    assert sorted(found.features.sum(axis=1)) == [0, 0, 1, 1, 1]


def test_a_large_set_is_drawn_from_and_confidences_stay_beside_their_scores(tagger_bundle: Bundle, tmp_path: Path):
    confidence = np.random.default_rng(1).random(9000)
    reference = Reference(
        confidence,
        np.array([1.0]),
        out_of_scope=1 - confidence,
        features=np.zeros((9000, 4)),
        without=confidence < 0.5,
    )
    found = read_reference(with_files(tagger_bundle, tmp_path / "b", reference.file()))
    assert found is not None
    assert found.features is not None
    assert found.out_of_scope is not None
    assert found.confidence.shape == (MAX_ROWS,)
    assert found.features.shape == (MAX_FEATURES, 4)
    assert found.without is not None
    np.testing.assert_array_equal(found.without, found.confidence < 0.5)
    np.testing.assert_allclose(found.confidence + found.out_of_scope, 1, atol=1e-6)
    assert abs(found.confidence.mean() - confidence.mean()) < 0.03
    assert reference.file() == reference.file(), "the same again"


def test_a_bundle_of_format_1_has_none(tagger_bundle: Bundle):
    assert read_reference(tagger_bundle) is None


def test_a_broken_file_is_one_line(tagger_bundle: Bundle, tmp_path: Path):
    with pytest.raises(BundleError, match=r"reference\.npz cannot be read"):
        read_reference(with_files(tagger_bundle, tmp_path / "b", {REFERENCE_FILE: b"PK"}))
