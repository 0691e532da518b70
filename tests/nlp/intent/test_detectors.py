"""Every detector against an outside reference, and its file against everything that can happen to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.covariance import ShrunkCovariance
from sklearn.neighbors import NearestNeighbors

from nlp.intent.decision import MAX_KEYS, RANK, SHRINKAGE, fit_detectors, fit_gaussian_process
from nlp.intent.predictor import DETECTOR_FILE, KINDS, Detector, IntentPredictor, random_waves, read_detector
from shared.bundle.layout import BundleConfig
from shared.bundle.read import Bundle, read_bundle
from shared.bundle.write import write_bundle
from shared.errors import BundleError
from shared.runtime.cpu import OnnxRuntime

LABELS, WIDTH = 3, 6
RNG = np.random.default_rng(5)
TARGETS = np.arange(90) % LABELS
CENTRES = RNG.normal(size=(LABELS, WIDTH)) * 4
FEATURES = (CENTRES[TARGETS] + RNG.normal(size=(90, WIDTH))).astype(np.float32)
LOGITS = (FEATURES @ CENTRES.T.astype(np.float32) / 10).astype(np.float32)
OUTPUTS = {"logits": LOGITS, "features": FEATURES}
WEIGHT, BIAS = RNG.normal(size=WIDTH).astype(np.float32), 0.25


def rejection(*, is_cosine: bool) -> Detector:
    arrays = {
        "weight": WEIGHT,
        "bias": np.array([BIAS], dtype=np.float32),
        "is_cosine": np.array([is_cosine], np.uint8),
    }
    return Detector("rejection", arrays)


@pytest.fixture(scope="module")
def detectors() -> dict[str, Detector]:
    return fit_detectors(OUTPUTS, TARGETS, rejection(is_cosine=False), seed=0)


def test_every_kind_is_fitted(detectors: dict[str, Detector]):
    assert set(detectors) == set(KINDS)
    for detector in detectors.values():
        detector.check("here", LABELS, WIDTH)


def test_what_was_not_learned_is_not_offered():
    assert "rejection" not in fit_detectors(OUTPUTS, TARGETS, None, seed=0)


def test_max_softmax_is_torchs(detectors: dict[str, Detector]):
    expected = -torch.from_numpy(LOGITS).double().softmax(1).amax(1)
    np.testing.assert_allclose(detectors["max_softmax"].values(OUTPUTS), expected, rtol=1e-12)


def test_energy_is_scipys_logsumexp(detectors: dict[str, Detector]):
    np.testing.assert_allclose(detectors["energy"].values(OUTPUTS), -logsumexp(LOGITS.astype(float), axis=1))


def test_rejection_is_a_linear_layer_less_the_best_logit(detectors: dict[str, Detector]):
    layer = torch.nn.Linear(WIDTH, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(WEIGHT))
        layer.bias.fill_(BIAS)
        expected = layer(torch.from_numpy(FEATURES))[:, 0] - torch.from_numpy(LOGITS).amax(1)
    np.testing.assert_allclose(detectors["rejection"].values(OUTPUTS), expected, atol=1e-5)


def test_rejection_beside_prototypes_is_a_cosine():
    unit = torch.nn.functional.normalize(torch.from_numpy(FEATURES).double())
    expected = unit @ torch.from_numpy(WEIGHT).double() + BIAS - torch.from_numpy(LOGITS).amax(1)
    np.testing.assert_allclose(rejection(is_cosine=True).values(OUTPUTS), expected, atol=1e-5)


def test_mahalanobis_is_the_least_distance_of_scikit_learns_shrunk_covariance(detectors: dict[str, Detector]):
    means = np.stack([FEATURES[i == TARGETS].mean(axis=0) for i in range(LABELS)])
    reference = ShrunkCovariance(shrinkage=SHRINKAGE, assume_centered=True).fit(FEATURES - means[TARGETS])
    far = np.concatenate([FEATURES, RNG.normal(size=(20, WIDTH)).astype(np.float32) * 9])
    expected = np.min([reference.mahalanobis(far - mean) for mean in means], axis=0)
    found = detectors["mahalanobis"].values({"features": far})
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.05)  # stored as float16


def test_knn_is_scikit_learns_cosine_distance(detectors: dict[str, Detector]):
    reference = NearestNeighbors(n_neighbors=RANK, metric="cosine").fit(FEATURES)
    far = RNG.normal(size=(20, WIDTH)).astype(np.float32)
    expected = reference.kneighbors(far)[0][:, -1] - 1
    np.testing.assert_allclose(detectors["knn"].values({"features": far}), expected, atol=2e-3)  # stored as float16


def test_no_more_neighbours_are_kept_than_a_bundle_can_carry():
    many = {"logits": np.zeros((3000, 2), np.float32), "features": RNG.normal(size=(3000, 4)).astype(np.float32)}
    found = fit_detectors(many, np.arange(3000) % 2, None, seed=0)["knn"]
    assert found.arrays["keys"].shape == (MAX_KEYS, 4)


def test_the_waves_are_a_gaussian_kernel():
    frequencies, phases = RNG.normal(size=(WIDTH, 20_000)), RNG.uniform(0, 2 * np.pi, 20_000)
    waves = random_waves(FEATURES, frequencies, phases)
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    squares = ((unit[:, None] - unit) ** 2).sum(-1)
    np.testing.assert_allclose(waves @ waves.T, np.exp(-squares / 2), atol=0.04)  # 1 / sqrt(20000) is 0.007


def test_the_gaussian_process_is_less_sure_far_from_what_it_saw():
    unsure = LOGITS / 100  # sure answers teach a Laplace approximation nothing
    detector = Detector("gaussian_process", fit_gaussian_process(FEATURES, unsure, np.random.default_rng(0)))
    here, away = ({"features": each, "logits": LOGITS} for each in (FEATURES, -FEATURES))
    assert (detector.values(away) > detector.values(here)).mean() > 0.9


def test_each_finds_what_lies_elsewhere(detectors: dict[str, Detector]):
    nowhere = RNG.normal(size=(60, WIDTH)).astype(np.float32)
    outputs = {"features": nowhere, "logits": nowhere @ CENTRES.T.astype(np.float32) / 10}
    for name in ("energy", "mahalanobis", "knn", "gaussian_process"):
        inside, outside = detectors[name].values(OUTPUTS), detectors[name].values(outputs)
        assert (outside[:, None] > inside).mean() > 0.75, name


def with_detector(bundle: Bundle, folder: Path, detector: Detector) -> Bundle:
    """The bundle with three logits as features too, and that detector."""
    config = bundle.config.model_dump()
    config["decision"]["detector"] = detector.name
    files = {name: bundle.path / name for name in ("model.onnx", "tokenizer.json", "tokenizer_config.json")}
    return write_bundle(folder, BundleConfig.model_validate(config), files={**files, **detector.file()},
                        preprocessor={}, golden=bundle.golden)  # fmt: skip


def with_features(bundle: Bundle) -> Bundle:
    """The bundle as if the network gave features as well."""
    signature = bundle.config.signature.model_dump()
    signature["outputs"] += ({"name": "features", "dtype": "float32", "shape": ["batch", 4]},)
    config = BundleConfig.model_validate({**bundle.config.model_dump(), "signature": signature})
    return replace(bundle, config=config)


KNN = Detector("knn", {"keys": np.eye(4, dtype=np.float16), "rank": np.array([1])})


def test_arrays_read_back_as_they_were_written(intent_bundle: Bundle, tmp_path: Path):
    bundle = with_features(with_detector(intent_bundle, tmp_path / "b", KNN))
    found = read_detector(bundle)
    features = RNG.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(found.values({"features": features}), KNN.values({"features": features}))


def test_a_missing_file_is_refused(intent_bundle: Bundle, tmp_path: Path):
    bundle = with_detector(intent_bundle, tmp_path / "b", KNN)
    (bundle.path / DETECTOR_FILE).unlink()
    with pytest.raises(BundleError, match=DETECTOR_FILE):
        read_bundle(bundle.path)
    with pytest.raises(BundleError, match=DETECTOR_FILE):
        read_detector(with_features(bundle))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_broken_file_is_refused(intent_bundle: Bundle, tmp_path: Path, damage: bytes | None):
    bundle = with_features(with_detector(intent_bundle, tmp_path / "b", KNN))
    path = bundle.path / DETECTOR_FILE
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    with pytest.raises(BundleError, match="cannot be read"):
        read_detector(bundle)


def test_a_pickle_is_refused(intent_bundle: Bundle, tmp_path: Path):
    bundle = with_features(with_detector(intent_bundle, tmp_path / "b", KNN))
    with (bundle.path / DETECTOR_FILE).open("wb") as file:
        np.savez(file, keys=np.array([{}], dtype=object), rank=np.array([1]))
    with pytest.raises(BundleError, match="cannot be read"):
        read_detector(bundle)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"keys": np.eye(4)}, r"has \['keys'\]; the detector knn needs"),
        ({"keys": np.eye(3), "rank": np.array([1])}, r"keys is float64 \[3, 3\]"),
        ({"keys": np.eye(4), "rank": np.array([1, 2])}, r"rank is int64 \[2\]"),
        ({"keys": np.full((4, 4), np.nan), "rank": np.array([1])}, "finite"),
        ({"keys": np.eye(4).astype(str), "rank": np.array([1])}, "finite"),
    ],
)
def test_arrays_that_do_not_fit_the_network_are_refused(
    intent_bundle: Bundle, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
):
    bundle = with_features(with_detector(intent_bundle, tmp_path / "b", Detector("knn", arrays)))
    with pytest.raises(BundleError, match=message):
        read_detector(bundle)


def test_a_detector_of_features_needs_a_network_that_gives_them(intent_bundle: Bundle, tmp_path: Path):
    with pytest.raises(BundleError, match=r"needs the network.s output features"):
        read_detector(with_detector(intent_bundle, tmp_path / "b", KNN))


def test_a_detector_that_nobody_knows_is_refused(intent_bundle: Bundle):
    decision = intent_bundle.config.decision.model_copy(update={"detector": "tea_leaves"})
    config = intent_bundle.config.model_copy(update={"decision": decision})
    with pytest.raises(BundleError, match="no detector 'tea_leaves'"):
        IntentPredictor(replace(intent_bundle, config=config), OnnxRuntime(intent_bundle))
