"""The sections of a model card, each from config.json; a section without content is an empty text.

Neighbour: `card` puts them in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from shared.bundle.layout import ONNX, WEIGHTS, BundleConfig
from shared.bundle.markdown import escape, folded, number, table

SHOWN_LABELS = 40
SHOWN_CONFUSIONS = 15
FINGERPRINT_CHARACTERS = 12
SPLITS = {"val": "validation", "test": "test", "train": "training"}
EXAMPLES = {"tagging": "photos", "intent": "utterances", "qa": "questions"}
"""Task -> what its examples are called."""
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


def measured_splits(config: BundleConfig) -> dict[str, dict[str, Any]]:
    """Return split -> metrics for the splits that were measured set by set; the test split first."""
    found = {name: m for name, m in config.metrics.items() if isinstance(m, Mapping) and "sources" in m}
    return {name: dict(found[name]) for name in sorted(found, key=lambda name: (name != "test", name))}


def title(config: BundleConfig) -> str:
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
    return joined(f"# {config.name}", _said(config, "summary"), f"| | |\n|:--|:--|\n{rows}")


def labels(config: BundleConfig) -> str:
    """Return all labels, by the topmost label above them where there is a taxonomy; folded where they are many."""
    if config.problem_type is None:
        return ""
    groups: dict[str, list[str]] = defaultdict(list)
    standing_above = {parent for above in config.label_parents.values() for parent in above}
    for label in config.labels:
        for root in _roots(label, config.label_parents):
            if root != label:
                groups[root].append(label)
            elif label not in standing_above:
                groups[""].append(label)
    lines = [f"**{escape(root)}** ({len(groups[root])}): {_listed(groups[root])}" for root in sorted(groups) if root]
    if groups[""]:
        lines.append((f"**others** ({len(groups[''])}): " if lines else "") + _listed(groups[""]))
    content = "\n\n".join(lines)
    intro = f"{len(config.labels):,} labels"
    if standing_above:
        intro += f", {len(standing_above):,} of which stand above others: a photo with a label has those above it too"
    shown = content if len(config.labels) <= SHOWN_LABELS else folded("All labels", content)
    return joined("## Labels", f"{intro}.", shown)


def intended_use(config: BundleConfig) -> str:
    """Return what a person says the model is for, and what not."""
    not_for = _said(config, "not_for")
    parts = [_said(config, "intended_use"), f"**Not for:** {not_for}" if not_for else ""]
    return joined("## Intended use", *parts) if any(parts) else ""


def training_data(config: BundleConfig) -> str:
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
    examples = EXAMPLES.get(config.task, "examples")
    header = ("set", examples, *(name for _, name in counts), "licence", "origin", "fingerprint")
    note = (
        f"Left out are broken rows, duplicates and {examples} without a label. The fingerprint is the start of a "
        "SHA-256 over all of a set; config.json has it whole."
    )
    return joined("## Training data", table(header, rows), note) if rows else ""


def training(config: BundleConfig) -> str:
    """Return the recipe and the command."""
    source = config.provenance
    command = f"```bash\n{source.command}\n```" if source.command else ""
    start = f"Start weights: {escape(source.start_weights)}. Seed: {source.seed}."
    return joined("## Training", _said(config, "recipe"), start, command)


def per_label(config: BundleConfig) -> str:
    """Return a folded table of every label, of the split that tells most."""
    for split, metrics in measured_splits(config).items():
        if metrics.get("per_label"):
            keys = [key for key in COLUMNS if key in metrics["per_label"][0]]
            rows = [
                (r["label"], *(r[k] if k == "support" else value(r[k]) for k in keys)) for r in metrics["per_label"]
            ]
            examples = EXAMPLES.get(config.task, "examples")
            header = ("label", *(COLUMNS[key] or examples for key in keys))
            name = SPLITS.get(split, split)
            return joined(
                "### Labels one by one", folded(f"{len(rows):,} labels on {name} {examples}", table(header, rows))
            )
    return ""


def confusions(config: BundleConfig) -> str:
    """Return the most frequent confusions of the split that tells most."""
    for split, metrics in measured_splits(config).items():
        if metrics.get("confusions"):
            keys = [key for key in CONFUSION_COLUMNS if key in metrics["confusions"][0]]
            rows = [tuple(row[key] for key in keys) for row in metrics["confusions"]]
            text = table([CONFUSION_COLUMNS[key] for key in keys], rows[:SHOWN_CONFUSIONS])
            where = f"{SPLITS.get(split, split)} {EXAMPLES.get(config.task, 'examples')}"
            return joined("### Confusions", folded(f"The most frequent on {where}", text))
    return ""


def calibration_errors(config: BundleConfig) -> str:
    """Return the calibration error of each split in a sentence."""
    examples = EXAMPLES.get(config.task, "examples")
    found = [
        f"{number(metrics['overall']['ece'])} on {SPLITS.get(split, split)} {examples}"
        for split, metrics in measured_splits(config).items()
        if metrics["overall"].get("ece") is not None
    ]
    return f"Expected calibration error: {', '.join(found)}." if found else ""


def export_report(config: BundleConfig, *, has_weights: bool) -> str:
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
        return joined("## Export", text, "int8 was not tried.")
    verdict = "passed: int8 ships" if gate.get("passed") else "not passed: fp32 ships"
    rows = [(name.replace("_", " "), value) for name, value in gate.items() if name != "passed"]
    return joined("## Export", text, f"int8 gate {verdict}.", table(("int8 gate", "value"), rows))


def limits(config: BundleConfig) -> str:
    """Return what a person says the model cannot do."""
    said = _said(config, "limits")
    return joined("## Limits", said) if said else ""


def provenance(config: BundleConfig) -> str:
    """Return when and with what the model was made."""
    source = config.provenance
    rows = [("made", source.created), ("commit", source.git_commit or "not recorded"), ("seed", str(source.seed))]
    rows += [(name, version) for name, version in source.versions.items()]
    return joined("## Provenance", table(("what", "value"), rows), "This card was generated from `config.json`.")


def _roots(label: str, parents: Mapping[str, list[str]]) -> list[str]:
    """Return the topmost labels above a label; itself where nothing stands above it."""
    above = parents.get(label)
    return [label] if not above else sorted({root for parent in above for root in _roots(parent, parents)})


def _listed(names: list[str]) -> str:
    return ", ".join(escape(name) for name in names)


def value(found: float | None) -> object:
    """Return a metric for a table."""
    return "–" if found is None else found


def _said(config: BundleConfig, key: str) -> str:
    return str(config.card.get(key) or "").strip()


def joined(*parts: str) -> str:
    """Return the parts that are not empty, as paragraphs."""
    return "\n\n".join(part for part in parts if part)
