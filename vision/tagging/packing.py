"""The end of a training run: the best checkpoint becomes a calibrated, measured, exported bundle.

Neighbours: `module` trained, `evaluation` measures, `shared.training` exports and draws, `shared.bundle` writes.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from shared.bundle.card import render_card
from shared.bundle.layout import ONNX, WEIGHTS, BundleConfig, OnnxExport, TagDecision
from shared.bundle.read import Bundle, Golden, sha256_of
from shared.bundle.write import bundle_version, write_bundle
from shared.runtime.cpu import session_options
from shared.training import plots
from shared.training.cli import Run, curve_tables
from shared.training.export import export_onnx, make_golden, read_signature
from shared.training.half import round_weights_fp16
from shared.training.provenance import describe_run
from shared.training.shipping import Int8Trial, choose_file, merits_gate
from vision.images import ImagePreprocessor
from vision.tagging.data import TaggingData, representative_batches
from vision.tagging.evaluation import INT8_MERITS, evaluate, most_wrong, validation_summary
from vision.tagging.judging import Judged, fit_decision, fit_scale, judge_network, scores_of, shift_logits
from vision.tagging.module import TaggingModule, source_views
from vision.tagging.network import last_layer
from vision.tagging.predictor import INPUT, OUTPUT
from vision.tagging.taxonomy import UNKNOWN

logger = logging.getLogger(__name__)

CONTACT_SHEET_PHOTOS = 24


def pack(module: TaggingModule, data: TaggingData, run: Run) -> Bundle:
    """Return the bundle of the run's best checkpoint; pictures of photos stay in the run's folder.

    Raises:
        DataError: there is no validation photo to calibrate on.
        ExportError: the exported network does not compute what the trained one does.
    """
    state = torch.load(run.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    network = module.network.eval().cpu().float().to(memory_format=torch.contiguous_format)
    if run.weights == "float16":
        round_weights_fp16(network)
    judged = {"val": judge_network(network, data.val_dataloader(), "validating")}
    if data.splits["test"]:
        judged["test"] = judge_network(network, data.test_dataloader(), "testing")
    temperature, shift = fit_scale(judged["val"], data, can_shift=isinstance(last_layer(network), nn.Linear))
    if shift:
        shift_logits(network, shift)
        if run.weights == "float16":
            round_weights_fp16(network)
        judged = {name: Judged(j.logits + np.float32(shift), j.targets, j.source_ids) for name, j in judged.items()}
    decision = fit_decision(judged["val"], temperature, data)
    thresholds = np.array([decision.thresholds[label] for label in data.labels])
    metrics = {
        split: evaluate(
            scores_of(found.logits, decision.temperature, data), found.targets, found.source_ids, source_views(data),
            data.hierarchy, thresholds,
        )
        for split, found in judged.items()
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        golden = _golden(network, data.preprocessor)
        onnx_path, export = _export(network, golden, data, run, Path(folder))
        weights = save(_stored(network, run.weights))
        return _write(module, data, run, decision, metrics, golden, onnx_path, export, weights, judged["val"])


def _export(network: nn.Module, golden: Golden, data: TaggingData, run: Run, folder: Path) -> tuple[Path, OnnxExport]:
    """Return the ONNX file that ships and what config.json says of it."""
    example = {name: torch.from_numpy(array) for name, array in golden.inputs.items()}
    path = folder / "fp32.onnx"
    export_onnx(network, example, path, outputs=[OUTPUT])
    trial = None
    if run.int8:
        calibration = ({INPUT: pixels} for pixels in representative_batches(data, data.preprocessor))
        gate = merits_gate(lambda file: _merits(file, data), run.max_int8_loss)
        trial = Int8Trial(gate, "static", calibration)
    return choose_file(path, golden, trial=trial, has_fp16_weights=run.weights == "float16")


def _merits(path: Path, data: TaggingData) -> dict[str, float]:
    """Return what int8 must keep of an ONNX file, on validation photos; temperature and thresholds do not matter."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), sess_options=session_options(2), providers=["CPUExecutionProvider"]
    )
    found = []
    for batch in tqdm(data.val_dataloader(), desc=f"judging {path.stem}", unit="batch"):
        logits = session.run([OUTPUT], {INPUT: batch["pixel_values"].numpy()})[0]
        found.append((logits, batch["targets"].nan_to_num(float(UNKNOWN)).numpy(), batch["source"].numpy()))
    logits, targets, source_ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
    scores = scores_of(logits, 1.0, data)
    summary = validation_summary(scores, targets.astype(np.int8), source_ids, source_views(data), data.hierarchy)
    return {name: summary[name] for name in INT8_MERITS if name in summary}


