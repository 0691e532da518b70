"""The sections of a model card, each from config.json; a section without content is an empty text.

Neighbour: `card` puts them in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from shared.bundle.layout import ONNX, WEIGHTS, BundleConfig, TagDecision
from shared.bundle.markdown import escape, folded, number, table

SHOWN_LABELS = 40
SHOWN_CONFUSIONS = 15
FINGERPRINT_CHARACTERS = 12
SPLITS = {"val": "validation", "test": "test", "train": "training"}


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
        ("labels", len(config.labels)),
        ("ONNX", exported),
    ]
    overall = next(iter(measured_splits(config).items()), None)
    if overall:
        split, metrics = overall
        for key, name in (("top1", "top-1 accuracy"), ("map", "mean average precision"), ("ece", "calibration error")):
            if metrics["overall"].get(key) is not None:
                facts.append((f"{name} ({SPLITS.get(split, split)})", metrics["overall"][key]))
    rows = "\n".join(f"| {name} | {number(v) if isinstance(v, float) else escape(v)} |" for name, v in facts)
    return _joined(f"# {config.name}", _said(config, "summary"), f"| | |\n|:--|:--|\n{rows}")


def usage(config: BundleConfig) -> str:
    """Return how to call the model: over HTTP, and in Python with nothing but ONNX Runtime."""
    if config.task != "tagging":
        return ""
    last = "softmax" if config.problem_type == "single_label_classification" else "sigmoid"
    formula = {
        "sigmoid": "1 / (1 + np.exp(-logits))",
        "softmax": "np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
    }[last]
    return _joined(
        "## Use it",
        "As a service, with a demo page at http://localhost:3000/ui:",
        f"```bash\npercept serve {config.name}\ncurl -F image=@photo.jpg http://localhost:3000/v1/tag\n```",
        "On the command line: " + f"`percept predict {config.name} photo.jpg`.",
        "In Python, with `onnxruntime`, `numpy` and `pillow` alone, in this folder:",
        f"""```python
import json
import numpy as np
import onnxruntime
from PIL import Image

config = json.load(open("config.json"))
prepare = json.load(open("preprocessor_config.json"))
image = Image.open("photo.jpg").convert("RGB")
side = min(image.size) * prepare["crop_pct"]  # the middle square of the photo
left, top = (image.width - side) / 2, (image.height - side) / 2
filters = {{"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}}
box = (left, top, left + side, top + side)
image = image.resize((prepare["size"], prepare["size"]), filters[prepare["resample"]], box)
pixels = (np.asarray(image, dtype=np.float32) / 255 - prepare["mean"]) / prepare["std"]
pixels = pixels.transpose(2, 0, 1)[np.newaxis].astype(np.float32)  # [1, 3, size, size]

session = onnxruntime.InferenceSession("{ONNX}")
logits = session.run(["logits"], {{"pixel_values": pixels}})[0][0] / config["decision"]["temperature"]
probabilities = {formula}
scores = {{label: float(probabilities[int(i)]) for i, label in config["id2label"].items()}}
for _ in scores:  # a label holds at least as surely as what stands below it
    for label, parents in config["label_parents"].items():
        scores |= {{parent: max(scores[parent], scores[label]) for parent in parents}}
thresholds = config["decision"]["thresholds"]
tags = {{label: score for label, score in scores.items() if score >= thresholds[label]}}
print(sorted(tags.items(), key=lambda tag: -tag[1]))
```""",
        "`percept serve` and `percept predict` also turn photos upright as their EXIF data says.",
    )


def labels(config: BundleConfig) -> str:
    """Return all labels, by the topmost label above them where there is a taxonomy; folded where they are many."""
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
    return _joined("## Labels", f"{intro}.", shown)


def intended_use(config: BundleConfig) -> str:
    """Return what a person says the model is for, and what not."""
    not_for = _said(config, "not_for")
    parts = [_said(config, "intended_use"), f"**Not for:** {not_for}" if not_for else ""]
    return _joined("## Intended use", *parts) if any(parts) else ""


def training_data(config: BundleConfig) -> str:
    """Return one row a set of photos."""
    rows = [
        (
            entry.get("name"),
            entry.get("examples"),
            entry.get("labels"),
            entry.get("skipped"),
            entry.get("licence") or "not stated",
            entry.get("origin") or "not stated",
            str(entry.get("fingerprint") or "")[:FINGERPRINT_CHARACTERS],
        )
        for entry in config.provenance.dataset
    ]
    header = ("set", "photos", "labels", "left out", "licence", "origin", "fingerprint")
    note = (
        "Left out are broken files, exact duplicates and photos without a label. The fingerprint is the start of a "
        "SHA-256 over every photo and its labels; config.json has it whole."
    )
    return _joined("## Training data", table(header, rows), note) if rows else ""


def training(config: BundleConfig) -> str:
    """Return the recipe and the command."""
    source = config.provenance
    command = f"```bash\n{source.command}\n```" if source.command else ""
    start = f"Start weights: {escape(source.start_weights)}. Seed: {source.seed}."
    return _joined("## Training", _said(config, "recipe"), start, command)


def evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set, and over everything."""
    splits = measured_splits(config)
    keys = ("examples", "labels", "top1", "top5", "map", "parents_map", "macro_f1", "ece")
    rows = [
        (SPLITS.get(split, split), name, *(_value(values.get(key)) for key in keys))
        for split, metrics in splits.items()
        for name, values in metrics["sources"].items()
    ]
    if not rows:
        return ""
    over = ("examples", "map", "macro_f1", "micro_f1", "micro_precision", "micro_recall", "untagged")
    overall = [
        (SPLITS.get(split, split), *(_value(metrics["overall"].get(key)) for key in over))
        for split, metrics in splits.items()
    ]
    header = ("split", "set", "photos", "labels", "top-1", "top-5", "mAP", "mAP of parents", "macro F1", "ECE")
    total = ("split", "photos", "mAP", "macro F1", "micro F1", "precision", "recall", "without a tag")
    note = (
        "Each set's photos are judged on its own labels. mAP: mean average precision. F1, precision and recall: at "
        "each label's threshold. ECE: expected calibration error, 15 bins. Only what a set says of a photo counts."
    )
    if "test" in splits:
        note += (
            " Temperature and thresholds were fitted on the validation photos, so that the test rows are the ones to "
        )
        note += "trust."
    else:
        note += " Temperature and thresholds were fitted on these photos: new ones will do a little worse."
    return _joined("## Evaluation", table(header, rows), "Over all sets together:", table(total, overall), note)


