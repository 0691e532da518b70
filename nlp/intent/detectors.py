"""What tells utterances that belong to no intent: one number an utterance, higher where it speaks for none. numpy only.

A detector is a name and, for some, arrays that training fitted; they lie in the bundle as out_of_scope.npz.
Neighbours: `predictor` applies what `detecting` fitted.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.npyio import NpzFile

from shared.bundle.calibration import probabilities_from_logits
from shared.bundle.layout import IntentDecision
from shared.bundle.read import Bundle
from shared.errors import BundleError

DETECTOR_FILE = "out_of_scope.npz"
LOGITS = "logits"
FEATURES = "features"
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Detector:
    """One of `KINDS` with what it needs."""

    name: str
    arrays: Arrays = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise BundleError(f"there is no detector {self.name!r}; there is {', '.join(KINDS)}.")

    @property
    def needs_features(self) -> bool:
        return KINDS[self.name].needs_features

    def values(self, outputs: Arrays) -> np.ndarray:
        """Return float64 [N], higher where an utterance belongs to no intent.

        Args:
            outputs: `logits` [N, C] and, where `needs_features`, `features` [N, D].
        """
        return KINDS[self.name].values(self.arrays, outputs)

    def file(self) -> dict[str, bytes]:
        """Return name -> content of the bundle's file; nothing where the detector has no arrays."""
        if not self.arrays:
            return {}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(self.arrays))
        return {DETECTOR_FILE: buffer.getvalue()}

    def check(self, where: str, num_labels: int, width: int | None) -> None:
        """Refuse arrays of other names or shapes than the network's outputs need.

        Raises:
            BundleError: says what was expected and what came.
        """
        kind = KINDS[self.name]
        sizes = {"C": num_labels, "D": width}
        if kind.needs_features and width is None:
            raise BundleError(f"{where}: the detector {self.name} needs the output {FEATURES}, which is not there.")
        if set(self.arrays) != set(kind.shapes):
            raise BundleError(
                f"{where} holds {sorted(self.arrays)}; the detector {self.name} needs {sorted(kind.shapes)}."
            )
        for name, shape in kind.shapes.items():
            array = self.arrays[name]
            pairs = list(zip(shape, array.shape, strict=False))
            fits = array.ndim == len(shape) and all(sizes.setdefault(axis, size) == size for axis, size in pairs)
            if not fits or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise BundleError(
                    f"{where}: {name} is {array.dtype} {list(array.shape)}; expected finite numbers "
                    f"[{', '.join(shape)}] with {sizes}."
                )


def read_detector(bundle: Bundle) -> Detector:
    """Return the detector that the bundle's decision names.

    Raises:
        BundleError: there is no such detector, or its file is missing, broken or does not fit the network.
    """
    decision = bundle.config.decision
    if not isinstance(decision, IntentDecision):
        raise BundleError(f"{bundle.path} is a bundle for {bundle.config.task}; expected one for intent.")
    outputs = {spec.name: spec.shape for spec in bundle.config.signature.outputs}
    width = outputs.get(FEATURES, (None,))[-1]
    arrays: dict[str, np.ndarray] = {}
    if decision.detector in KINDS and KINDS[decision.detector].shapes:
        arrays = _read(bundle)
    detector = Detector(decision.detector, arrays)
    detector.check(f"{bundle.path}/{DETECTOR_FILE}", len(bundle.labels), width if isinstance(width, int) else None)
    return detector


def _read(bundle: Bundle) -> dict[str, np.ndarray]:
    path = bundle.file(DETECTOR_FILE)
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile,
            zlib.error) as error:  # fmt: skip
        raise BundleError(f"{path} cannot be read: {error}. Copy the bundle again from where it was made.") from error


def _max_softmax(_: Arrays, outputs: Arrays) -> np.ndarray:
    """Less the largest probability. Source: Hendrycks and Gimpel 2017, "A Baseline for Detecting …"."""
    best: np.ndarray = probabilities_from_logits(outputs[LOGITS], 1.0, "single_label_classification").max(axis=-1)
    return -best


def _energy(_: Arrays, outputs: Arrays) -> np.ndarray:
    """-log(sum(exp(logits))). Source: Liu et al. 2020, "Energy-based Out-of-distribution Detection", equation 4."""
    logits = np.asarray(outputs[LOGITS], dtype=np.float64)
    largest = logits.max(axis=-1, keepdims=True)
    return np.asarray(-(largest[..., 0] + np.log(np.exp(logits - largest).sum(axis=-1))))


@dataclass(frozen=True)
class _Kind:
    values: Callable[[Arrays, Arrays], np.ndarray]
    shapes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Array -> its axes: C labels, D features, others as they are."""
    needs_features: bool = False


KINDS = {
    "max_softmax": _Kind(_max_softmax),
    "energy": _Kind(_energy),
}
"""Name -> how it is computed and what it needs."""
