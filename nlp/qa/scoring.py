"""A finished bundle judged on questions, through the runtime that serves it: what `percept evaluate` prints.

Neighbours: `data` reads and splits the questions, `judging` asks, `evaluation` measures.
"""

from __future__ import annotations

from typing import Any

from nlp.qa.data import AnswerData
from nlp.qa.evaluation import evaluate
from nlp.qa.judging import Judged, judge_runtime, scores_of
from nlp.qa.predictor import AnswerPredictor
from shared.errors import DataError


def ask(predictor: AnswerPredictor, data: AnswerData, split: str) -> Judged:
    """Return the questions of a split with what the bundle finds.

    Args:
        predictor: of the bundle.
        data: the questions; set up here.
        split: "train", "val", "test", or "all" for a set that was never trained on.

    Raises:
        DataError: the split holds no question.
    """
    data.setup()
    parts = [data.splits[name] for name in (("test", "val", "train") if split == "all" else (split,))]
    examples = [example for part in parts for example in part]
    if not examples:
        raise DataError(f"the {split} split holds no question. Name another with --split, or raise data.{split}_share.")
    return judge_runtime(
        predictor.runtime,
        predictor.encoder,
        examples,
        max_answer_tokens=predictor.decision.max_answer_tokens,
        title=f"asking {split}",
        max_windows=data.max_windows,
    )


def measure(judged: Judged, predictor: AnswerPredictor, data: AnswerData) -> dict[str, Any]:
    """Return `evaluate`'s metrics at the bundle's own decision."""
    scores = scores_of(judged, predictor.decision)
    names = [source.name for source in data.sources]
    return evaluate(judged.examples, judged.predictions, scores, predictor.decision.abstain_below, names)


def table(metrics: dict[str, Any]) -> str:
    """Return the metrics as people read them, a line a set."""
    columns = (("exact", "EM"), ("f1", "F1"), ("auroc", "AUROC"), ("answered", "answered"), ("silent", "silent"),
               ("f1_at_threshold", "F1 all"), ("ece", "ECE"))  # fmt: skip
    rows = {**metrics["sources"], "all sets": metrics["overall"]}
    width = max(map(len, rows))
    lines = [f"{'':<{width}}  questions  crossed" + "".join(f"  {shown:>8}" for _, shown in columns)]
    for name, values in rows.items():
        found = "".join(f"  {_number(values.get(key)):>8}" for key, _ in columns)
        lines.append(f"{name:<{width}}  {values['examples']:>9,}  {values['unanswerable']:>7,}{found}")
    lines.append(
        "EM, F1: of answerable questions, always answered. answered, silent, F1 all: at the bundle's threshold."
    )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
