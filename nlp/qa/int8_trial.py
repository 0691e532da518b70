"""What `percept export --int8` needs of a question answerer: the quality of an ONNX file.

Neighbours: `judging` judges questions, `shared.training.shipping` decides.
"""

from __future__ import annotations

from pathlib import Path

from nlp.qa.data import AnswerData
from nlp.qa.judging import judge_runtime
from nlp.qa.windows import sample_batches
from nlp.text import TextEncoder
from shared.bundle.layout import AnswerDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError, DataError
from shared.training.onnx_file import OnnxFile
from shared.training.shipping import Int8Trial, quality_gate


def int8_trial(bundle: Bundle, data: AnswerData, max_loss: float) -> Int8Trial:
    """Return F1 at the best threshold on validation questions as quality; ranges are measured at each call.

    Args:
        bundle: whose tokenizer and decision hold.
        data: what the bundle was trained on, with the same seed and shares, so that the splits are the same.
        max_loss: the most F1 that int8 may lose.

    Raises:
        DataError: there is no validation question.
    """
    decision = bundle.config.decision
    if not isinstance(decision, AnswerDecision):
        raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for qa.")
    data.encoder_name = str(bundle.path)
    data.setup()
    examples = data.splits["val"]
    if not examples:
        raise DataError("int8 needs validation questions for its quality; there is none.")
    encoder = TextEncoder.from_bundle(bundle)
    longest = decision.max_answer_tokens

    def quality(path: Path) -> float:
        runtime = OnnxFile(path, bundle.config.signature)
        title = f"judging {path.stem}"
        return judge_runtime(runtime, encoder, examples, max_answer_tokens=longest, title=title).quality

    names = [spec.name for spec in bundle.config.signature.inputs]
    seen = sample_batches(data.splits["train"], encoder, names)
    return Int8Trial(quality_gate(quality, max_loss), calibration=seen)
