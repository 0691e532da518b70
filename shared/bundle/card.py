"""The model card: a bundle's README.md in Hugging Face's format, rendered from config.json alone.

Generated, never edited. Source of the front matter: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from shared.bundle.card_tasks import SPLITS, measured_splits, of_task
from shared.bundle.layout import ONNX, WEIGHTS, BundleConfig
from shared.bundle.markdown import escape, folded, number, or_dash, paragraphs, table

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
PLACES = ("learning_curves", "reliability", "per_label", "confusion")
"""How a picture's file name starts, for those that have a section of their own."""

SHOWN_LABELS = 40
SHOWN_CONFUSIONS = 15
FINGERPRINT_CHARACTERS = 12
HEADLINES = (
    ("accuracy", "accuracy"),
    ("top1", "top-1 accuracy"),
    ("map", "mean average precision"),
    ("f1", "F1"),
    ("f1_at_threshold", "F1 with unanswerable questions"),
    ("auroc", "AUROC of what has no answer here"),
    ("ece", "calibration error"),
)
"""Overall metric -> its name in the table under the title; those that a task has not are left out."""
DATA_COUNTS = (("labels", "labels"), ("out_of_scope", "out of scope"), ("unanswerable", "unanswerable"),
               ("skipped", "left out"), ("contradictions", "contradictions"))  # fmt: skip
"""What a set's entry counts -> heading."""
CONFUSION_COLUMNS = {"label": "label", "given": "taken for", "source": "set", "count": "times", "of": "of"}
COLUMNS = {"support": "", "ap": "average precision", "f1": "F1", "precision": "precision", "recall": "recall",
           "threshold": "threshold", "kept": "named"}  # fmt: skip
"""Column of the table of labels -> heading; `support` has the examples' name."""


def render_card(config: BundleConfig, *, plots: Sequence[str] = (), has_weights: bool = True) -> str:
    """Return README.md: YAML front matter with a model index, then what people ask of a model.

    Args:
        config: its `metrics` map splits to what the task's `evaluation.evaluate` returns; its `card` holds what a
            person says: summary, license, intended_use, not_for, limits, recipe, each optional.
        plots: names of pictures beside README.md; learning_curves, reliability, per_label and confusion go to their
            sections, others to the end.
        has_weights: whether model.safetensors is beside it; copies for serving on a CPU lack it.
    """
    own = of_task(config)
    pictures = {place: [name for name in plots if name.startswith(place)] for place in PLACES}
    rest = [name for name in plots if not name.startswith(PLACES)]
    front = yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        _title(config),
        own.usage(config),
        _labels(config),
        _intended_use(config),
        _training_data(config),
        _training(config),
        *_pictures(pictures["learning_curves"], "Learning curves"),
        own.evaluation(config),
        _per_label(config),
        *_pictures(pictures["per_label"], "The hardest and the easiest labels, in brackets their examples"),
        _confusions(config),
        *_pictures(pictures["confusion"], "The most frequent confusions"),
        own.calibration(config),
        *_pictures(pictures["reliability"], "Reliability: how often answers are right against their score"),
        _export_report(config, has_weights=has_weights),
        _limits(config),
        _provenance(config),
        *_pictures(rest, "Picture"),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def front_matter(config: BundleConfig) -> dict[str, Any]:
    """Return the card's metadata."""
    said = config.card.get("license")
    known = isinstance(said, str) and re.fullmatch(r"[A-Za-z0-9.+-]+", said)
    pipeline = of_task(config).pipeline
    results = list(_results(config, pipeline or config.task))
    used = list(dict.fromkeys(metric["type"] for result in results for metric in result["metrics"]))
    front: dict[str, Any] = {"license": str(said).lower() if known else "other" if said else "unknown"}
    if said and not known:
        front["license_name"] = str(said)
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


def _pictures(names: Sequence[str], caption: str) -> list[str]:
    return [f"![{caption}]({name})" for name in names]


def _title(config: BundleConfig) -> str:
    """Return heading, summary and the model in one table."""
    exported = config.onnx.precision if config.onnx else "none"
    kind = "one label a photo" if config.problem_type == "single_label_classification" else "several labels a photo"
    facts: list[tuple[str, object]] = [
        ("version", config.version),
        ("task", f"{config.task}, {kind}" if config.task == "tagging" else config.task),
        ("network", ", ".join(config.architectures)),
        *([("labels", len(config.labels))] if config.problem_type else []),
        ("ONNX", exported),
    ]
    overall = next(iter(measured_splits(config).items()), None)
    if overall:
        split, metrics = overall
        for key, name in HEADLINES:
            if metrics["overall"].get(key) is not None:
                facts.append((f"{name} ({SPLITS.get(split, split)})", metrics["overall"][key]))
    rows = "\n".join(f"| {name} | {number(v) if isinstance(v, float) else escape(v)} |" for name, v in facts)
    return paragraphs(f"# {config.name}", _said(config, "summary"), f"| | |\n|:--|:--|\n{rows}")


def _labels(config: BundleConfig) -> str:
    """Return all labels, by the topmost label above them where there is a taxonomy; folded where they are many."""
    if config.problem_type is None:
        return ""
    groups: dict[str, list[str]] = defaultdict(list)
    all_parents = {parent for above in config.label_parents.values() for parent in above}
    for label in config.labels:
        for root in _roots(label, config.label_parents):
            if root != label:
                groups[root].append(label)
            elif label not in all_parents:
                groups[""].append(label)
    lines = [f"**{escape(root)}** ({len(groups[root])}): {_listed(groups[root])}" for root in sorted(groups) if root]
    if groups[""]:
        lines.append((f"**others** ({len(groups[''])}): " if lines else "") + _listed(groups[""]))
    content = "\n\n".join(lines)
    intro = f"{len(config.labels):,} labels"
    if all_parents:
        intro += f", {len(all_parents):,} of which are parents of others: a photo with a label has its parents too"
    shown = content if len(config.labels) <= SHOWN_LABELS else folded("All labels", content)
    return paragraphs("## Labels", f"{intro}.", shown)


