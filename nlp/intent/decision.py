"""The decision rule of intents, fitted: what tells utterances out of scope, honest confidences, and the threshold.

Everything is fitted on what the ONNX file that ships says of utterances.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlp.intent.entities import EntityRule, Kind, Span, span_counts
from nlp.intent.evaluation import evaluate, f1_of, out_of_scope_metrics
from nlp.intent.predictor import FEATURES, LOGITS, Arrays, Detector, random_waves
from nlp.intent.sources import Example
from shared.bundle.calibration import fit_scale_and_shift, fit_temperature, probabilities_from_logits
from shared.bundle.layout import IntentDecision
from shared.errors import CalibrationError
from shared.exploring.languages import is_foreign
from shared.training.data import stratified_share
from shared.training.metrics import calibration_error, mean, ratio

FALLBACK = "energy"
"""The detector if all validation utterances belong to an intent, so that nothing can be compared."""
SHRINKAGE = 0.1
"""Share of a round covariance in the measured one: few utterances say little of hundreds of directions."""
MAX_KEYS = 2000
RANK = 5
"""Which neighbour counts: the nearest one alone may be an odd utterance."""
WAVES = 256
LENGTH_SCALE = 0.5
"""Of the Gaussian kernel, on features of length 1: utterances of one intent are nearer than that."""
CROSS_FITTED = ("ece", "kept", "out_of_scope_recall", "right")


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Judged:
    """Utterances with what a network says of them: outputs [N, …] by name, targets int [N] (-1 for none)."""

    outputs: dict[str, np.ndarray]
    targets: np.ndarray
    examples: Sequence[Example] = ()
    found: Sequence[Sequence[Span]] | None = None
    """The entities that are found in each; None for networks that find none."""
    marked: Sequence[Sequence[Span] | None] | None = None
    """Those that are marked in each and that the network knows; None where nobody marked any."""

    def part(self, rows: np.ndarray) -> Judged:
        """Return some of them."""
        return Judged({name: values[rows] for name, values in self.outputs.items()}, self.targets[rows])


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

    The temperature is fitted on those that belong to an intent. The out-of-scope score is a probability if half of all
    requests belong to no intent; without such utterances to fit it on, it only says how odd an utterance is, with 0.5
    at the threshold.

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
    scores = probabilities_from_logits(shifted, decision.detector_temperature, "multi_label_classification")
    if decision.languages and judged.examples:
        scores[[is_foreign(example.text, decision.languages) for example in judged.examples]] = 1.0
    return scores


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
    """Return the metrics of a decision on utterances that it was not fitted on.

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


def int8_merits(judged: Judged) -> dict[str, float]:
    """Return what int8 must keep: accuracy and, where it is defined, the AUROC of the energy, which is not fitted."""
    found = {"quality": accuracy(judged)}
    compared = compare({"energy": Detector("energy")}, judged, 0.95)
    if compared:
        found["auroc"] = compared["energy"]["auroc"] or 0.0
    rows = entity_rows(judged)
    if rows:
        found["slot_f1"] = f1_of(*np.sum([counts for _, counts in rows], axis=0).tolist()) or 0.0
    return found


def entity_rows(judged: Judged) -> list[tuple[int, tuple[int, int, int]]]:
    """Return (place, (found rightly, found, marked)) of each utterance in which somebody marked entities, or none."""
    if judged.found is None or judged.marked is None:
        return []
    pairs = enumerate(zip(judged.found, judged.marked, strict=True))
    return [(place, span_counts(found, marked)) for place, (found, marked) in pairs if marked is not None]


def fit_entities(judged: Judged, kinds: Sequence[Kind], synonyms: Mapping[str, Mapping[str, str]]) -> EntityRule:
    """Return what the tags mean, with scores that are fitted on the entities that are found in validation utterances.

    Without any that are right and any that are wrong, scores are those of the least sure word.
    """
    margins, is_right = judged_spans(judged)
    temperature, shift = 1.0, 0.0
    if is_right.any() and not is_right.all():
        temperature, shift = fit_scale_and_shift(margins, is_right.astype(int))
    names = {entity: dict(values) for entity, values in synonyms.items()}
    return EntityRule(kinds=tuple(kinds), temperature=temperature, shift=shift, synonyms=names)


def judged_spans(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    """Return the margin, float [M], of each entity that is found where somebody marked any, and whether it is right."""
    margins, is_right = [], []
    for found, marked in zip(judged.found or (), judged.marked or (), strict=True):
        theirs = None if marked is None else {(span.start, span.end, span.kind) for span in marked}
        for span in found if theirs is not None else ():
            margins.append(span.margin)
            is_right.append((span.start, span.end, span.kind) in (theirs or ()))
    return np.array(margins, dtype=np.float64), np.array(is_right, dtype=bool)


def measure_entities(judged: Judged, rule: EntityRule, given: np.ndarray) -> dict[str, Any]:
    """Return `entities`, what the model card shows of them; empty where nothing can be measured.

    `examples`, utterances in which somebody marked entities or none; `marked`, `found`; `precision`, `recall` and `f1`
    over all entities, by the definition of CoNLL-2003; `ece` of the scores of those found, 15 bins; `sentences`, the
    share of the utterances with an intent that get it with all entities and no others. `per_entity`: one row per kind.

    Args:
        judged: utterances.
        rule: of the entities.
        given: int [N], the best intent of each.
    """
    rows = entity_rows(judged)
    if not rows:
        return {}
    counts = dict.fromkeys(rule.kinds, (0, 0, 0))
    for place, _ in rows:
        found, marked = (judged.found or ())[place], (judged.marked or ())[place] or ()
        for kind in {span.kind for span in (*found, *marked)} & set(counts):
            own = span_counts([s for s in found if s.kind == kind], [s for s in marked if s.kind == kind])
            counts[kind] = tuple(map(sum, zip(counts[kind], own, strict=True)))  # type: ignore[assignment]
    right, found_, marked_ = np.sum([each for _, each in rows], axis=0).tolist()
    inside = [(place, each) for place, each in rows if judged.targets[place] >= 0]
    whole = sum(given[place] == judged.targets[place] and r == f == m for place, (r, f, m) in inside)
    margins, is_right = judged_spans(judged)
    scores = np.array([rule.score(margin) for margin in margins])
    return {
        "entities": {
            "examples": len(rows),
            "marked": marked_,
            "found": found_,
            "precision": ratio(right, found_),
            "recall": ratio(right, marked_),
            "f1": f1_of(right, found_, marked_),
            "ece": calibration_error(scores, is_right),
            "sentences": ratio(int(whole), len(inside)),
            "per_entity": [
                {
                    "entity": kind.name,
                    "marked": m,
                    "precision": ratio(r, f),
                    "recall": ratio(r, m),
                    "f1": f1_of(r, f, m),
                }
                for kind, (r, f, m) in counts.items()
                if f or m
            ],
        }
    }


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


def _has_both(targets: np.ndarray) -> bool:
    return bool((targets >= 0).any() and (targets < 0).any())


def _merit(found: Mapping[str, float | None]) -> float:
    return sum(value or 0.0 for value in found.values())
