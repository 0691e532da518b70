"""A bundle without the weights that only a GPU and further training read: what a CPU serves. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from shared.bundle.card import render_card
from shared.bundle.layout import CARD, CONFIG, GOLDEN, ONNX, PREPROCESSOR, WEIGHTS
from shared.bundle.read import Bundle
from shared.bundle.write import write_bundle

_WRITTEN_ANEW = (CONFIG, GOLDEN, CARD, PREPROCESSOR, ONNX)


def copy_without_weights(bundle: Bundle, path: Path) -> Bundle:
    """Return a copy of the bundle for serving on a CPU: all of it but model.safetensors.

    Raises:
        BundleError: there is no model.onnx, or `path` cannot be written.
    """
    bundle.file(ONNX)
    kept = {name: bundle.file(name) for name in bundle.config.files if name not in (*_WRITTEN_ANEW, WEIGHTS)}
    pictures = sorted(name for name in kept if name.endswith(".png"))
    return write_bundle(
        path,
        bundle.config,
        files={**kept, ONNX: bundle.file(ONNX)},
        preprocessor=bundle.preprocessor,
        golden=bundle.golden,
        card_text=render_card(bundle.config, plots=pictures, has_weights=False),
    )
