"""The model card: a bundle's README.md in Hugging Face's format, rendered from config.json alone.

`templates/card.md` is the card; a task's own template fills its blocks. Source of the front matter:
https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from shared.bundle.layout import BundleConfig, TagDecision
from shared.templates import templates

PIPELINES = {"tagging": "image-classification", "intent": "text-classification", "qa": "question-answering"}
"""Task -> pipeline_tag, as Hugging Face names it: https://huggingface.co/tasks"""
EXAMPLES = {"tagging": "photos", "intent": "utterances", "qa": "questions"}
"""Task -> what its examples are called."""
SPLITS = {"val": "validation", "test": "test", "train": "training"}
SOURCE_METRICS = (
    ("accuracy", "accuracy", "Accuracy"),
    ("top1", "accuracy", "Top-1 accuracy"),
    ("top5", "top_5_accuracy", "Top-5 accuracy"),
    ("map", "mean_average_precision", "Mean average precision"),
    ("macro_f1", "f1", "F1 (macro)"),
    ("exact", "exact_match", "Exact match"),
    ("f1", "f1", "F1"),
    ("auroc", "roc_auc", "AUROC of what has no answer here"),
    ("ece", "expected_calibration_error", "Expected calibration error"),
)
"""What `metrics` of a set go into the model index: (key, type, name)."""
HEADLINES = {
    "accuracy": "accuracy",
    "top1": "top-1 accuracy",
    "map": "mean average precision",
    "f1": "F1",
    "f1_at_threshold": "F1 with unanswerable questions",
    "auroc": "AUROC of what has no answer here",
    "ece": "calibration error",
}
"""Overall metric -> its name in the table under the title; those that a task lacks are left out."""
PLACES = ("learning_curves", "reliability", "per_label", "confusion")
"""How a picture's file name starts if it has a place of its own in the card."""
SHOWN_LABELS = 40
"""More labels than these are folded."""
SHOWN_CONFUSIONS = 15
FINGERPRINT_CHARACTERS = 12


def render_card(config: BundleConfig, *, plots: Sequence[str] = (), has_weights: bool = True) -> str:
    """Return README.md: YAML front matter with a model index, then what people ask of a model.

    Args:
        config: its `metrics` map splits to what the task's `evaluation.evaluate` returns; its `card` holds what a
            person says: summary, license, intended_use, not_for, limits, recipe, each optional.
        plots: names of pictures beside README.md; learning_curves, reliability, per_label and confusion go to their
            sections, others to the end.
        has_weights: whether model.safetensors is beside it; copies for serving on a CPU lack it.
    """
    pictures = {place: [name for name in plots if name.startswith(place)] for place in PLACES}
    gate = config.onnx.int8_gate if config.onnx else None
    text = _TEMPLATES.select_template([f"{config.task}.md", "card.md"]).render(
        config=config,
        front=yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True, width=1000).rstrip(),
        examples=EXAMPLES.get(config.task, "examples"),
        said=defaultdict(str, {key: str(value or "").strip() for key, value in config.card.items()}),
        plots={**pictures, "other": [name for name in plots if not name.startswith(PLACES)]},
        datasets=[_shown_dataset(entry) for entry in config.provenance.dataset],
        int8_gate=gate and [{"name": name.replace("_", " "), "value": gate[name]} for name in gate if name != "passed"],
        has_weights=has_weights,
        **_labels(config),
        **_measurements(config),
    )
    return text.rstrip() + "\n"


def front_matter(config: BundleConfig) -> dict[str, Any]:
    """Return the card's metadata."""
    said = config.card.get("license")
    known = isinstance(said, str) and re.fullmatch(r"[A-Za-z0-9.+-]+", said)
    pipeline = PIPELINES.get(config.task)
    results = list(_results(config, pipeline or config.task))
    used = list(dict.fromkeys(metric["type"] for result in results for metric in result["metrics"]))
    front: dict[str, Any] = {"license": str(said).lower() if known else "other" if said else "unknown"}
    if said and not known:
        front["license_name"] = str(said)
    if config.languages:
        front["language"] = config.languages
    front["library_name"] = "percept"
    if pipeline:
        front["pipeline_tag"] = pipeline
    front["tags"] = list(dict.fromkeys(["percept", config.task, "onnx", *config.architectures, "calibrated"]))
    front["datasets"] = [_dataset_id(entry) for entry in config.provenance.dataset]
    if used:
        front["metrics"] = used
    if results:
        front["model-index"] = [{"name": config.name, "results": results}]
    return front


def _results(config: BundleConfig, task: str) -> list[dict[str, Any]]:
    entries = {entry.get("name"): entry for entry in config.provenance.dataset}
    results = []
    for split, measured in measured_splits(config).items():
        for name, values in measured["sources"].items():
            entry = entries.get(name, {"name": name})
            metrics = [
                {"type": kind, "value": values[key], "name": shown}
                for key, kind, shown in SOURCE_METRICS
                if values.get(key) is not None
            ]
            dataset = {"type": _dataset_id(entry), "name": str(name), "split": split}
            if entry.get("fingerprint"):
                dataset["revision"] = str(entry["fingerprint"])
            if metrics:
                results.append({"task": {"type": task}, "dataset": dataset, "metrics": metrics})
    return results