def per_label(config: BundleConfig) -> str:
    """Return a folded table of every label, of the split that tells most."""
    for split, metrics in measured_splits(config).items():
        if metrics.get("per_label"):
            rows = [
                (
                    r["label"],
                    r["support"],
                    *(_value(r[key]) for key in ("ap", "f1", "precision", "recall", "threshold")),
                )
                for r in metrics["per_label"]
            ]
            header = ("label", "photos", "average precision", "F1", "precision", "recall", "threshold")
            name = SPLITS.get(split, split)
            return _joined(
                "### Labels one by one", folded(f"{len(rows):,} labels on {name} photos", table(header, rows))
            )
    return ""


def confusions(config: BundleConfig) -> str:
    """Return the most frequent confusions of the split that tells most."""
    for split, metrics in measured_splits(config).items():
        if metrics.get("confusions"):
            rows = [(r["label"], r["given"], r["source"], r["count"], r["of"]) for r in metrics["confusions"]]
            text = table(("label", "taken for", "set", "times", "of"), rows[:SHOWN_CONFUSIONS])
            return _joined("### Confusions", folded(f"The most frequent on {SPLITS.get(split, split)} photos", text))
    return ""


def calibration(config: BundleConfig) -> str:
    """Return what turns logits into scores, and how honest the scores are."""
    decision = config.decision
    if not isinstance(decision, TagDecision):
        return ""
    thresholds = sorted(decision.thresholds[label] for label in config.labels)
    text = (
        f"Logits are divided by a temperature of {decision.temperature:.3f}, fitted on validation photos, so that a "
        "score of 0.8 means: right 8 times of 10. A tag is given at its label's own threshold, that with the best F1 "
        f"on validation photos: {thresholds[0]:.2f} to {thresholds[-1]:.2f}, in the middle "
        f"{thresholds[len(thresholds) // 2]:.2f}."
    )
    found = [
        f"{number(metrics['overall']['ece'])} on {SPLITS.get(split, split)} photos"
        for split, metrics in measured_splits(config).items()
        if metrics["overall"].get("ece") is not None
    ]
    return _joined("## Calibration", text, f"Expected calibration error: {', '.join(found)}." if found else "")


def export_report(config: BundleConfig) -> str:
    """Return how near model.onnx is to the trained network, and what the int8 gate decided."""
    if config.onnx is None:
        return ""
    onnx = config.onnx
    text = (
        f"`{ONNX}` is {onnx.precision} (opset {onnx.opset}); its outputs differ from torch's by at most "
        f"{onnx.max_abs_difference:.2g}, allowed at start-up are {onnx.tolerance:.2g}. `{WEIGHTS}` holds the trained "
        "weights for GPUs and further training."
    )
    gate = onnx.int8_gate
    if gate is None:
        return _joined("## Export", text, "int8 was not tried.")
    verdict = "passed: int8 ships" if gate.get("passed") else "not passed: fp32 ships"
    rows = [(name.replace("_", " "), value) for name, value in gate.items() if name != "passed"]
    return _joined("## Export", text, f"int8 gate {verdict}.", table(("int8 gate", "value"), rows))


def limits(config: BundleConfig) -> str:
    """Return what a person says the model cannot do."""
    said = _said(config, "limits")
    return _joined("## Limits", said) if said else ""


def provenance(config: BundleConfig) -> str:
    """Return when and with what the model was made."""
    source = config.provenance
    rows = [("made", source.created), ("commit", source.git_commit or "not recorded"), ("seed", str(source.seed))]
    rows += [(name, version) for name, version in source.versions.items()]
    return _joined("## Provenance", table(("what", "value"), rows), "This card was generated from `config.json`.")


def _roots(label: str, parents: Mapping[str, list[str]]) -> list[str]:
    """Return the topmost labels above a label; itself where nothing stands above it."""
    above = parents.get(label)
    return [label] if not above else sorted({root for parent in above for root in _roots(parent, parents)})


def _listed(names: list[str]) -> str:
    return ", ".join(escape(name) for name in names)


def _value(value: float | None) -> object:
    return "–" if value is None else value


def _said(config: BundleConfig, key: str) -> str:
    return str(config.card.get(key) or "").strip()


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
