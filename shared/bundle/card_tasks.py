"""What a model card says differently for each task: how to call the model, its metrics, its decision rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.bundle.layout import ONNX, AnswerDecision, BundleConfig, IntentDecision, TagDecision
from shared.bundle.markdown import number, or_dash, paragraphs, table

SPLITS = {"val": "validation", "test": "test", "train": "training"}
INTENT_COLUMNS = {
    "examples": "utterances",
    "labels": "intents",
    "out_of_scope": "out of scope",
    "accuracy": "accuracy",
    "top5": "top-5",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "auroc": "AUROC",
    "kept": "named",
    "out_of_scope_recall": "refused",
    "right": "right",
}
DETECTORS = {
    "max_softmax": "less the largest probability",
    "energy": "energy of the logits",
    "rejection": 'logit of "none", learned beside the intents, less the largest of theirs',
    "mahalanobis": "Mahalanobis distance to the nearest intent's centre",
    "knn": "cosine to the fifth nearest training utterance",
    "gaussian_process": "energy of logits flattened by a Gaussian process's variance (as in SNGP)",
}
CROSS_FITTED = {
    "ece": "ECE",
    "kept": "named of those with an intent",
    "out_of_scope_recall": "refused of those without",
    "right": "right",
}
ANSWER_COLUMNS = {
    "examples": "answerable",
    "unanswerable": "unanswerable",
    "exact": "exact match",
    "f1": "F1",
    "auroc": "AUROC",
    "f1_at_threshold": "F1 of all",
    "answered": "answered",
    "silent": "silent",
    "ece": "ECE",
}


@dataclass(frozen=True)
class TaskCard:
    """A task's own words and sections; a section without content is an empty text."""

    pipeline: str | None = None
    """pipeline_tag, as Hugging Face names the task: https://huggingface.co/tasks"""
    examples: str = "examples"
    usage: Callable[[BundleConfig], str] = lambda _: ""
    evaluation: Callable[[BundleConfig], str] = lambda _: ""
    calibration: Callable[[BundleConfig], str] = lambda _: ""


def of_task(config: BundleConfig) -> TaskCard:
    """Return what is special to the bundle's task."""
    return _TASKS.get(config.task, TaskCard())


def measured_splits(config: BundleConfig) -> dict[str, dict[str, Any]]:
    """Return split -> metrics for the splits that were measured set by set; the test split first."""
    found = {name: m for name, m in config.metrics.items() if isinstance(m, Mapping) and "sources" in m}
    return {name: dict(found[name]) for name in sorted(found, key=lambda name: (name != "test", name))}


