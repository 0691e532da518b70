"""What an exported network says of utterances, and the decision that follows: temperature, detector, threshold.

Everything is judged through the ONNX file that ships, int8 where that is it. Neighbours: `packing` calls it at the end
of a run, `detecting` fits detectors, `shared.bundle.calibration` fits scores.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nlp.intent.detectors import LOGITS, Detector
from nlp.intent.evaluation import evaluate, out_of_scope_metrics
from nlp.text import TextEncoder
from shared.bundle.calibration import fit_scale_and_shift, fit_temperature, probabilities_from_logits
from shared.bundle.layout import IntentDecision
from shared.errors import CalibrationError
from shared.runtime.protocol import Runtime
from shared.training.metrics import mean
from shared.training.splits import stratified_share

BATCH = 32
FALLBACK = "energy"
"""The detector where no validation utterance belongs to no intent, so that nothing can be compared."""
CROSS_FITTED = ("ece", "kept", "out_of_scope_recall", "right")


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Judged:
    """Utterances with what a network says of them: outputs [N, …] by name, targets int [N] (-1 for none)."""

    outputs: dict[str, np.ndarray]
    targets: np.ndarray

    def part(self, rows: np.ndarray) -> Judged:
        """Return some of them."""
        return Judged({name: values[rows] for name, values in self.outputs.items()}, self.targets[rows])


def judge_runtime(
    runtime: Runtime, encoder: TextEncoder, texts: Sequence[str], targets: Sequence[int], title: str
) -> Judged:
    """Return what a runtime says of every utterance, in batches of like length."""
    encodings = encoder.encode_batch(texts)
    names = [spec.name for spec in runtime.inputs]
    order = sorted(range(len(texts)), key=lambda i: len(encodings[i]))
    parts: dict[str, list[np.ndarray]] = {spec.name: [] for spec in runtime.outputs}
    for start in tqdm(range(0, len(order), BATCH), desc=title, unit="batch"):
        rows = order[start : start + BATCH]
        for name, values in runtime.run(encoder.batch([encodings[row] for row in rows], names)).items():
            parts[name].append(values)
    back = np.argsort(np.array(order), kind="stable")
    return Judged({name: np.concatenate(found)[back] for name, found in parts.items()}, np.array(targets))


def compare(detectors: Mapping[str, Detector], judged: Judged, acceptance: float) -> dict[str, dict[str, float | None]]:
    """Return detector -> `auroc`, `recall_at_acceptance`, the best first; empty where nothing can be compared."""
    found = {
        name: out_of_scope_metrics(each.values(judged.outputs), judged.targets, acceptance)
        for name, each in detectors.items()
    }
    return dict(sorted(found.items(), key=lambda item: -_merit(item[1]))) if _has_both(judged.targets) else {}


def choose_detector(compared: Mapping[str, Mapping[str, float | None]], wanted: str) -> str:
    """Return the wanted detector, or for "auto" the best by the mean of AUROC and recall at the stated acceptance."""
    if wanted != "auto":
        return wanted
    return max(compared, key=lambda name: _merit(compared[name])) if compared else FALLBACK


def fit_decision(judged: Judged, detector: Detector, acceptance: float) -> IntentDecision:
    """Return temperature, out-of-scope score and threshold, fitted on validation utterances.

    The temperature is fitted on those that belong to an intent. The out-of-scope score is a chance when half of what
    comes belongs to no intent; without any that belong to none it only says how odd an utterance is among those that
    belong to one, with 0.5 at the threshold.

    Raises:
        CalibrationError: no validation utterance belongs to an intent.
    """
    inside = judged.targets >= 0
    if not inside.any():
        raise CalibrationError("no validation utterance belongs to an intent: nothing to fit confidences on.")
    logits = judged.outputs[LOGITS][inside]
    temperature = fit_temperature(logits, judged.targets[inside], "single_label_classification")
    values = detector.values(judged.outputs)
    centre, spread = float(values[inside].mean()), max(float(values[inside].std()), 1e-6)
    if _has_both(judged.targets):
        weights = np.where(inside, 0.5 / inside.sum(), 0.5 / (~inside).sum()) * len(values)
        scale, shift = fit_scale_and_shift((values - centre) / spread, (~inside).astype(int), weights)
    else:
        scale, shift = 1.0, -float(np.quantile((values[inside] - centre) / spread, acceptance))
    decision = IntentDecision(
        temperature=temperature,
        detector=detector.name,
        detector_temperature=scale * spread,
        detector_shift=shift * spread - centre,
        abstain_below=0.0,
        acceptance=acceptance,
    )
    scores = np.sort(1 - scores_of(judged, detector, decision)[inside])
    refused = int((1 - acceptance) * len(scores) + 1e-9)
    threshold = (scores[refused - 1] + scores[refused]) / 2 if refused else scores[0]
    return decision.model_copy(update={"abstain_below": float(np.clip(threshold, 0, 1))})


def accuracy(judged: Judged) -> float:
    """Return the share of the utterances with an intent whose best intent is right."""
    inside = judged.targets >= 0
    return float((judged.outputs[LOGITS][inside].argmax(axis=1) == judged.targets[inside]).mean())


def probabilities_of(judged: Judged, decision: IntentDecision) -> np.ndarray:
    """Return float64 [N, C], calibrated, as the predictor computes them."""
    return probabilities_from_logits(judged.outputs[LOGITS], decision.temperature, "single_label_classification")


def scores_of(judged: Judged, detector: Detector, decision: IntentDecision) -> np.ndarray:
    """Return out-of-scope scores float64 [N], as the predictor computes them."""
    shifted = detector.values(judged.outputs) + decision.detector_shift
    return probabilities_from_logits(shifted, decision.detector_temperature, "multi_label_classification")


def measure(
    judged: Judged,
    source_ids: np.ndarray,
    detector: Detector,
    decision: IntentDecision,
    labels: Sequence[str],
    sources: Sequence[str],
) -> dict[str, Any]:
    """Return `evaluate`'s metrics."""
    return evaluate(
        probabilities_of(judged, decision),
        scores_of(judged, detector, decision),
        judged.targets,
        source_ids,
        labels=labels,
        sources=sources,
        abstain_below=decision.abstain_below,
        acceptance=decision.acceptance,
    )