def _dataset_id(entry: Mapping[str, Any]) -> str:
    """Return the hub's name of a set where its origin tells it, else its own name in the hub's spelling."""
    hub = re.search(r"huggingface\.co/datasets/([\w.-]+/[\w.-]+)", str(entry.get("origin") or ""))
    if hub:
        return hub[1]
    return re.sub(r"[^a-z0-9._-]+", "-", str(entry.get("name", "unknown")).lower()).strip("-.") or "unknown"


def measured_splits(config: BundleConfig) -> dict[str, dict[str, Any]]:
    """Return split -> metrics for the splits that were measured set by set; the test split first."""
    found = {name: m for name, m in config.metrics.items() if isinstance(m, Mapping) and "sources" in m}
    return {name: dict(found[name]) for name in sorted(found, key=lambda name: (name != "test", name))}


def cell(value: object) -> str:
    r"""Return a value as one line of Markdown text; what would end a table cell or start HTML is escaped.

    >>> cell("a|b <i>"), cell(12345), cell(0.81249), cell(None)
    ('a\\|b &lt;i&gt;', '12,345', '0.812', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = " ".join(str(value).split())
    for old, new in (("\\", "\\\\"), ("|", "\\|"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("*", "\\*")):
        text = text.replace(old, new)
    return text


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> str:
    """Return a Markdown table of the columns that some row has; text is aligned left, numbers right.

    Args:
        rows: key -> value; a value that is missing or None is a dash.
        columns: key -> heading.

    >>> print(table([{"name": "a", "photos": 1200}], {"name": "name", "photos": "photos", "labels": "labels"}))
    | name | photos |
    |:--|--:|
    | a | 1,200 |
    """
    keys = [key for key in columns if any(key in row for row in rows)]
    cells = [[cell(row.get(key)) for key in keys] for row in rows]
    sides = ["--:" if _is_number(column) else ":--" for column in zip(*cells, strict=True)]
    lines = [[columns[key] for key in keys], *cells]
    header, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([header, f"|{'|'.join(sides)}|", *body])


def _is_number(column: Iterable[str]) -> bool:
    return all(text == "–" or text.replace(",", "").replace(".", "", 1).isdigit() for text in column)


def _shown_dataset(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: value for key, value in entry.items() if value is not None},
        "licence": entry.get("licence") or "not stated",
        "origin": entry.get("origin") or "not stated",
        "fingerprint": str(entry.get("fingerprint") or "")[:FINGERPRINT_CHARACTERS],
    }


def _labels(config: BundleConfig) -> dict[str, Any]:
    """Return the labels in groups by the topmost label above them, and what the card says of all of them."""
    groups: dict[str, list[str]] = defaultdict(list)
    parents = {parent for above in config.label_parents.values() for parent in above}
    for label in config.labels:
        for root in _roots(label, config.label_parents):
            if root != label:
                groups[root].append(label)
            elif label not in parents:
                groups[""].append(label)
    ungrouped = groups.pop("", [])
    shown = [(root, groups[root]) for root in sorted(groups)]
    if ungrouped:
        shown.append(("others" if groups else "", ungrouped))
    found: dict[str, Any] = {
        "label_groups": shown,
        "num_parents": len(parents),
        "folds_labels": len(config.labels) > SHOWN_LABELS,
    }
    if isinstance(config.decision, TagDecision):
        thresholds = sorted(config.decision.thresholds[label] for label in config.labels)
        found["thresholds"] = {
            "lowest": thresholds[0],
            "median": thresholds[len(thresholds) // 2],
            "highest": thresholds[-1],
        }
    return found


def _roots(label: str, parents: Mapping[str, list[str]]) -> list[str]:
    """Return the topmost ancestors of a label; itself if it has none."""
    above = parents.get(label)
    return [label] if not above else sorted({root for parent in above for root in _roots(parent, parents)})


def _measurements(config: BundleConfig) -> dict[str, Any]:
    """Return the rows of all tables of metrics."""
    splits = {SPLITS.get(split, split): metrics for split, metrics in measured_splits(config).items()}
    sets = [
        {**values, "split": split, "set": name}
        for split, metrics in splits.items()
        for name, values in metrics["sources"].items()
    ]
    overall = [{**metrics["overall"], "split": split, "set": "all sets"} for split, metrics in splits.items()]
    return {
        "headlines": [
            (f"{name} ({row['split']})", row[key])
            for row in overall[:1]
            for key, name in HEADLINES.items()
            if row.get(key) is not None
        ],
        "sets": sets,
        "overall": overall,
        "sets_and_overall": [row for total in overall for row in [*sets, total] if row["split"] == total["split"]],
        "has_test": "test" in splits,
        "worth": next(((row, values["worth"]) for row, values in splits.items() if values.get("worth")), None),
        "validated": splits.get("validation", {}).get("overall", {}).get("examples"),
        "ece_by_split": [(row["split"], row["ece"]) for row in overall if row.get("ece") is not None],
        "per_label": _first(splits, "per_label"),
        "confusions": _first(splits, "confusions", SHOWN_CONFUSIONS),
    }


def _first(splits: Mapping[str, Mapping[str, Any]], key: str, count: int | None = None) -> dict[str, Any] | None:
    """Return the rows that the first split with any has."""
    return next(({"split": name, "rows": found[key][:count]} for name, found in splits.items() if found.get(key)), None)


_TEMPLATES = templates("shared.bundle", cell=cell, table=table)