def _tagger_usage(config: BundleConfig) -> str:
    """Return how to call the model: over HTTP, and in Python with nothing but ONNX Runtime."""
    last = "softmax" if config.problem_type == "single_label_classification" else "sigmoid"
    formula = {
        "sigmoid": "1 / (1 + np.exp(-logits))",
        "softmax": "np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
    }[last]
    return paragraphs(
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
for _ in scores:  # a parent is at least as probable as its children
    for label, parents in config["label_parents"].items():
        scores |= {{parent: max(scores[parent], scores[label]) for parent in parents}}
thresholds = config["decision"]["thresholds"]
tags = {{label: score for label, score in scores.items() if score >= thresholds[label]}}
print(sorted(tags.items(), key=lambda tag: -tag[1]))
```""",
        "`percept serve` and `percept predict` also turn photos upright as their EXIF data says.",
    )


def _tagger_evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set, and over everything."""
    splits = measured_splits(config)
    keys = ("examples", "labels", "top1", "top5", "map", "parents_map", "macro_f1", "ece")
    rows = [
        (SPLITS.get(split, split), name, *(or_dash(values.get(key)) for key in keys))
        for split, metrics in splits.items()
        for name, values in metrics["sources"].items()
    ]
    if not rows:
        return ""
    over = ("examples", "map", "macro_f1", "micro_f1", "micro_precision", "micro_recall", "untagged")
    overall = [
        (SPLITS.get(split, split), *(or_dash(metrics["overall"].get(key)) for key in over))
        for split, metrics in splits.items()
    ]
    header = ("split", "set", "photos", "labels", "top-1", "top-5", "mAP", "mAP of parents", "macro F1", "ECE")
    total = ("split", "photos", "mAP", "macro F1", "micro F1", "precision", "recall", "without a tag")
    note = (
        "Each set's photos are judged on its own labels. mAP: mean average precision. F1, precision and recall: at "
        "each label's threshold. ECE: expected calibration error, 15 bins. Only what a set says of a photo counts."
    )
    note += _trust(config, "Temperature and thresholds", "photos")
    return paragraphs("## Evaluation", table(header, rows), "Over all sets together:", table(total, overall), note)


def _tagger_calibration(config: BundleConfig) -> str:
    """Return what turns logits into scores, and how well calibrated these are."""
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
    return paragraphs("## Calibration", text, _calibration_errors(config))


def _intent_usage(config: BundleConfig) -> str:
    """Return how to call the model over HTTP and on the command line, and whether transformers loads it."""
    extra = config.model_extra or {}
    if extra.get("pooling") == "cls":
        transformers = (
            'With transformers, in this folder: `AutoModelForSequenceClassification.from_pretrained(".")`; the logits '
            "are the same, the confidences are theirs divided by the temperature below, and what belongs to no intent "
            "is not told."
        )
    else:
        transformers = (
            "transformers has no class for this network (its head reads the mean over the tokens, or it is no "
            "transformer), so that `AutoModelForSequenceClassification` refuses this folder. Train with "
            "`--model.pooling cls` for one that it loads."
        )
    return paragraphs(
        "## Use it",
        "As a service, with a demo page at http://localhost:3000/ui:",
        f"```bash\npercept serve {config.name}\n"
        "curl -H 'content-type: application/json' -d '{\"text\": \"where is my parcel?\"}' "
        "http://localhost:3000/v1/intent\n```",
        f'On the command line: `percept predict {config.name} "where is my parcel?"`.',
        transformers,
    )


def _intent_evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set and over everything, what the threshold is worth, and the detectors compared."""
    rows = _rows(config, INTENT_COLUMNS)
    if not rows:
        return ""
    note = (
        "Accuracy, top-5, F1 and ECE (15 bins): of utterances that belong to an intent, over the best intent, named or "
        "not. AUROC: that one that belongs to none scores higher than one that belongs. Named: share of those with an "
        "intent that get one; refused: share of the others that get none; right: all of them together."
    )
    note += _trust(config, "Temperature and threshold", "utterances")
    return paragraphs(
        "## Evaluation",
        table(("split", "set", *INTENT_COLUMNS.values()), rows),
        note,
        _cross_fitted(config),
        _detectors(config),
    )


def _intent_calibration(config: BundleConfig) -> str:
    """Return what turns logits into confidences, and what is out of scope."""
    decision = config.decision
    if not isinstance(decision, IntentDecision):
        return ""
    text = (
        f"Logits are divided by a temperature of {decision.temperature:.3f}, fitted on validation utterances, so that "
        "a confidence of 0.8 means: right 8 times of 10, among utterances that belong to an intent."
    )
    out = (
        f"**Out of scope.** The detector is `{decision.detector}`: {DETECTORS.get(decision.detector, 'its own')}. Its "
        "value becomes a score from 0 to 1, a probability if half of all requests belong to no intent. An intent is "
        f"named where 1 - score is at least {decision.abstain_below:.3f}: that lets "
        f"{100 * decision.acceptance:.0f} % of the validation utterances with an intent pass."
    )
    return paragraphs("## Calibration", text, _calibration_errors(config), out)


def _cross_fitted(config: BundleConfig) -> str:
    found = config.metrics.get("val", {}).get("cross_fitted")
    if not found:
        return ""
    text = ", ".join(f"{name} {number(found.get(key))}" for key, name in CROSS_FITTED.items())
    return (
        "**On utterances that nothing was fitted on:** temperature, scores and threshold fitted on one half of the "
        f"validation utterances and measured on the other, both ways, mean: {text}."
    )


def _detectors(config: BundleConfig) -> str:
    found = config.metrics.get("val", {}).get("detectors")
    if not found:
        return ""
    rows = [
        (name, DETECTORS.get(name, ""), or_dash(each.get("auroc")), or_dash(each.get("recall_at_acceptance")))
        for name, each in found.items()
    ]
    kept = getattr(config.decision, "acceptance", 0.95)
    header = ("detector", "what it is", "AUROC", f"refused while {100 * kept:.0f} % pass")
    return paragraphs(
        "Detectors on the validation utterances; the choice among them was made there too:", table(header, rows)
    )


def _answer_usage(config: BundleConfig) -> str:
    """Return how to call the model over HTTP, on the command line and with transformers."""
    return paragraphs(
        "## Use it",
        "As a service, with a demo page at http://localhost:3000/ui:",
        f"```bash\npercept serve {config.name}\n"
        'curl -H \'content-type: application/json\' -d \'{"question": "Who keeps the light?", '
        '"context": "The light on the rock is kept by Ada Brandt."}\' http://localhost:3000/v1/answer\n```',
        f'On the command line: `percept predict {config.name} "Who keeps the light?" --context page.txt`.',
        "With transformers, if `model.safetensors` is in this folder: "
        '`AutoModelForQuestionAnswering.from_pretrained(".")`.',
    )


def _answer_evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set and over everything."""
    rows = _rows(config, ANSWER_COLUMNS)
    if not rows:
        return ""
    note = (
        "Exact match and F1 as SQuAD defines them: of answerable questions, when an answer is always given. AUROC: "
        "that an answerable question scores higher than an unanswerable one. F1 of all: at the threshold, where "
        "silence is right for the unanswerable. Answered: share of the answerable that get an answer; silent: share of "
        "the unanswerable that get none. ECE: expected calibration error, 15 bins, over all questions."
    )
    note += _trust(config, "Temperature, shift and threshold", "questions")
    return paragraphs("## Evaluation", table(("split", "set", *ANSWER_COLUMNS.values()), rows), note)


