"""What `percept export --int8` needs of an intent classifier: the quality of an ONNX file.

Neighbours: `judging` judges utterances, `shared.training.reexport` decides.
"""

from __future__ import annotations

from pathlib import Path

from nlp.intent.data import IntentData
from nlp.intent.judging import accuracy, judge_runtime
from nlp.text import TextEncoder
from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.training.onnx_file import OnnxFile
from shared.training.reexport import Int8Trial


def int8_trial(bundle: Bundle, data: IntentData, max_loss: float) -> Int8Trial:
    """Return accuracy on validation utterances as quality; ranges are measured at each call, so nothing calibrates.

    Args:
        bundle: whose tokenizer and labels hold.
        data: what the bundle was trained on, with the same seed and shares, so that the splits are the same.
        max_loss: the most accuracy that int8 may lose.

    Raises:
        DataError: there is no validation utterance of an intent that the bundle knows.
    """
    data.read()
    known = bundle.config.label2id
    examples = [example for example in data.splits["val"] if example.label in known]
    if not examples:
        raise DataError("int8 needs validation utterances for its quality; there is none of an intent that is known.")
    encoder = TextEncoder.from_bundle(bundle)
    texts = [example.text for example in examples]
    targets = [known[example.label or ""] for example in examples]

    def quality(path: Path) -> float:
        runtime = OnnxFile(path, bundle.config.signature)
        return accuracy(judge_runtime(runtime, encoder, texts, targets, f"judging {path.stem}"))

    return Int8Trial(calibration=(), quality=quality, max_loss=max_loss, kind="dynamic")
