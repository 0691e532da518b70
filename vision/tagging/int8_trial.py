"""What `percept export --int8` needs of a tagger: photos that set the ranges, and what an ONNX file must keep.

Neighbours: `scoring` judges photos, `shared.training.shipping` decides.
"""

from __future__ import annotations

from pathlib import Path

from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.training.onnx_file import OnnxFile
from shared.training.shipping import Int8Trial, merits_gate
from vision.images import ImagePreprocessor
from vision.tagging.data import TaggingData, representative_batches
from vision.tagging.evaluation import INT8_MERITS
from vision.tagging.predictor import INPUT, TagPredictor
from vision.tagging.scoring import measure, score_photos

BATCH = 32


def int8_trial(bundle: Bundle, data: TaggingData, max_loss: float) -> Int8Trial:
    """Return calibration batches from training photos and quality on validation photos.

    Args:
        bundle: whose preprocessing and decision hold.
        data: what the bundle was trained on, with the same seed and shares, so that the splits are the same.
        max_loss: the most of quality, and of mean average precision, that int8 may lose.

    Raises:
        DataError: there is no training or no validation photo.
    """
    data.setup()
    if not data.splits["train"] or not data.splits["val"]:
        raise DataError(
            "int8 needs training photos for its ranges and validation photos for its quality; one is empty."
        )

    def merits(path: Path) -> dict[str, float]:
        predictor = TagPredictor(bundle, OnnxFile(path, bundle.config.signature))
        found = measure(score_photos(predictor, data, "val", batch_size=BATCH), predictor, data)["overall"]
        return {"quality": float("nan")} | {name: found[name] for name in INT8_MERITS if found[name] is not None}

    preprocessor = ImagePreprocessor.from_config(bundle.preprocessor)
    calibration = ({INPUT: pixels} for pixels in representative_batches(data, preprocessor))
    return Int8Trial(merits_gate(merits, max_loss), "static", calibration)
