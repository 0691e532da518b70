"""Which ONNX file ships: int8 where its gate passes, else fp16 weights where they are stored so, else fp32.

Neighbours: `export` wrote the fp32 file, `int8` and `half` make the smaller ones; every task's packing and `reexport`
ask here, so that the rule is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shared.bundle.layout import OnnxExport
from shared.bundle.read import Golden
from shared.training.export import describe_export
from shared.training.half import store_weights_fp16
from shared.training.int8 import int8_gate, quantize_int8

logger = logging.getLogger(__name__)

GateRecord = Mapping[str, float | str | bool]


@dataclass(frozen=True)
class Int8Trial:
    """What int8 needs besides the network.

    Args:
        gate: from the fp32 and the int8 file to `int8.int8_gate`'s record of the decision.
        kind: as for `quantize_int8`.
        calibration: batches of real inputs that are not from the test split; "dynamic" can do without.
    """

    gate: Callable[[Path, Path], GateRecord]
    kind: Literal["static", "dynamic"] = "dynamic"
    calibration: Iterable[Mapping[str, np.ndarray]] = ()


def quality_gate(quality: Callable[[Path], float], max_loss: float) -> Callable[[Path, Path], GateRecord]:
    """Return the gate of a single number.

    Args:
        quality: of an ONNX file on validation data; more is better.
        max_loss: the most of it that int8 may lose.
    """
    return lambda fp32, small: int8_gate(quality(fp32), quality(small), max_loss=max_loss)


def choose_file(
    fp32: Path, golden: Golden, *, trial: Int8Trial | None, has_fp16_weights: bool = False
) -> tuple[Path, OnnxExport]:
    """Return the file that ships, beside `fp32`, and what config.json says of it.

    Args:
        fp32: as `export_onnx` wrote it.
        golden: as `make_golden` made it.
        trial: None where int8 is not wanted.
        has_fp16_weights: whether the bundle stores its weights so.

    Raises:
        ExportError: the file cannot be quantised or halved.
    """
    record = None
    if trial is not None:
        small = fp32.with_name("int8.onnx")
        quantize_int8(fp32, small, trial.calibration, kind=trial.kind)
        record = trial.gate(fp32, small)
        logger.info("int8 gate: %s", record)
        if record["passed"]:
            return small, describe_export(small, golden, int8_gate=record)
    if has_fp16_weights:
        half = fp32.with_name("fp16.onnx")
        store_weights_fp16(fp32, half)
        return half, describe_export(half, golden, int8_gate=record, has_fp16_weights=True)
    return fp32, describe_export(fp32, golden, int8_gate=record)
