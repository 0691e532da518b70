"""What `percept evaluate` says of a tagger: all metrics, and the same as a table for people.

Neighbours: `scoring` judges photos, `evaluation` measures.
"""

from __future__ import annotations

from typing import Any

from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime
from shared.task import Evaluation
from vision.tagging.data import TaggingData
from vision.tagging.predictor import TagPredictor
from vision.tagging.scoring import measure, score_photos, split_warnings, wrong_photos

_SHEET_PHOTOS = 24
_SHOWN_LABELS = 10
_COLUMNS = (("top1", "top-1"), ("top5", "top-5"), ("map", "mAP"), ("parents_map", "parents"), ("macro_f1", "F1"),
            ("ece", "ECE"))  # fmt: skip


def evaluate(bundle: Bundle, runtime: Runtime, data: TaggingData, split: str) -> Evaluation:
    """Return a bundle's metrics on a split, through the runtime; raises as `score_photos`."""
    predictor = TagPredictor(bundle, runtime)
    scored = score_photos(predictor, data, split)
    report = {
        "left_out": scored.left_out,
        "unknown_labels": {name: dict(counts.most_common()) for name, counts in scored.unknown.items()},
        **measure(scored, predictor, data),
    }

    def most_wrong() -> bytes:
        from shared.training.contact_sheet import contact_sheet

        return contact_sheet(wrong_photos(scored, predictor, data, _SHEET_PHOTOS))

    return Evaluation(report, _table(report), split_warnings(bundle, data), most_wrong)


def _table(report: dict[str, Any]) -> str:
    overall, lines = report["overall"], []
    width = max(len(name) for name in (*report["sources"], "all sets"))
    lines.append(f"{'':<{width}}  {'photos':>7}  {'labels':>6}" + "".join(f"  {shown:>7}" for _, shown in _COLUMNS))
    for name, values in {**report["sources"], "all sets": overall}.items():
        numbers = "".join(f"  {_number(values.get(key)):>7}" for key, _ in _COLUMNS)
        lines.append(f"{name:<{width}}  {values['examples']:>7,}  {values['labels']:>6,}{numbers}")
    lines += [
        "",
        f"quality {_number(overall['quality'])}; at the thresholds: precision {_number(overall['micro_precision'])}, "
        f"recall {_number(overall['micro_recall'])}, F1 {_number(overall['micro_f1'])}; "
        f"{100 * (overall['untagged'] or 0):.1f} % of photos get no tag",
    ]
    ranked = sorted((row for row in report["per_label"] if row["ap"] is not None), key=lambda row: row["ap"])
    if ranked:
        hardest = ", ".join(f"{row['label']} {row['ap']:.2f}" for row in ranked[:_SHOWN_LABELS])
        lines.append(f"hardest labels by average precision: {hardest}")
    if report["confusions"]:
        pairs = (f"{r['label']} -> {r['given']} ({r['count']} of {r['of']})" for r in report["confusions"][:5])
        lines.append(f"most frequent confusions: {', '.join(pairs)}")
    for name, counts in report["unknown_labels"].items():
        listed = ", ".join(f"{label} ({count})" for label, count in list(counts.items())[:_SHOWN_LABELS])
        more = f" and {len(counts) - _SHOWN_LABELS} more" if len(counts) > _SHOWN_LABELS else ""
        lines.append(f"{name}: the bundle does not know {listed}{more} (photos in brackets)")
    if report["left_out"]:
        lines.append(f"{report['left_out']:,} photos were left out: the bundle knows none of their labels")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
