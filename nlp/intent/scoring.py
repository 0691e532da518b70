"""A bundle measured on labelled utterances, through the runtime that serves it; for `percept evaluate`.

The data's intents are the bundle's by name; what the bundle does not know is named and left out, never counted as
wrong. Neighbours: `data` brings the utterances, `judging` asks the runtime, `evaluation` measures.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from nlp.intent.data import SPLITS, IntentData
from nlp.intent.judging import judge_runtime, measure
from nlp.intent.predictor import IntentPredictor
from nlp.intent.wrong import wrong_lines
from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.runtime.protocol import Runtime
from shared.task import Evaluation
from shared.training.provenance import split_warnings

SHOWN = 5
COLUMNS = (("accuracy", "accuracy"), ("macro_f1", "F1"), ("ece", "ECE"), ("auroc", "AUROC"), ("kept", "named"),
           ("out_of_scope_recall", "refused"), ("right", "right"))  # fmt: skip


def evaluate_bundle(bundle: Bundle, runtime: Runtime, data: IntentData, split: str) -> Evaluation:
    """Return a bundle's metrics on a split.

    Args:
        bundle: its tokenizer, labels and decision hold; those of the data are of no account.
        runtime: of the bundle.
        data: the utterances.
        split: "train", "val", "test" or "all".

    Raises:
        DataError: the split has no utterance, or the bundle knows none of its intents.
    """
    predictor = IntentPredictor(bundle, runtime)
    data.read()
    chosen = [e for name in (SPLITS if split == "all" else (split,)) for e in data.splits[name]]
    if not chosen:
        sizes = ", ".join(f"{name} {len(part)}" for name, part in data.splits.items())
        raise DataError(f"the split {split!r} has no utterance ({sizes}). Choose another with --split.")
    known = bundle.config.label2id
    examples = [e for e in chosen if e.label is None or e.label in known]
    strangers = Counter(e.label for e in chosen if e.label is not None and e.label not in known)
    if not examples:
        raise DataError(
            f"the bundle knows none of the intents of these {len(chosen)} utterances, such as {chosen[0].label!r}; it "
            f"knows {', '.join(bundle.labels[:SHOWN])}, … Choose another bundle."
        )
    targets = [-1 if e.label is None else known[e.label] for e in examples]
    judged = judge_runtime(runtime, predictor.encoder, [e.text for e in examples], targets, "judging")
    names = [source.name for source in data.sources]
    source_ids = np.array([e.source for e in examples])
    metrics: dict[str, Any] = {
        "left_out": len(chosen) - len(examples),
        "unknown_labels": dict(strangers.most_common()),
        **measure(judged, source_ids, predictor.detector, predictor.decision, bundle.labels, names),
    }

    undivided = [source.summary() for source in data.sources if source.options.split is None]
    warnings = split_warnings(bundle.config.provenance, undivided, data.seed, data.shares)

    def most_wrong() -> bytes:
        return (
            "\n".join(wrong_lines(judged, examples, bundle.labels, predictor.detector, predictor.decision)).encode()
            + b"\n"
        )

    return Evaluation(metrics, _table(metrics), warnings, most_wrong)


def _table(metrics: dict[str, Any]) -> str:
    rows = {**metrics["sources"], "all sets": metrics["overall"]}
    width = max(len(name) for name in rows)
    lines = [f"{'':<{width}}  {'utterances':>10}  {'outside':>7}" + "".join(f"  {shown:>8}" for _, shown in COLUMNS)]
    for name, values in rows.items():
        numbers = "".join(f"  {_number(values[key]):>8}" for key, _ in COLUMNS)
        lines.append(f"{name:<{width}}  {values['examples']:>10,}  {values['out_of_scope']:>7,}{numbers}")
    if metrics["confusions"]:
        pairs = (f"{r['label']} -> {r['given']} ({r['count']} of {r['of']})" for r in metrics["confusions"][:SHOWN])
        lines += ["", f"most frequent confusions: {', '.join(pairs)}"]
    if metrics["unknown_labels"]:
        listed = ", ".join(f"{label} ({count})" for label, count in list(metrics["unknown_labels"].items())[:SHOWN])
        lines.append(f"{metrics['left_out']:,} utterances were left out: the bundle does not know {listed}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
