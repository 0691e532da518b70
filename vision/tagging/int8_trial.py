"""What `percept export --int8` needs of a tagger: photos that set the ranges, and the quality of an ONNX file.

Neighbours: `scoring` judges photos, `shared.training.reexport` decides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.runtime.cpu import session_options
from shared.runtime.protocol import Tensors
from shared.training.reexport import Int8Trial
from vision.images import ImagePreprocessor
from vision.tagging.data import TaggingData, representative_batches
from vision.tagging.predictor import INPUT, TagPredictor
from vision.tagging.scoring import measure, score_photos

BATCH = 32


class OnnxFile:
    """A Runtime of an ONNX file that is in no bundle yet."""

    device = "cpu"

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self.inputs = bundle.config.signature.inputs
        self.outputs = bundle.config.signature.outputs
        self.description = f"ONNX Runtime {onnxruntime.__version__} on {path.name}"
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=session_options(1), providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Free the session's memory."""
        self.__dict__.pop("_session", None)


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
        predictor = TagPredictor(bundle, OnnxFile(path, bundle))
        found = measure(score_photos(predictor, data, "val", batch_size=BATCH), predictor, data)["overall"]["quality"]
        return float("nan") if found is None else float(found)

    preprocessor = ImagePreprocessor.from_config(bundle.preprocessor)
    calibration = ({INPUT: pixels} for pixels in representative_batches(data, preprocessor))
    return Int8Trial(calibration=calibration, quality=quality, max_loss=max_loss)
