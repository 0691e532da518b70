"""What a model said of its validation data, reference.npz: what later traffic is compared with."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from shared.bundle.read import Bundle, read_arrays
from shared.errors import BundleError

REFERENCE_FILE = "reference.npz"
MAX_ROWS = 2000
MAX_FEATURES = 500
_SEED = 0


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Reference:
    """Of the validation examples, or of as many as are kept, drawn at random."""

    confidence: np.ndarray
    """float32 [N]: of the best tag, intent or answer, whether it is given or not."""
    label_shares: np.ndarray
    """float32 [num_labels]: share of the examples that get a label; of answers one number, the share answered."""
    out_of_scope: np.ndarray | None = None
    """float32 [N]: out-of-scope scores, of tasks that have them."""
    features: np.ndarray | None = None
    """float16 [M, D], M at most N, of networks that give them."""
    without: np.ndarray | None = None
    """bool [N]: which get no tag; of taggers alone, and not of bundles that were made before it was kept."""

    def file(self) -> dict[str, bytes]:
        """Return the bundle's file as name -> content."""
        rng = np.random.default_rng(_SEED)
        rows = np.sort(rng.permutation(len(self.confidence))[:MAX_ROWS])
        arrays = {
            "confidence": self.confidence[rows].astype(np.float32),
            "label_shares": np.atleast_1d(self.label_shares).astype(np.float32),
        }
        if self.out_of_scope is not None:
            arrays["out_of_scope"] = self.out_of_scope[rows].astype(np.float32)
        if self.without is not None:
            arrays["without"] = self.without[rows].astype(np.bool_)
        if self.features is not None:
            drawn = np.sort(rng.permutation(len(self.features))[:MAX_FEATURES])
            arrays["features"] = self.features[drawn].astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return {REFERENCE_FILE: buffer.getvalue()}


def read_reference(bundle: Bundle) -> Reference | None:
    """Return a bundle's reference; None where it has none, as in format 1.

    Raises:
        BundleError: its file is broken.
    """
    if REFERENCE_FILE not in bundle.config.files:
        return None
    arrays = read_arrays(bundle.file(REFERENCE_FILE))
    try:
        return Reference(**arrays)
    except TypeError as error:
        raise BundleError(
            f"{bundle.path}/{REFERENCE_FILE} holds {sorted(arrays)}; expected confidence and label_shares, with "
            "out_of_scope, features and without where there are any. Copy the bundle again from where it was made."
        ) from error
