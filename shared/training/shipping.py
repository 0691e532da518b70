"""Which ONNX file ships: int8 if it passes its gate, else fp16 weights if the bundle stores them so, else fp32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shared.bundle.layout import OnnxExport
from shared.bundle.read import Golden
from shared.training.export import describe_export, store_weights_fp16
from shared.training.int8 import int8_gate, layers_by_harm, quantize_int8

FP32_LAYERS = (1, 2, 3, 5, 8)
"""So many of the layers that int8 harms most are left in fp32, one count after the other, until the gate passes."""

logger = logging.getLogger(__name__)

GateRecord = Mapping[str, float | str | bool]


@dataclass(frozen=True)
class Int8Trial:
    """What int8 needs besides the network.

    Args:
        gate: from the fp32 and the int8 file to `int8_gate`'s record of the decision.
        kind: as for `quantize_int8`.
        calibration: batches of real inputs that are not from the test split; "dynamic" can do without.
    """

    gate: Callable[[Path, Path], GateRecord]
    kind: Literal["static", "dynamic"] = "dynamic"
    calibration: Iterable[Mapping[str, np.ndarray]] = ()


def merits_gate(merits: Callable[[Path], Mapping[str, float]], max_loss: float) -> Callable[[Path, Path], GateRecord]:
    """Return the gate of one or several numbers, each of which must hold.

    Args:
        merits: "quality" and others by name, of an ONNX file on validation data; more is better.
        max_loss: the most of each that int8 may lose.
    """
    measured: dict[Path, Mapping[str, float]] = {}

    def gate(fp32: Path, small: Path) -> GateRecord:
        if fp32 not in measured:  # there may be several int8 files to hold against the one
            measured[fp32] = merits(fp32)
        before, after = measured[fp32], merits(small)
        record = int8_gate(before["quality"], after["quality"], max_loss=max_loss)
        for name in before:
            record |= {f"{name}_fp32": before[name], f"{name}_int8": after[name]}
        # Not "a loss above the most": a loss that is not a number is no pass.
        record["passed"] = all(before[name] - after[name] <= max_loss for name in before)
        return record

    return gate


def choose_file(
    fp32: Path, golden: Golden, *, trial: Int8Trial | None, has_fp16_weights: bool = False
) -> tuple[Path, OnnxExport]:
    """Return the file that ships, beside `fp32`, and what config.json says of it.

    Where "static" int8 fails, the layers that it harms most stay in fp32, a few at a time and eight at most, until it
    passes; the record then names them.

    Args:
        fp32: as `export_onnx` wrote it.
        golden: as `make_golden` made it.
        trial: None if int8 is not wanted.
        has_fp16_weights: whether the bundle stores its weights so.

    Raises:
        ExportError: the file cannot be quantised or halved.
    """
    record = None
    if trial is not None:
        calibration = list(trial.calibration)
        for fp32_layers in _ways(fp32, calibration, trial.kind):
            small = fp32.with_name(f"int8-{len(fp32_layers)}.onnx")
            quantize_int8(fp32, small, calibration, kind=trial.kind, fp32_layers=fp32_layers)
            record = dict(trial.gate(fp32, small))
            if fp32_layers:
                record["layers_in_fp32"] = ", ".join(fp32_layers)
            logger.info("int8 gate: %s", record)
            if record["passed"]:
                return small, describe_export(small, golden, int8_gate=record)
    if has_fp16_weights:
        half = fp32.with_name("fp16.onnx")
        store_weights_fp16(fp32, half)
        return half, describe_export(half, golden, int8_gate=record, has_fp16_weights=True)
    return fp32, describe_export(fp32, golden, int8_gate=record)


def _ways(
    fp32: Path, calibration: list[Mapping[str, np.ndarray]], kind: Literal["static", "dynamic"]
) -> Iterator[tuple[str, ...]]:
    """Yield the layers that stay in fp32, for each int8 file that is tried."""
    yield ()
    if kind == "static":
        worst = layers_by_harm(fp32, calibration)
        for count in FP32_LAYERS:
            if count <= len(worst):
                yield tuple(worst[:count])
