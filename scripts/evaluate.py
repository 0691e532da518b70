"""`percept evaluate BUNDLE`: measures a bundle on labelled photos, through the runtime that serves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

_SHEET_PHOTOS = 24
_SHOWN_LABELS = 10
_COLUMNS = (("top1", "top-1"), ("top5", "top-5"), ("map", "mAP"), ("parents_map", "parents"), ("macro_f1", "F1"),
            ("ece", "ECE"))  # fmt: skip


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    """Measure BUNDLE on labelled photos."""
    from scripts.settings import make_parser, parse
    from scripts.tasks import task_of
    from shared.bundle.read import read_bundle
    from shared.runtime.choose import choose_runtime
    from vision.tagging.data import TaggingData
    from vision.tagging.predictor import TagPredictor
    from vision.tagging.scoring import SPLITS, measure, score_photos, split_warnings, wrong_photos

    parser = make_parser(TaggingData, prog="percept evaluate", description="Measure a bundle on labelled photos.")
    parser.add_argument("bundle", type=str, help="The model folder.")
    parser.add_argument("--split", choices=SPLITS, default="test", help="Which photos; default: %(default)s.")
    parser.add_argument("--json", action="store_true", help="Print all metrics as JSON.")
    parser.add_argument(
        "--contact-sheet", type=str, metavar="FILE.png", help="Write the most wrong photos to a picture."
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="What computes.")
    settings = parse(parser, args)

    bundle = read_bundle(settings.bundle)
    runtime = choose_runtime(bundle, settings.device, network=task_of(bundle.config, only="tagging").network)
    predictor = TagPredictor(bundle, runtime)
    data = parser.instantiate(settings).data
    scored = score_photos(predictor, data, settings.split)
    if settings.split in ("test", "val"):
        for line in split_warnings(bundle, data):
            click.echo(f"percept: {line}", err=True)
    metrics = measure(scored, predictor, data)
    if settings.contact_sheet:
        from shared.training.contact_sheet import contact_sheet

        Path(settings.contact_sheet).write_bytes(contact_sheet(wrong_photos(scored, predictor, data, _SHEET_PHOTOS)))
    report = {
        "model": {"name": bundle.name, "version": bundle.version, "runtime": runtime.description},
        "split": settings.split,
        "left_out": scored.left_out,
        "unknown_labels": {name: dict(counts.most_common()) for name, counts in scored.unknown.items()},
        **metrics,
    }
    click.echo(json.dumps(report, ensure_ascii=False, indent=2) if settings.json else _table(report))


def _table(report: dict[str, Any]) -> str:
    model, overall = report["model"], report["overall"]
    lines = [f"{model['name']} {model['version']} on {model['runtime']}; split {report['split']}", ""]
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
