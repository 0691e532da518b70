"""Photos to tags with a bundle and a runtime: preprocess, infer, decide. Torch-free.

`preprocess` and `decide` work on one photo, `infer` on a batch: a bad photo never fails others, and the service can
decode in threads, batch only the network and answer each caller separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import TagDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError
from shared.runtime.protocol import Runtime
from vision.images import ImagePreprocessor
from vision.tagging.taxonomy import Hierarchy

INPUT = "pixel_values"
OUTPUT = "logits"


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
        self._problem_type = bundle.config.problem_type

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, size, size] from a decoded RGB image."""
        return self.preprocessor(image)

    def infer(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one float32 [num_labels] of logits for each preprocessed photo."""
        logits = self.runtime.run({INPUT: np.stack(batch)})[OUTPUT]  # [N, 3, H, W] -> [N, num_labels]
        return list(logits)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 [..., num_labels]; no child is more probable than a parent."""
        probabilities = probabilities_from_logits(logits, self._temperature, self._problem_type)
        return self.hierarchy.reconcile(probabilities)

    def decide(self, logits: np.ndarray, *, top_k: int | None = None, min_score: float | None = None) -> list[Tag]:
        """Return the tags of one photo, the most probable first and with all their ancestors; often there are none.

        Args:
            logits: float32 [num_labels].
            top_k: most tags; None for all.
            min_score: the lowest score; None for each label's own threshold, fitted on validation data.
        """
        scores = self.scores(logits)
        wanted = self.hierarchy.with_ancestors(scores >= self._thresholds) if min_score is None else scores >= min_score
        order = np.argsort(-scores, kind="stable")
        chosen = [int(index) for index in order if wanted[index]][:top_k]
        return [Tag(self.labels[i], float(scores[i]), self.hierarchy.ancestors[i]) for i in chosen]

    def predict(self, images: Sequence[Image.Image], *, top_k: int | None = None) -> list[list[Tag]]:
        """Return the tags of each image; for `percept predict` and notebooks."""
        if not images:
            return []
        return [self.decide(row, top_k=top_k) for row in self.infer([self.preprocess(image) for image in images])]