def _answer_calibration(config: BundleConfig) -> str:
    """Return what turns logits into scores, and when no answer is given."""
    decision = config.decision
    if not isinstance(decision, AnswerDecision):
        return ""
    text = (
        "A span's margin is the sum of its start and end logits less that of no answer. Its score is "
        f"sigmoid((margin + {decision.shift:.3f}) / {decision.temperature:.3f}), fitted on validation questions, so "
        "that a score of 0.8 means: right 8 times of 10. An answer is given where the score is at least "
        f"{decision.abstain_below:.3f}, the best F1 over all validation questions, and is no longer than "
        f"{decision.max_answer_tokens} tokens; otherwise the passage holds none."
    )
    return paragraphs("## Calibration", text, _calibration_errors(config))


def _rows(config: BundleConfig, columns: Mapping[str, str]) -> list[tuple[object, ...]]:
    """Return a row per set of each split, and one over all its sets."""
    return [
        (SPLITS.get(split, split), name, *(or_dash(values.get(key)) for key in columns))
        for split, metrics in measured_splits(config).items()
        for name, values in [*metrics["sources"].items(), ("all sets", metrics["overall"])]
    ]


def _trust(config: BundleConfig, fitted: str, examples: str) -> str:
    """Return which of the rows to trust, and why."""
    if "test" in measured_splits(config):
        return f" {fitted} were fitted on the validation {examples}: trust the test rows."
    return f" {fitted} were fitted on these {examples}: new ones will do a little worse."


def _calibration_errors(config: BundleConfig) -> str:
    """Return the calibration error of each split in a sentence."""
    examples = of_task(config).examples
    found = [
        f"{number(metrics['overall']['ece'])} on {SPLITS.get(split, split)} {examples}"
        for split, metrics in measured_splits(config).items()
        if metrics["overall"].get("ece") is not None
    ]
    return f"Expected calibration error: {', '.join(found)}." if found else ""


_TASKS = {
    "tagging": TaskCard("image-classification", "photos", _tagger_usage, _tagger_evaluation, _tagger_calibration),
    "intent": TaskCard("text-classification", "utterances", _intent_usage, _intent_evaluation, _intent_calibration),
    "qa": TaskCard("question-answering", "questions", _answer_usage, _answer_evaluation, _answer_calibration),
}
