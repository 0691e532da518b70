"""What a tagger's card says that no other does: how to call it, its metrics, its calibration.

Neighbours: `card` puts the sections in order, `card_parts` has those that every task shares.
"""

from __future__ import annotations

from shared.bundle.card_parts import SPLITS, calibration_errors, joined, measured_splits, value
from shared.bundle.layout import ONNX, BundleConfig, TagDecision
from shared.bundle.markdown import table


def usage(config: BundleConfig) -> str:
    """Return how to call the model: over HTTP, and in Python with nothing but ONNX Runtime."""
    last = "softmax" if config.problem_type == "single_label_classification" else "sigmoid"
    formula = {
        "sigmoid": "1 / (1 + np.exp(-logits))",
        "softmax": "np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
    }[last]
    return joined(
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


def evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set, and over everything."""
    splits = measured_splits(config)
    keys = ("examples", "labels", "top1", "top5", "map", "parents_map", "macro_f1", "ece")
    rows = [
        (SPLITS.get(split, split), name, *(value(values.get(key)) for key in keys))
        for split, metrics in splits.items()
        for name, values in metrics["sources"].items()
    ]
    if not rows:
        return ""
    over = ("examples", "map", "macro_f1", "micro_f1", "micro_precision", "micro_recall", "untagged")
    overall = [
        (SPLITS.get(split, split), *(value(metrics["overall"].get(key)) for key in over))
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
    return joined("## Evaluation", table(header, rows), "Over all sets together:", table(total, overall), note)


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
    return joined("## Calibration", text, calibration_errors(config))
