"""Fits every detector on training utterances. numpy only.

Neighbours: `detectors` computes; `judging` compares them on validation utterances and chooses.
"""

from __future__ import annotations

import numpy as np

from nlp.intent.detectors import FEATURES, LOGITS, Arrays, Detector, random_waves
from shared.bundle.calibration import probabilities_from_logits

SHRINKAGE = 0.1
"""Share of a round covariance in the measured one: few utterances do not show hundreds of directions."""
MAX_KEYS = 2000
RANK = 5
"""Which neighbour counts: one alone may be an odd utterance."""
WAVES = 256
LENGTH_SCALE = 0.5
"""Of the Gaussian kernel, on features of length 1: utterances of one intent lie nearer than that."""


def fit_detectors(outputs: Arrays, targets: np.ndarray, rejection: Detector | None, seed: int) -> dict[str, Detector]:
    """Return name -> detector.

    Args:
        outputs: `logits` [N, C] and `features` [N, D] of the training utterances.
        targets: int [N], -1 for those that belong to no intent; only "rejection" has learned from them.
        rejection: as the network learned it, if it did.
        seed: of the random waves and of the neighbours that are kept.
    """
    inside = targets >= 0
    features, own = outputs[FEATURES][inside].astype(np.float64), targets[inside]
    rng = np.random.default_rng(seed)
    found = [
        Detector("max_softmax"),
        Detector("energy"),
        Detector("mahalanobis", fit_mahalanobis(features, own, outputs[LOGITS].shape[1])),
        Detector("knn", fit_knn(features, rng)),
        Detector("gaussian_process", fit_gaussian_process(features, outputs[LOGITS][inside], rng)),
    ]
    if rejection is not None:
        found.insert(0, rejection)
    return {detector.name: detector for detector in found}


def fit_mahalanobis(features: np.ndarray, targets: np.ndarray, num_labels: int) -> dict[str, np.ndarray]:
    """Return centres and the projection to the space in which the spread around them is the same in all directions."""
    counts = np.bincount(targets, minlength=num_labels)
    centres = np.zeros((num_labels, features.shape[1]))
    np.add.at(centres, targets, features)
    centres /= np.maximum(counts, 1)[:, None]
    rest = features - centres[targets]
    covariance = rest.T @ rest / len(rest)
    size = covariance.shape[0]
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(covariance)
    projection = vectors / np.sqrt(np.maximum(values, 1e-12))
    return {"projection": projection.astype(np.float16), "centres": (centres @ projection).astype(np.float16)}


def fit_knn(features: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the utterances that are kept as neighbours."""
    chosen = np.sort(rng.permutation(len(features))[:MAX_KEYS])
    unit = features[chosen] / np.maximum(np.linalg.norm(features[chosen], axis=1, keepdims=True), 1e-12)
    return {"keys": unit.astype(np.float16), "rank": np.array([min(RANK, len(unit))])}


def fit_gaussian_process(features: np.ndarray, logits: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the waves and the posterior covariance of their weights, by Laplace's approximation."""
    frequencies = rng.standard_normal((features.shape[1], WAVES)) / LENGTH_SCALE
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    frequencies, phases = frequencies.astype(np.float32), phases.astype(np.float32)
    waves = random_waves(features, frequencies, phases)
    best = probabilities_from_logits(logits, 1.0, "single_label_classification").max(axis=1)
    precision = np.eye(WAVES) + (waves.T * (best * (1 - best))) @ waves
    return {
        "frequencies": frequencies,
        "phases": phases,
        "covariance": np.linalg.inv(precision).astype(np.float32),
    }