def _intended_use(config: BundleConfig) -> str:
    """Return what a person says the model is for, and what not."""
    not_for = _said(config, "not_for")
    parts = [_said(config, "intended_use"), f"**Not for:** {not_for}" if not_for else ""]
    return paragraphs("## Intended use", *parts) if any(parts) else ""


def _training_data(config: BundleConfig) -> str:
    """Return one row a set."""
    counts = [
        (key, name)
        for key, name in DATA_COUNTS
        if any(isinstance(entry.get(key), int) for entry in config.provenance.dataset)
    ]
    rows = [
        (
            entry.get("name"),
            entry.get("examples"),
            *(entry.get(key) for key, _ in counts),
            entry.get("licence") or "not stated",
            entry.get("origin") or "not stated",
            str(entry.get("fingerprint") or "")[:FINGERPRINT_CHARACTERS],
        )
        for entry in config.provenance.dataset
    ]
    examples = of_task(config).examples
    header = ("set", examples, *(name for _, name in counts), "licence", "origin", "fingerprint")
    note = (
        f"Left out are broken rows, duplicates and {examples} without a label. The fingerprint is the start of a "
        "SHA-256 over all of a set; config.json has it whole."
    )
    return paragraphs("## Training data", table(header, rows), note) if rows else ""


def _training(config: BundleConfig) -> str:
    """Return the recipe and the command."""
    source = config.provenance
    command = f"```bash\n{source.command}\n```" if source.command else ""
    start = f"Start weights: {escape(source.start_weights)}. Seed: {source.seed}."
    return paragraphs("## Training", _said(config, "recipe"), start, command)


def _per_label(config: BundleConfig) -> str:
    """Return a folded table of every label, of the split that tells most."""
    for split, metrics in measured_splits(config).items():
        if metrics.get("per_label"):
            keys = [key for key in COLUMNS if key in metrics["per_label"][0]]
            rows = [
                (r["label"], *(r[k] if k == "support" else or_dash(r[k]) for k in keys)) for r in metrics["per_label"]
            ]
            examples = of_task(config).examples
            header = ("label", *(COLUMNS[key] or examples for key in keys))
            name = SPLITS.get(split, split)
            return paragraphs(
                "### Labels one by one", folded(f"{len(rows):,} labels on {name} {examples}", table(header, rows))
            )
    return ""


def _confusions(config: BundleConfig) -> str:
    """Return the most frequent confusions of the split that tells most."""
    for split, metrics in measured_splits(config).items():
        if metrics.get("confusions"):
            keys = [key for key in CONFUSION_COLUMNS if key in metrics["confusions"][0]]
            rows = [tuple(row[key] for key in keys) for row in metrics["confusions"]]
            text = table([CONFUSION_COLUMNS[key] for key in keys], rows[:SHOWN_CONFUSIONS])
            where = f"{SPLITS.get(split, split)} {of_task(config).examples}"
            return paragraphs("### Confusions", folded(f"The most frequent on {where}", text))
    return ""


def _export_report(config: BundleConfig, *, has_weights: bool) -> str:
    """Return how near model.onnx is to the trained network, and what the int8 gate decided."""
    if config.onnx is None:
        return ""
    onnx = config.onnx
    text = (
        f"`{ONNX}` is {onnx.precision} (opset {onnx.opset}); its outputs differ from torch's by at most "
        f"{onnx.max_abs_difference:.2g}, allowed at start-up are {onnx.tolerance:.2g}. "
    )
    if has_weights:
        text += f"`{WEIGHTS}` holds the trained weights for GPUs and further training."
    else:
        text += (
            f"This is a copy for serving on a CPU, without `{WEIGHTS}`: the full weights, for GPUs and further "
            "training, are in the bundle that the command under Training ends in."
        )
    gate = onnx.int8_gate
    if gate is None:
        return paragraphs("## Export", text, "int8 was not tried.")
    verdict = "passed: int8 ships" if gate.get("passed") else "not passed: fp32 ships"
    rows = [(name.replace("_", " "), value) for name, value in gate.items() if name != "passed"]
    return paragraphs("## Export", text, f"int8 gate {verdict}.", table(("int8 gate", "value"), rows))


def _limits(config: BundleConfig) -> str:
    """Return what a person says the model cannot do."""
    said = _said(config, "limits")
    return paragraphs("## Limits", said) if said else ""


def _provenance(config: BundleConfig) -> str:
    """Return when and with what the model was made."""
    source = config.provenance
    rows = [("made", source.created), ("commit", source.git_commit or "not recorded"), ("seed", str(source.seed))]
    rows += [(name, version) for name, version in source.versions.items()]
    return paragraphs("## Provenance", table(("what", "value"), rows), "This card was generated from `config.json`.")


def _roots(label: str, parents: Mapping[str, list[str]]) -> list[str]:
    """Return the topmost ancestors of a label; itself if it has none."""
    above = parents.get(label)
    return [label] if not above else sorted({root for parent in above for root in _roots(parent, parents)})


def _listed(names: list[str]) -> str:
    return ", ".join(escape(name) for name in names)


def _said(config: BundleConfig, key: str) -> str:
    return str(config.card.get(key) or "").strip()