def cross_fitted(judged: Judged, detector: Detector, acceptance: float, seed: int) -> dict[str, float | None]:
    """Return what a decision is worth on utterances that it was not fitted on.

    Fitted on one half of the validation utterances, stratified by intent, and measured on the other, both ways, mean.
    """
    half = stratified_share([str(target) for target in judged.targets], 0.5, random.Random(f"{seed}-halves"))
    is_first = np.isin(np.arange(len(judged.targets)), sorted(half))
    found: list[dict[str, Any]] = []
    for fitted_on in (is_first, ~is_first):
        fitting, measuring = judged.part(np.flatnonzero(fitted_on)), judged.part(np.flatnonzero(~fitted_on))
        if not (fitting.targets >= 0).any() or not len(measuring.targets):
            return {}
        decision = fit_decision(fitting, detector, acceptance)
        names = [str(i) for i in range(judged.outputs[LOGITS].shape[1])]
        nowhere = np.zeros(len(measuring.targets), dtype=np.int64)
        found.append(measure(measuring, nowhere, detector, decision, names, ["half"])["overall"])
    return {name: mean([values[name] for values in found]) for name in CROSS_FITTED}


def _has_both(targets: np.ndarray) -> bool:
    return bool((targets >= 0).any() and (targets < 0).any())


def _merit(found: Mapping[str, float | None]) -> float:
    return sum(value or 0.0 for value in found.values())


def int8_merits(judged: Judged) -> dict[str, float]:
    """Return what int8 must keep: accuracy and, where it can be told, the energy's AUROC, which needs no fitting."""
    found = {"quality": accuracy(judged)}
    compared = compare({"energy": Detector("energy")}, judged, 0.95)
    return found | {"auroc": compared["energy"]["auroc"] or 0.0} if compared else found
