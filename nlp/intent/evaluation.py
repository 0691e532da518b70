"""How good intents are: accuracy, honest confidences, and how well utterances without an intent are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_stat_scores

from shared.training.metrics import auroc, calibration_error, confusions, mean, ratio, reliability_rows, top_k_accuracy

NONE = "(none)"
"""In the confusion table, what belongs to no intent."""


def evaluate(
    probabilities: np.ndarray,
    scores: np.ndarray,
    targets: np.ndarray,
    source_ids: np.ndarray,
    *,
    labels: Sequence[str],
    sources: Sequence[str],
    abstain_below: float,
    acceptance: float,
) -> dict[str, Any]:
    """Return every metric that the model card shows, as JSON-able values; None where a metric is not defined.

    `sources` -> name, `overall`:
      - `examples`, `labels` (that occur), `out_of_scope` (utterances that belong to no intent).
      - `accuracy`, `top5`, `macro_f1`: of utterances that belong to an intent, over the best intent, named or not.
      - `ece`: expected calibration error of the best intent's confidence, over the same, 15 bins.
      - `auroc`: that the out-of-scope score of one that belongs to none is above that of one that belongs.
      - `kept`: share of those that belong to an intent for which one is named; `out_of_scope_recall`: share of the
        others for which none is; both at the bundle's threshold.
      - `recall_at_acceptance`: the latter, were the threshold to keep `acceptance` of exactly these utterances.
      - `right`: share of all that is answered rightly: the right intent, or none.
    `per_label`: one row per label: `support`, `precision`, `recall`, `f1` of the best intent, `kept`, and
      `right`, the share for which the best intent is right and named.
    `confusions`: `label`, `given`, `count`, `of`, the most frequent first, at the threshold.
    `reliability` -> name: the bins behind `ece`.

    Args:
        probabilities: float [N, C], calibrated.
        scores: float [N], out-of-scope scores.
        targets: int [N], -1 where an utterance belongs to no intent.
        source_ids: int [N], places in `sources`.
        labels: in the order of the probabilities.
        sources: names.
        abstain_below: an intent is named where 1 - score is not below.
        acceptance: share of those in scope that may pass.
    """
    named = 1 - scores >= abstain_below
    given = np.where(named, probabilities.argmax(axis=1), -1)
    parts = {name: np.flatnonzero(source_ids == i) for i, name in enumerate(sources)}
    parts = {name: rows for name, rows in parts.items() if len(rows)}

    def of(rows: np.ndarray) -> dict[str, Any]:
        return _metrics(probabilities[rows], scores[rows], targets[rows], named[rows], acceptance)

    inside = {name: rows[targets[rows] >= 0] for name, rows in parts.items()}
    return {
        "overall": of(np.arange(len(targets))),
        "sources": {name: of(rows) for name, rows in parts.items()},
        "per_label": _per_label(probabilities, targets, named, labels),
        "confusions": confusions(targets, given, [*labels, NONE]),
        "reliability": {
            name: reliability_rows(probabilities[rows].max(axis=1), probabilities[rows].argmax(axis=1) == targets[rows])
            for name, rows in inside.items()
            if len(rows)
        },
    }


def validation_summary(
    logits: np.ndarray, margins: np.ndarray, targets: np.ndarray, entities: np.ndarray | None = None
) -> dict[str, float]:
    """Return what is logged after each epoch: `accuracy`, `auroc`, `slot_f1`, and `quality`, which chooses checkpoints.

    `quality` is the mean of those that are defined: `auroc` needs utterances that belong to no intent, `slot_f1` needs
    entities.

    Args:
        logits: float [N, C].
        margins: float [N], higher where an utterance belongs to none.
        targets: int [N], -1 for none.
        entities: int [N, 3], how many were found rightly, found, and marked; None where none are learned.
    """
    inside = targets >= 0
    values = {"accuracy": float((logits[inside].argmax(axis=1) == targets[inside]).mean()) if inside.any() else 0.0}
    if (found := auroc(margins, targets < 0)) is not None:
        values["auroc"] = found
    if entities is not None and entities[:, 2].any():
        values["slot_f1"] = f1_of(*entities.sum(axis=0).tolist()) or 0.0
    values["quality"] = float(np.mean(list(values.values())))
    return values


def f1_of(right: int, found: int, marked: int) -> float | None:
    """Return the F1 of so many; None where none is found and none marked.

    >>> f1_of(3, 4, 5)
    0.66667
    """
    return ratio(2 * right, found + marked)


def recall_at(values: np.ndarray, targets: np.ndarray, acceptance: float) -> float | None:
    """Return the share of utterances without an intent above the value that `acceptance` of the others stay below."""
    outside = targets < 0
    if outside.all() or not outside.any():
        return None
    return ratio(int((values[outside] > np.quantile(values[~outside], acceptance)).sum()), int(outside.sum()))


def out_of_scope_metrics(values: np.ndarray, targets: np.ndarray, acceptance: float) -> dict[str, float | None]:
    """Return `auroc` and `recall_at_acceptance` of a detector's values [N]."""
    return {
        "auroc": auroc(values, targets < 0),
        "recall_at_acceptance": recall_at(values, targets, acceptance),
    }


def _metrics(
    probabilities: np.ndarray, scores: np.ndarray, targets: np.ndarray, named: np.ndarray, acceptance: float
) -> dict[str, Any]:
    inside = targets >= 0
    own, chances = targets[inside], probabilities[inside]
    best = probabilities.argmax(axis=1)
    is_right = np.where(inside, named & (best == targets), ~named)
    values = {
        "examples": len(targets),
        "labels": len(np.unique(own)),
        "out_of_scope": int((~inside).sum()),
        "accuracy": ratio(int((best[inside] == own).sum()), len(own)),
        "top5": top_k_accuracy(chances, own, 5) if len(own) else None,
        "macro_f1": mean([row[2] for row in _label_scores(chances, own) if row[3]]) if len(own) else None,
        "ece": calibration_error(chances.max(axis=1), best[inside] == own) if len(own) else None,
        "kept": ratio(int(named[inside].sum()), len(own)),
        "out_of_scope_recall": ratio(int((~named[~inside]).sum()), int((~inside).sum())),
        "right": ratio(int(is_right.sum()), len(targets)),
    }
    return values | out_of_scope_metrics(scores, targets, acceptance)


def _label_scores(chances: np.ndarray, own: np.ndarray) -> list[tuple[float | None, float | None, float | None, int]]:
    """Return precision, recall, F1 and support of each label."""
    counts = multiclass_stat_scores(
        torch.from_numpy(chances.argmax(axis=1)), torch.from_numpy(own.astype(np.int64)), chances.shape[1], average=None
    )
    return [
        (ratio(tp, tp + fp), ratio(tp, tp + fn), ratio(2 * tp, 2 * tp + fp + fn), support)
        for tp, fp, _, fn, support in counts.tolist()
    ]


def _per_label(
    probabilities: np.ndarray, targets: np.ndarray, named: np.ndarray, labels: Sequence[str]
) -> list[dict[str, Any]]:
    inside = targets >= 0
    if not inside.any():
        return []
    best = probabilities.argmax(axis=1)
    rows = []
    for i, (precision, recall, f1, support) in enumerate(_label_scores(probabilities[inside], targets[inside])):
        of_it = targets == i
        rows.append({"label": labels[i], "support": support, "precision": precision, "recall": recall, "f1": f1,
                     "kept": ratio(int(named[of_it].sum()), support),
                     "right": ratio(int((named & (best == i))[of_it].sum()), support)})  # fmt: skip
    return rows
