"""What `percept export --int8` needs of a tagger: photos that set the ranges, and the quality of an ONNX file.

Neighbours: `scoring` judges photos, `shared.training.shipping` decides.
"""

from __future__ import annotations

from pathlib import Path

from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.training.onnx_file import OnnxFile
from shared.training.shipping import Int8Trial, quality_gate
from vision.images import ImagePreprocessor
from vision.tagging.data import TaggingData, representative_batches
from vision.tagging.predictor import INPUT, TagPredictor
from vision.tagging.scoring import measure, score_photos

BATCH = 32


def int8_trial(bundle: Bundle, data: TaggingData, max_loss: float) -> Int8Trial:
    """Return calibration batches from training photos and quality on validation photos.

    Args:
        bundle: whose preprocessing and decision hold.
        data: what the bundle was trained on, with the same seed and shares, so that the splits are the same.
        max_loss: the most quality that int8 may lose.

    Raises:
        DataError: there is no training or no validation photo.
    """
    data.setup()
    if not data.splits["train"] or not data.splits["val"]:
        raise DataError(
            "int8 needs training photos for its ranges and validation photos for its quality; one is empty."
        )

    def quality(path: Path) -> float:
        predictor = TagPredictor(bundle, OnnxFile(path, bundle.config.signature))
        found = measure(score_photos(predictor, data, "val", batch_size=BATCH), predictor, data)["overall"]["quality"]
        return float("nan") if found is None else float(found)

    preprocessor = ImagePreprocessor.from_config(bundle.preprocessor)
    calibration = ({INPUT: pixels} for pixels in representative_batches(data, preprocessor))
    return Int8Trial(quality_gate(quality, max_loss), "static", calibration)
