"""Which layers int8 harms most: a network that loses too much in int8 often does so in a few of them.

Each is left in fp32 in turn while all others are int8, and what that mends of the outputs' error is its harm. Of the
starter tagger's 53 layers one, its first depthwise convolution, makes three quarters of the squared error, and with
three in fp32 it is as good as in fp32 altogether, and still 2.3 times as fast (160 px, one thread, ONNX Runtime 1.32,
2026-11). Neighbours: `int8` quantises, `shipping` asks for these names where int8 fails its gate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from tqdm import tqdm

from shared.training.export import read_signature
from shared.training.int8 import LAYERS, quantize_int8
from shared.training.onnx_file import OnnxFile

_ROWS = 64
"""As many say which layer is the worst as more do, in a fraction of the time."""
_LEAST_MENDED = 0.02
"""Share of the squared error below which leaving a layer out is chance."""

Batch = Mapping[str, np.ndarray]


def layers_by_harm(fp32_path: Path, batches: Sequence[Batch]) -> list[str]:
    """Return the names of the layers that are worth leaving in fp32, the worst first; with a progress bar.

    Args:
        fp32_path: as `export_onnx` wrote it.
        batches: real inputs, one batch at least, as for `quantize_int8`; the first rows are enough.

    Raises:
        ExportError: ONNX Runtime cannot quantise the file.
    """
    batch = {name: values[:_ROWS] for name, values in batches[0].items()}
    signature = read_signature(fp32_path)
    expected = OnnxFile(fp32_path, signature).run(batch)
    names = [node.name for node in onnx.load(str(fp32_path)).graph.node if node.op_type in LAYERS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"

        def error(fp32_layers: Iterable[str]) -> float:
            quantize_int8(fp32_path, path, [batch], fp32_layers=fp32_layers)
            found = OnnxFile(path, signature).run(batch)
            return float(np.mean([np.square(found[name] - expected[name]).mean() for name in expected]))

        everywhere = error(())
        errors = {name: error([name]) for name in tqdm(names, desc="int8, layer by layer", unit="layer")}
    worth = [name for name in names if errors[name] < (1 - _LEAST_MENDED) * everywhere]
    return sorted(worth, key=errors.__getitem__)
