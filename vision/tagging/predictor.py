"""Photos to tags with a bundle and a runtime: preprocess, infer, decide. Torch-free.

`preprocess` and `decide` work on one photo, `infer` on a batch: a bad photo never fails others, and the service can
decode in threads, batch only the network and answer each caller separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import TagDecision
from shared.bundle.read import Bundle, read_arrays
from shared.errors import BundleError
from shared.runtime.protocol import Runtime
from vision.images import ImagePreprocessor
from vision.tagging.taxonomy import Hierarchy

INPUT = "pixel_values"
OUTPUT = "logits"
FEATURES = "features"
"""Outputs of the network; format 1 has no features."""
CENTRES_FILE = "centres.npz"


@dataclass(frozen=True)
class Tag:
    """One label with its calibrated probability."""

    label: str
    score: float
    parents: tuple[str, ...]
    """All ancestors, nearest first. Empty if there is no taxonomy."""


class TagPredictor:
    """Tags photos as the bundle says; holds no state between calls."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.preprocessor = ImagePreprocessor.from_config(bundle.preprocessor)
        self.labels = bundle.config.labels
        self.hierarchy = Hierarchy(self.labels, bundle.config.label_parents)
        decision = bundle.config.decision
        if not isinstance(decision, TagDecision) or bundle.config.problem_type is None:
            raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for tagging.")
        self._temperature = decision.temperature
        self.thresholds = [decision.thresholds[label] for label in self.labels]
        """The lowest score of a tag, for each label in the order of the logits."""
        self._thresholds = np.array(self.thresholds)
        self._abstain_below = decision.abstain_below
        self._centres = read_centres(bundle)
        self._problem_type = bundle.config.problem_type

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, size, size] from a decoded RGB image."""
        return self.preprocessor(image)

    def infer(self, batch: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Return each photo's row of the network's outputs: `logits` float32 [num_labels], and `features` [D] if any.

        Args:
            batch: what `preprocess` returned.
        """
        outputs = self.runtime.run({INPUT: np.stack(batch)})
        return [{name: values[row] for name, values in outputs.items()} for row in range(len(batch))]

    def is_foreign(self, outputs: Mapping[str, np.ndarray]) -> bool:
        """Whether a photo is unlike all that the model learned, so that it gets no tag."""
        if self._centres is None or self._abstain_below is None:
            return False
        return bool(likeness(outputs[FEATURES][np.newaxis], self._centres)[0] < self._abstain_below)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 [..., num_labels]; no child is more probable than a parent."""
        probabilities = probabilities_from_logits(logits, self._temperature, self._problem_type)
        return self.hierarchy.reconcile(probabilities)

    def given(self, outputs: Mapping[str, np.ndarray], scores: np.ndarray) -> np.ndarray:
        """Return bool [num_labels]: the tags at the labels' own thresholds; none of a photo that `is_foreign`.

        Args:
            outputs: an item of what `infer` returns.
            scores: what `scores` makes of its logits.
        """
        tags = self.hierarchy.given(scores, self._thresholds)
        return np.zeros_like(tags) if self.is_foreign(outputs) else tags

    def decide(
        self, outputs: Mapping[str, np.ndarray], *, top_k: int | None = None, min_score: float | None = None
    ) -> list[Tag]:
        """Return the tags of one photo, the most probable first and with all their ancestors; often there are none.

        Args:
            outputs: an item of what `infer` returns.
            top_k: most tags; None for all.
            min_score: the lowest score; None for each label's own threshold, fitted on validation data, and no tag for
                a photo that `is_foreign`.
        """
        scores = self.scores(outputs[OUTPUT])
        wanted = self.given(outputs, scores) if min_score is None else scores >= min_score
        order = np.argsort(-scores, kind="stable")
        chosen = [int(index) for index in order if wanted[index]][:top_k]
        return [Tag(self.labels[i], float(scores[i]), self.hierarchy.ancestors[i]) for i in chosen]

    def predict(self, images: Sequence[Image.Image], *, top_k: int | None = None) -> list[list[Tag]]:
        """Return the tags of each image; for `percept predict` and notebooks."""
        if not images:
            return []
        return [self.decide(row, top_k=top_k) for row in self.infer([self.preprocess(image) for image in images])]


def likeness(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return float32 [N]: the cosine between each photo's features and the nearest label's centre.

    Args:
        features: float32 [N, D].
        centres: float32 [num_labels, D], each of length 1, or 0 where a label has none.
    """
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return np.asarray((features / lengths @ centres.T).max(axis=1))


def read_centres(bundle: Bundle) -> np.ndarray | None:
    """Return the labels' centres, float32 [num_labels, D]; None of a bundle whose decision needs none.

    Raises:
        BundleError: they are missing, or do not fit the labels and the network.
    """
    decision = bundle.config.decision
    if not isinstance(decision, TagDecision) or decision.abstain_below is None:
        return None
    width = {spec.name: spec.shape[-1] for spec in bundle.config.signature.outputs}.get(FEATURES)
    centres = read_arrays(bundle.file(CENTRES_FILE)).get("centres")
    expected = (len(bundle.labels), width)
    if centres is None or centres.shape != expected or centres.dtype.kind != "f" or not np.isfinite(centres).all():
        came = "no array centres" if centres is None else f"{centres.dtype} {list(centres.shape)}"
        raise BundleError(f"{bundle.path}/{CENTRES_FILE} holds {came}; expected finite numbers {list(expected)}.")
    return centres.astype(np.float32)