def _golden(network: nn.Module, preprocessor: ImagePreprocessor) -> Golden:
    """Return two drawn pictures with their logits; drawn, because photos have owners and a bundle travels."""
    side = preprocessor.size
    rise = np.linspace(0, 1, side)
    down, across = np.meshgrid(rise, rise, indexing="ij")
    disc = ((down - 0.5) ** 2 + (across - 0.5) ** 2 < 0.1)[..., None]
    sky = np.stack([across, down, 1 - down], axis=-1)
    stripes = np.stack([np.sin(18 * down) > 0, np.sin(12 * across) > 0, down > across], axis=-1)
    pictures = [np.where(disc, [0.9, 0.6, 0.1], sky), 0.2 + 0.6 * stripes]
    arrays = [preprocessor.normalise(Image.fromarray((255 * p).astype(np.uint8))) for p in pictures]
    return make_golden(network, {INPUT: torch.from_numpy(np.stack(arrays))}, outputs=[OUTPUT])


def _stored(network: nn.Module, weights: str) -> dict[str, torch.Tensor]:
    dtype = torch.float16 if weights == "float16" else torch.float32
    return {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }


def _write(
    module: TaggingModule,
    data: TaggingData,
    run: Run,
    decision: TagDecision,
    metrics: dict[str, dict[str, Any]],
    golden: Golden,
    onnx_path: Path,
    export: OnnxExport,
    weights: bytes,
    val: Judged,
) -> Bundle:
    shown = metrics.get("test", metrics["val"])
    pictures = {
        "reliability.png": plots.reliability_diagram(shown["reliability"]),
        "per_label.png": plots.per_label(shown["per_label"]),
    }
    if shown["confusions"]:
        pictures["confusions.png"] = plots.confusion_pairs(shown["confusions"])
    tables = curve_tables(run.folder)
    if tables:
        pictures["learning_curves.png"] = plots.learning_curves(*tables)
    provenance = describe_run(
        [source.summary() | data.shares for source in data.sources],
        seed=run.seed,
        start_weights=Path(module.hparams["weights"]).name,
        command=run.command,
    )
    config = BundleConfig(
        format_version=1,
        name=run.name,
        version=bundle_version(provenance.created, sha256_of(onnx_path)),
        task="tagging",
        architectures=[module.hparams["architecture"]],
        problem_type=data.problem_type,
        id2label=dict(enumerate(data.labels)),
        label2id={label: i for i, label in enumerate(data.labels)},
        label_parents=data.label_parents,
        signature=read_signature(onnx_path),
        decision=decision,
        onnx=export,
        provenance=provenance,
        metrics=metrics,
        card={key: value for key, value in asdict(run.card).items() if value is not None},
    )
    _report(run, data, decision, val, metrics)
    return write_bundle(
        run.output,
        config,
        files={ONNX: onnx_path, WEIGHTS: weights, **pictures},
        preprocessor=data.preprocessor.to_config(),
        golden=golden,
        card_text=render_card(config, plots=sorted(pictures)),
    )


def _report(run: Run, data: TaggingData, decision: TagDecision, val: Judged, metrics: dict[str, Any]) -> None:
    """Write what stays with the run: all metrics, what was left out of the data, and the most wrong photos."""
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (folder / "skipped.txt").write_text("\n".join(f"{s.name}: {line}" for s in data.sources for line in s.skipped))
    scores = scores_of(val.logits, decision.temperature, data)
    photos = []
    for row in most_wrong(scores, val.targets, CONTACT_SHEET_PHOTOS):
        example = data.splits["val"][row]
        given = np.argsort(-scores[row])[:3]
        photos.append((
            data.open_image(example),
            ", ".join(example.labels),
            ", ".join(f"{data.labels[i]} {scores[row, i]:.0%}" for i in given),
        ))  # fmt: skip
    (folder / "most_wrong.png").write_bytes(plots.contact_sheet(photos))
    logger.info("report in %s", folder)
