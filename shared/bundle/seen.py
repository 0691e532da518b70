"""Which examples a model was trained, chosen and tested on: splits.npz, 64 bits of a digest for each.

So `percept evaluate` knows what a model has seen, however the data is divided, named or sorted now. The digests tell
whether somebody who has an example is right that it was there; nothing can be read out of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

import numpy as np

from shared.bundle.read import Bundle, read_arrays
from shared.errors import BundleError

SPLITS_FILE = "splits.npz"
_SPLITS = ("test", "val", "train")
"""Of two that share an example the later one counts: what was trained on is trained on."""
_DIGITS = 16


def seen_file(digests: Mapping[str, Iterable[str]]) -> bytes:
    """Return the content of splits.npz.

    Args:
        digests: split -> hexadecimal digests of its examples, 64 bits or more each.
    """
    arrays = {split: np.array(sorted(set(map(_short, found))), dtype=np.uint64) for split, found in digests.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # noise does not compress
    return buffer.getvalue()


class Seen:
    """What a bundle has seen.

    Raises:
        BundleError: its file is broken.
    """

    def __init__(self, bundle: Bundle) -> None:
        arrays = read_arrays(bundle.file(SPLITS_FILE))
        if set(arrays) - set(_SPLITS) or any(array.dtype != np.uint64 or array.ndim != 1 for array in arrays.values()):
            raise BundleError(
                f"{bundle.path}/{SPLITS_FILE} must hold 64 bits for each example of {', '.join(_SPLITS)}; it holds "
                f"{sorted(arrays)}. Copy the bundle again from where it was made."
            )
        self._split_of = {digest: split for split in _SPLITS if split in arrays for digest in arrays[split].tolist()}

    def split_of(self, digest: str) -> str | None:
        """Return the split that an example was in; None if it was in none.

        Args:
            digest: of the example, as `seen_file` was given it.
        """
        return self._split_of.get(_short(digest))


def read_seen(bundle: Bundle) -> Seen | None:
    """Return what a bundle has seen; None where it does not say, as in format 1."""
    return Seen(bundle) if SPLITS_FILE in bundle.config.files else None


def _short(digest: str) -> int:
    """Return the first 64 bits of a digest.

    >>> _short("00000000000000ff7d3a")
    255
    """
    return int(digest[:_DIGITS], 16)
