"""What the trained network says of the held-out photos, and the decision that follows: temperature, shift, thresholds.

Neighbours: `packing` calls it at the end of a run; `shared.bundle.calibration` fits, `scoring` judges finished bundles.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from shared.bundle.calibration import (
    fit_scale_and_shift,
    fit_temperature,
    fit_thresholds,
    probabilities_from_logits,
)
from shared.bundle.layout import TagDecision
from vision.tagging.data import TaggingData
from vision.tagging.module import source_views
from vision.tagging.network import last_layer
from vision.tagging.photos import Batch
from vision.tagging.taxonomy import UNKNOWN


class Judged:
    """A split with what the network said of it: logits float32 [N, L], targets int8 [N, L], source_ids int [N]."""

    def __init__(self, logits: np.ndarray, targets: np.ndarray, source_ids: np.ndarray) -> None:
        self.logits = logits
        self.targets = targets
        self.source_ids = source_ids


def judge_network(network: nn.Module, loader: DataLoader[Batch], title: str) -> Judged:
    """Return what the network says of every photo, computed where there is a GPU on it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with torch.inference_mode():
        for batch in tqdm(loader, desc=title, unit="batch"):
            logits = network(batch["pixel_values"].to(device)).float().cpu().numpy()
            targets = batch["targets"].nan_to_num(float(UNKNOWN)).to(torch.int8).numpy()
            found.append((logits, targets, batch["source"].numpy()))
    network.cpu()
    return Judged(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def scores_of(logits: np.ndarray, temperature: float, data: TaggingData) -> np.ndarray:
    """Return calibrated and reconciled scores float64 [N, num_labels], as the predictor computes them."""
    return data.hierarchy.reconcile(probabilities_from_logits(logits, temperature, data.problem_type))


def fit_scale(judged: Judged, data: TaggingData, *, can_shift: bool) -> tuple[float, float]:
    """Return temperature and shift of the logits that make scores honest on validation photos.

    Yes-or-no labels are judged where an answer is given: of a set with one label a photo, the best of its own labels;
    of others, all own labels, which together count as one judgement. Over all pairs, hundreds of easy negatives a photo
    would decide.
    """
    if data.problem_type == "single_label_classification":
        targets = judged.targets.argmax(axis=1).astype(np.int64)
        return fit_temperature(judged.logits, targets, data.problem_type), 0.0
    weights = np.zeros(judged.logits.shape)
    for i, view in enumerate(source_views(data)):
        rows, columns = np.flatnonzero(judged.source_ids == i), np.array(view.label_indices)
        if view.is_single_label:
            weights[rows, columns[judged.logits[np.ix_(rows, columns)].argmax(axis=1)]] = 1.0
        else:
            weights[np.ix_(rows, columns)] = 1 / len(columns)
    chosen = (weights > 0) & (judged.targets != UNKNOWN)
    logits, targets = judged.logits[chosen], judged.targets[chosen]
    if not can_shift:
        return fit_temperature(logits[:, None], targets[:, None], data.problem_type), 0.0
    return fit_scale_and_shift(logits, targets, weights[chosen])


def shift_logits(network: nn.Module, shift: float) -> None:
    """Add a constant to all logits: in the head's bias, so that whoever takes raw logits gets it too."""
    with torch.no_grad():
        bias = last_layer(network).bias
        assert bias is not None
        bias += shift


def fit_decision(judged: Judged, temperature: float, data: TaggingData) -> TagDecision:
    """Return the temperature with per-label thresholds, fitted by F1 on validation photos."""
    scores = scores_of(judged.logits, temperature, data)
    fitted = fit_thresholds(scores, judged.targets, default=0.5)
    return TagDecision(temperature=temperature, thresholds=dict(zip(data.labels, map(float, fitted), strict=True)))
