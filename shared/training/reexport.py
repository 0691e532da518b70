"""A bundle's model.onnx made anew from its weights, as `percept export` does; everything else of the bundle stays.

Neighbours: `export` and `int8` make the file, `shared.bundle.write` puts it in place in one step.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from shared.bundle.card import render_card
from shared.bundle.layout import CARD, CONFIG, GOLDEN, ONNX, PREPROCESSOR, WEIGHTS, BundleConfig, OnnxExport
from shared.bundle.read import Bundle, read_bundle, sha256_of
from shared.bundle.write import write_bundle
from shared.errors import BundleError, ExportError
from shared.runtime.golden import FP32_TOLERANCE
from shared.task import Task, resolve
from shared.training.export import export_onnx, make_golden, read_signature
from shared.training.shipping import Int8Trial, choose_file

_OWN = (CONFIG, GOLDEN, CARD, PREPROCESSOR, ONNX)

logger = logging.getLogger(__name__)


def reexport(path: Path, task: Task, *, int8: Int8Trial | None = None) -> Bundle:
    """Return the bundle with a new model.onnx, checked against torch and against the golden outputs.

    A missing or damaged model.onnx is no hindrance; the weights must be those that the bundle was written with. Weights
    that are stored as float16 stay so in the new file.

    Raises:
        BundleError: the weights are missing or not those of the bundle.
        ExportError: the network does not give the golden outputs, or the new file computes something else.
    """
    bundle = read_bundle(path, verify=False)
    _check_files(bundle)
    network = resolve(task.network)(bundle)
    outputs = list(bundle.golden.outputs)
    example = {spec.name: torch.from_numpy(bundle.golden.inputs[spec.name]) for spec in bundle.config.signature.inputs}
    found = make_golden(network, example, outputs=outputs)
    for name, golden in bundle.golden.outputs.items():
        difference = float(np.abs(found.outputs[name].astype(np.float64) - golden).max())
        if not difference <= FP32_TOLERANCE * max(1.0, float(np.abs(golden).max())):
            raise ExportError(
                f"{path}/{WEIGHTS} does not give the golden outputs: {name} differs by {difference:.3g}. The weights "
                "are not those that this bundle was made with: copy it again from where it was made."
            )
    dynamic = {
        spec.name: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in bundle.config.signature.inputs
    }
    with tempfile.TemporaryDirectory() as folder:
        fp32 = Path(folder) / "fp32.onnx"
        export_onnx(network, example, fp32, outputs=outputs, dynamic=dynamic)
        onnx_path, export = choose_file(fp32, bundle.golden, trial=int8, has_fp16_weights=_has_fp16_weights(bundle))
        if not export.max_abs_difference <= export.tolerance:
            raise ExportError(
                f"the new {ONNX} differs from the golden outputs by {export.max_abs_difference:.3g}, allowed are "
                f"{export.tolerance:.3g}. {path} stays as it was."
            )
        return _write(bundle, onnx_path, export)


def _check_files(bundle: Bundle) -> None:
    """model.onnx is made anew, so all but it must be what was written."""
    for name, artifact in bundle.config.files.items():
        if name != ONNX and sha256_of(bundle.file(name)) != artifact.sha256:
            raise BundleError(
                f"{bundle.path / name} is not the file that was written. Copy the bundle again from where it was made."
            )


def _has_fp16_weights(bundle: Bundle) -> bool:
    with safe_open(bundle.file(WEIGHTS), framework="numpy") as weights:
        return any(weights.get_slice(name).get_dtype() == "F16" for name in weights.keys())  # noqa: SIM118


def _write(bundle: Bundle, onnx_path: Path, export: OnnxExport) -> Bundle:
    changes: dict[str, Any] = {"onnx": export, "signature": read_signature(onnx_path)}
    config = BundleConfig.model_validate(bundle.config.model_copy(update=changes).model_dump())
    kept = {name: bundle.file(name) for name in bundle.config.files if name not in _OWN}
    return write_bundle(
        bundle.path,
        config,
        files={**kept, ONNX: onnx_path},
        preprocessor=bundle.preprocessor,
        golden=bundle.golden,
        card_text=render_card(config, plots=sorted(name for name in kept if name.endswith(".png"))),
    )
