"""The model card: a bundle's README.md in Hugging Face's format, rendered from config.json alone.

Neighbours: `card_parts` writes the sections, `write` puts the text into the bundle. Generated, never edited.
Source of the front matter: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from shared.bundle import card_intent, card_qa, card_tagging
from shared.bundle.card_parts import (
    confusions,
    export_report,
    intended_use,
    labels,
    limits,
    measured_splits,
    per_label,
    provenance,
    title,
    training,
    training_data,
)
from shared.bundle.layout import BundleConfig

PIPELINES = {"tagging": "image-classification", "intent": "text-classification", "qa": "question-answering"}
"""Task -> pipeline_tag, as Hugging Face names them: https://huggingface.co/tasks"""
SECTIONS: dict[str, Any] = {"tagging": card_tagging, "intent": card_intent, "qa": card_qa}
"""Task -> the module with its own sections: usage, evaluation, calibration."""
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


def render_card(config: BundleConfig, *, plots: Sequence[str] = (), has_weights: bool = True) -> str:
    """Return README.md: YAML front matter with a model index, then what people ask of a model.

    Args:
        config: its `metrics` map splits to what the task's `evaluation.evaluate` returns; its `card` holds what a
            person says: summary, license, intended_use, not_for, limits, recipe, each optional.
        plots: names of pictures beside README.md; learning_curves, reliability, per_label and confusion stand in their
            sections, others at the end.
        has_weights: whether model.safetensors lies beside it; copies for serving on a CPU do without.
    """
    own = SECTIONS.get(config.task)
    pictures = {place: [name for name in plots if name.startswith(place)] for place in PLACES}
    rest = [name for name in plots if not name.startswith(PLACES)]
    front = yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        title(config),
        own.usage(config) if own else "",
        labels(config),
        intended_use(config),
        training_data(config),
        training(config),
        *_pictures(pictures["learning_curves"], "Learning curves"),
        own.evaluation(config) if own else "",
        per_label(config),
        *_pictures(pictures["per_label"], "The hardest and the easiest labels, in brackets their examples"),
        confusions(config),
        *_pictures(pictures["confusion"], "The most frequent confusions"),
        own.calibration(config) if own else "",
        *_pictures(pictures["reliability"], "Reliability: how often answers are right against their score"),
        export_report(config, has_weights=has_weights),
        limits(config),
        provenance(config),
        *_pictures(rest, "Picture"),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


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
