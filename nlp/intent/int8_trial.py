"""What `percept export --int8` needs of an intent classifier: the gate that its training had.

Neighbours: `judging` judges utterances, `shared.training.shipping` decides.
"""

from __future__ import annotations

from pathlib import Path

from nlp.intent.data import IntentData
from nlp.intent.judging import int8_merits, judge_runtime
from nlp.text import TextEncoder
from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.training.onnx_file import OnnxFile
from shared.training.shipping import Int8Trial, merits_gate


def int8_trial(bundle: Bundle, data: IntentData, max_loss: float) -> Int8Trial:
    """Return a gate on accuracy and AUROC of validation utterances; ranges are measured at each call.

    Args:
        bundle: whose tokenizer and labels hold.
        data: what the bundle was trained on, with the same seed and shares, so that the splits are the same.
        max_loss: the most accuracy, and AUROC, that int8 may lose.

    Raises:
        DataError: there is no validation utterance of an intent that the bundle knows.
    """
    data.read()
    known = bundle.config.label2id
    examples = [example for example in data.splits["val"] if example.label is None or example.label in known]
    if all(example.label is None for example in examples):
        raise DataError("int8 needs validation utterances for its quality; there is none of an intent that is known.")
    encoder = TextEncoder.from_bundle(bundle)
    texts = [example.text for example in examples]
    targets = [-1 if example.label is None else known[example.label] for example in examples]

    def merits(path: Path) -> dict[str, float]:
        runtime = OnnxFile(path, bundle.config.signature)
        return int8_merits(judge_runtime(runtime, encoder, texts, targets, f"judging {path.stem}"))

    return Int8Trial(merits_gate(merits, max_loss))
